package registry

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// challengeFilter reduces the WWW-Authenticate fields of an answer to the one challenge that is answered. oras's client
// reads only the first, which fails for a registry that offers Negotiate before Bearer or Basic.
type challengeFilter struct{ next http.RoundTripper }

// RoundTrip is part of http.RoundTripper.
func (c *challengeFilter) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := c.next.RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusUnauthorized {
		return response, err
	}
	if chosen := chooseChallenge(response.Header.Values("WWW-Authenticate")); chosen != "" {
		response.Header.Set("WWW-Authenticate", chosen)
	}
	return response, nil
}

// chooseChallenge prefers Bearer, which works for anonymous callers too, to Basic; "" where there is neither.
func chooseChallenge(fields []string) string {
	challenges := splitChallenges(fields)
	for _, scheme := range []string{"bearer", "basic"} {
		for _, challenge := range challenges {
			if name, _, _ := strings.Cut(challenge, " "); strings.EqualFold(name, scheme) {
				return challenge
			}
		}
	}
	return ""
}

// newChallenge matches the start of a challenge, its scheme. The name of a parameter has an equals sign after it.
var newChallenge = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+(\\s+[^\\s=]|\\s*$)")

// splitChallenges separates the challenges in header fields. Both challenges and their parameters are separated by commas
// (RFC 9110, section 11.6.1). It takes linear time, since a registry may send 256 KiB of commas.
func splitChallenges(fields []string) (challenges []string) {
	for _, field := range fields {
		items, begun := splitList(field), -1
		for i, item := range items {
			if !newChallenge.MatchString(item) {
				continue
			}
			if begun >= 0 {
				challenges = append(challenges, strings.Join(items[begun:i], ","))
			}
			begun = i
		}
		if begun >= 0 {
			challenges = append(challenges, strings.Join(items[begun:], ","))
		}
	}
	return challenges
}

// splitList splits a list at the commas outside of quotes.
func splitList(field string) (items []string) {
	start, quoted := 0, false
	for i := 0; i < len(field); i++ {
		switch c := field[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			items = append(items, strings.TrimSpace(field[start:i]))
			start = i + 1
		}
	}
	return append(items, strings.TrimSpace(field[start:]))
}

// credentialGuard refuses to send credentials over plain HTTP, except to hosts that are configured for it. Requests with a
// body count as well: only those for tokens have one, and it holds credentials.
type credentialGuard struct {
	next        http.RoundTripper
	speaksPlain func(host string) bool
}

// RoundTrip is part of http.RoundTripper.
func (s *credentialGuard) RoundTrip(request *http.Request) (*http.Response, error) {
	secret := request.Header.Get("Authorization") != "" || request.Body != nil && request.Body != http.NoBody
	if !secret || request.URL.Scheme == "https" || s.speaksPlain(request.URL.Host) {
		return s.next.RoundTrip(request)
	}
	if request.Body != nil {
		_ = request.Body.Close() // http.RoundTripper demands it, on errors too
	}
	return nil, &credentialError{fmt.Errorf("no credentials are sent over plain HTTP to %s; name it in --insecureRegistries if that is wanted", request.URL.Host)}
}
