package kube

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// claims are what a JWT says of itself. Nothing of it is verified: it can stand against a token, never for it.
type claims struct {
	Subject  string          `json:"sub"`
	Audience json.RawMessage `json:"aud"` // a text, or a list of them
	Expires  *float64        `json:"exp"` // seconds (RFC 7519, section 2, NumericDate); nil for never
}

// claimsOf reads a token's claims; false where it is no JWT, as tokens of other kinds are that an API server accepts.
func claimsOf(token string) (claims, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims{}, false
	}
	var c claims
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	return c, err == nil && json.Unmarshal(payload, &c) == nil
}

// ofServiceAccount tells the tokens that the API server issues itself, so that it is known how it judges them.
func (c claims) ofServiceAccount() bool {
	return strings.HasPrefix(c.Subject, "system:serviceaccount:")
}

// names tells whether the token is for one of some audiences. The older kind of token names none, and is for the API
// server's own.
func (c claims) names(audiences []string) bool {
	var one string
	var several []string
	switch {
	case len(c.Audience) == 0 || json.Unmarshal(c.Audience, &several) == nil && len(several) == 0:
		return true
	case len(several) > 0:
		return slices.ContainsFunc(several, func(a string) bool { return slices.Contains(audiences, a) })
	case json.Unmarshal(c.Audience, &one) == nil:
		return slices.Contains(audiences, one)
	}
	return true // it is for the API server to say what that means
}

// expiresIn tells how long a token lasts; for as long as we care where it does not say.
func (c claims) expiresIn(now time.Time) time.Duration {
	if c.Expires == nil {
		return acceptedFor
	}
	seconds := *c.Expires - float64(now.Unix())
	return time.Duration(max(0, min(seconds, acceptedFor.Seconds()))) * time.Second // whole seconds, downwards
}

// expiredFor is how long ago a token must have expired to be refused unasked: the API server's clock may be another.
const expiredFor = 5 * time.Minute

// hopeless refuses a service account's token that the API server would refuse for what it says of itself.
func (o ReviewerOptions) hopeless(token string, now time.Time) error {
	c, ok := claimsOf(token)
	switch {
	case !ok || !c.ofServiceAccount():
		return nil
	case !c.names(o.Audiences):
		return fmt.Errorf("%w: the token is not for the audience %s", ErrUnauthenticated, strings.Join(o.Audiences, ", "))
	case c.Expires != nil && *c.Expires < float64(now.Add(-expiredFor).Unix()):
		return fmt.Errorf("%w: the token has expired", ErrUnauthenticated)
	}
	return nil
}

// likely tells a token that says it is an allowed service account's.
func (o ReviewerOptions) likely(token string) bool {
	c, ok := claimsOf(token)
	return ok && c.ofServiceAccount() && o.allows(c.Subject)
}
