package registry

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// challenged leaves of a registry's challenges the one that is answered. There may be several, in several fields or in
// one, and the client beneath which it stands reads the first: a registry that offers Negotiate before what everybody
// speaks would not be answered at all.
type challenged struct{ next http.RoundTripper }

// RoundTrip is part of http.RoundTripper.
func (c *challenged) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := c.next.RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusUnauthorized {
		return response, err
	}
	if chosen := chooseChallenge(response.Header.Values("WWW-Authenticate")); chosen != "" {
		response.Header.Set("WWW-Authenticate", chosen)
	}
	return response, nil
}

// chooseChallenge prefers Bearer, which there may be for anonymous callers too, to Basic; "" where there is neither.
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

// newChallenge matches what begins a challenge, a scheme; a parameter's name has an equals sign behind it.
var newChallenge = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+(\\s+[^\\s=]|\\s*$)")

// splitChallenges takes the challenges apart, which are listed with commas, as their parameters are (RFC 9110, section
// 11.6.1). It takes time in proportion to their length: a registry may send a quarter of a megabyte of commas.
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

// splitList parts a list at the commas that are not in quotes.
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

// secretive sends no credentials over plain HTTP, where who sits on the network reads them, except to hosts that are
// configured for that. The only requests with a body are those for tokens, which have credentials in it.
type secretive struct {
	next        http.RoundTripper
	speaksPlain func(host string) bool
}

// RoundTrip is part of http.RoundTripper.
func (s *secretive) RoundTrip(request *http.Request) (*http.Response, error) {
	secret := request.Header.Get("Authorization") != "" || request.Body != nil && request.Body != http.NoBody
	if !secret || request.URL.Scheme == "https" || s.speaksPlain(request.URL.Host) {
		return s.next.RoundTrip(request)
	}
	if request.Body != nil {
		_ = request.Body.Close() // a RoundTripper does, also when it fails
	}
	return nil, &credentialError{fmt.Errorf("no credentials are sent over plain HTTP to %s; name it in --insecureRegistries if that is wanted", request.URL.Host)}
}
