package kube

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
)

// TestCallers accepts the tokens of the Secret, and reviews others with the API server.
func TestCallers(t *testing.T) {
	good, before := strings.Repeat("0123456789", 3), strings.Repeat("abcdefghij", 3)
	both := map[string]string{"token": good, "previous": before}
	tests := map[string]struct {
		secret map[string]string // nil for none
		header string
		want   error
	}{
		"the token":                          {both, "Bearer " + good, nil},
		"the token before":                   {both, "Bearer " + before, nil},
		"the next token":                     {map[string]string{"token": good, "next": before}, "Bearer " + before, nil},
		"the next token beside the previous": {map[string]string{"token": good, "previous": strings.ToUpper(before), "next": before}, "Bearer " + before, ErrUnauthenticated},
		"a token beside a weak one":          {map[string]string{"token": "secret", "previous": before}, "Bearer " + before, ErrUnauthenticated},
		"a repeated word in the Secret":      {map[string]string{"token": strings.Repeat("changeme", 8)}, "Bearer " + strings.Repeat("changeme", 8), ErrUnauthenticated},
		"the token alone":                    {map[string]string{"token": good}, "bearer " + good, nil},
		"a token that is no more":            {map[string]string{"token": good}, "Bearer " + before, ErrUnauthenticated},
		"the beginning of a token":           {both, "Bearer " + good[:29], ErrUnauthenticated},
		"more than the token":                {both, "Bearer " + good + "0", ErrUnauthenticated},
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
			synctest.Test(t, func(t *testing.T) {
				api := kubetest.Start(t)
				api.Review = func(spec kubetest.Object) kubetest.Object {
					switch spec["token"] {
					case "kyverno":
						return accepted(kyverno, audience)
					case "mallory":
						return accepted("system:serviceaccount:default:mallory", audience)
					}
					return map[string]any{"error": "invalid bearer token"}
				}
				if test.secret != nil {
					api.Put(kubetest.SecretsPath, "caller", kubetest.SecretJSON("Opaque", test.secret))
				}
				log, client := &kubetest.Log{}, api.Client(t)
				secret := NewCallerSecret(client, "ours", "caller", log.Logger())
				kubetest.Run(t, secret.Watch)
				kubetest.Within(t, time.Second, "listed", secret.Synced)
				user, err := NewCallers(secret, NewReviewer(client, ours())).Review(t.Context(), test.header)
				if !errors.Is(err, test.want) || (test.want == nil) != (err == nil) || (err == nil) == (user == "") {
					t.Errorf("%q, %v; want %v", user, err, test.want)
				}
				for _, token := range test.secret {
					if said := log.String(); len(token) > 8 && (strings.Contains(said, token) || err != nil && strings.Contains(err.Error(), token)) {
						t.Errorf("the token is logged or in the error: %s %v", said, err)
					}
				}
			})
		})
	}
}

// TestCallerSecretFollowsItsChanges replaces the token, and deletes the Secret.
func TestCallerSecretFollowsItsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := kubetest.Start(t)
		first, second := strings.Repeat("0123456789", 3), strings.Repeat("abcdefghij", 3)
		secret := NewCallerSecret(api.Client(t), "ours", "caller", (&kubetest.Log{}).Logger())
		kubetest.Run(t, secret.Watch)
		kubetest.Within(t, time.Second, "listed", secret.Synced)
		if secret.contains(first) || secret.contains("") {
			t.Error("a Secret that is not there contains a token")
		}
		api.Put(kubetest.SecretsPath, "caller", kubetest.SecretJSON("Opaque", map[string]string{"token": first}))
		kubetest.Within(t, time.Second, "created", func() bool { return secret.contains(first) })
		api.Put(kubetest.SecretsPath, "caller", kubetest.SecretJSON("Opaque", map[string]string{"token": second, "previous": first}))
		kubetest.Within(t, time.Second, "replaced", func() bool { return secret.contains(first) && secret.contains(second) })
		api.Put(kubetest.SecretsPath, "caller", kubetest.SecretJSON("Opaque", map[string]string{"token": second}))
		kubetest.Within(t, time.Second, "forgotten", func() bool { return !secret.contains(first) && secret.contains(second) })
		api.Remove(kubetest.SecretsPath + "/" + "caller")
		kubetest.Within(t, time.Second, "deleted", func() bool { return !secret.contains(second) })
	})
}
