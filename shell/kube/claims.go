package kube

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// claims are unverified claims of a JWT. They may be a reason to refuse a token, never one to accept it.
type claims struct {
	Subject  string          `json:"sub"`
	Audience json.RawMessage `json:"aud"` // a text, or a list of them
	Expires  *float64        `json:"exp"` // seconds (RFC 7519, section 2, NumericDate); nil for never
}

// claimsOf reads a token's claims; false for a token that is no JWT, which an API server may accept nevertheless.
func claimsOf(token string) (claims, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims{}, false
	}
	var c claims
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	return c, err == nil && json.Unmarshal(payload, &c) == nil
}

// ofServiceAccount reports whether the API server issued the token itself, so that its rules for the token are known.
func (c claims) ofServiceAccount() bool {
	return strings.HasPrefix(c.Subject, "system:serviceaccount:")
}

// names reports whether the token is for one of some audiences. A legacy token names no audience; whether it is accepted is
// left to the API server.
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
	return true // an audience of another type is left to the API server
}

// expiresIn gives how long a token is valid from now on, at most acceptedFor.
func (c claims) expiresIn(now time.Time) time.Duration {
	if c.Expires == nil {
		return acceptedFor
	}
	seconds := *c.Expires - float64(now.Unix())
	return time.Duration(max(0, min(seconds, acceptedFor.Seconds()))) * time.Second // whole seconds, downwards
}

// expiredFor is how long ago a token must have expired to be rejected unasked, as clocks differ.
const expiredFor = 5 * time.Minute

// rejectUnasked gives the error for a service account's token that the API server would refuse for its audience or expiry, or
// nil.
func (o ReviewerOptions) rejectUnasked(token string, now time.Time) error {
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

// claimsAllowed reports whether a token claims to be that of an allowed service account.
func (o ReviewerOptions) claimsAllowed(token string) bool {
	c, ok := claimsOf(token)
	return ok && c.ofServiceAccount() && o.allows(c.Subject)
}
