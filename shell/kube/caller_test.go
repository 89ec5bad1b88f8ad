package kube

import (
	"errors"
	"strings"
	"testing"
)

// TestCallers lets in by the Secret's tokens, and else by the API server's word.
func TestCallers(t *testing.T) {
	good, before := strings.Repeat("g", 32), strings.Repeat("b", 32)
	both := map[string]string{"token": good, "previous": before}
	tests := map[string]struct {
		secret map[string]string // nil for none
		header string
		want   error
	}{
		"the token":                          {both, "Bearer " + good, nil},
		"the token before":                   {both, "Bearer " + before, nil},
		"the token alone":                    {map[string]string{"token": good}, "bearer " + good, nil},
		"a token that is no more":            {map[string]string{"token": good}, "Bearer " + before, ErrUnauthenticated},
		"the beginning of a token":           {both, "Bearer " + good[:31], ErrUnauthenticated},
		"more than the token":                {both, "Bearer " + good + "g", ErrUnauthenticated},
		"a token of another scheme":          {both, "Basic " + good, ErrUnauthenticated},
		"no token":                           {both, "", ErrUnauthenticated},
		"an account's token beside it":       {both, "Bearer kyverno", nil},
		"an account's token without it":      {nil, "Bearer kyverno", nil},
		"another account's token":            {both, "Bearer mallory", ErrForbidden},
		"any token where there is no Secret": {nil, "Bearer " + good, ErrUnauthenticated},
		"an empty token in the Secret":       {map[string]string{"token": ""}, "Bearer ", ErrUnauthenticated},
		"a short token in the Secret":        {map[string]string{"token": "secret"}, "Bearer secret", ErrUnauthenticated},
		"a line break in the Secret's token": {map[string]string{"token": good + "\n"}, "Bearer " + good, ErrUnauthenticated},
		"a token under another key":          {map[string]string{"password": good}, "Bearer " + good, ErrUnauthenticated},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			api := startAPI(t)
			api.review = func(spec map[string]any) map[string]any {
				switch spec["token"] {
				case "kyverno":
					return accepted(kyverno, audience)
				case "mallory":
					return accepted("system:serviceaccount:default:mallory", audience)
				}
				return map[string]any{"error": "invalid bearer token"}
			}
			if test.secret != nil {
				api.put(secretsPath, "caller", secretJSON("Opaque", test.secret))
			}
			log, client := &record{}, api.client(t)
			secret := NewCallerSecret(client, "ours", "caller", log.logger())
			running(t, secret.Watch)
			eventually(t, "listed", secret.Synced)
			user, err := NewCallers(secret, NewReviewer(client, ours())).Review(t.Context(), test.header)
			if !errors.Is(err, test.want) || (test.want == nil) != (err == nil) || (err == nil) == (user == "") {
				t.Errorf("%q, %v; want %v", user, err, test.want)
			}
			for _, token := range test.secret {
				if said := log.String(); len(token) > 8 && (strings.Contains(said, token) || err != nil && strings.Contains(err.Error(), token)) {
					t.Errorf("the token is told: %s %v", said, err)
				}
			}
		})
	}
}

// TestTheCallerSecretIsFollowed as its token is replaced, and when it is deleted.
func TestTheCallerSecretIsFollowed(t *testing.T) {
	api := startAPI(t)
	first, second := strings.Repeat("1", 32), strings.Repeat("2", 32)
	secret := NewCallerSecret(api.client(t), "ours", "caller", (&record{}).logger())
	running(t, secret.Watch)
	eventually(t, "listed", secret.Synced)
	if secret.knows(first) || secret.knows("") {
		t.Error("a Secret that is not there knows a token")
	}
	api.put(secretsPath, "caller", secretJSON("Opaque", map[string]string{"token": first}))
	eventually(t, "created", func() bool { return secret.knows(first) })
	api.put(secretsPath, "caller", secretJSON("Opaque", map[string]string{"token": second, "previous": first}))
	eventually(t, "replaced", func() bool { return secret.knows(first) && secret.knows(second) })
	api.put(secretsPath, "caller", secretJSON("Opaque", map[string]string{"token": second}))
	eventually(t, "forgotten", func() bool { return !secret.knows(first) && secret.knows(second) })
	api.remove(secretsPath, "caller")
	eventually(t, "deleted", func() bool { return !secret.knows(second) })
}
