package registry

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// office is a registry, and the endpoint of its tokens, that notes what it is asked, in order.
type office struct {
	mu    sync.Mutex
	asked []string // method and path, and the secret that came along

	challenge func(host, repository string) string              // "" where the repository wants no proof
	grants    func(endpoint, repository, token string) int      // status for who has a proof; 200 for who is let in
	tokens    func(endpoint string, w http.ResponseWriter) bool // answers for an endpoint; not ok where it gives a token
}

func (o *office) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secret := r.Header.Get("Authorization")
	if name, _, ok := r.BasicAuth(); ok {
		secret = name
	}
	o.mu.Lock()
	o.asked = append(o.asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+secret))
	o.mu.Unlock()
	if strings.HasPrefix(r.URL.Path, "/token") {
		if o.tokens == nil || !o.tokens(r.URL.Path, w) {
			fmt.Fprintf(w, `{"token":%q}`, r.URL.Path+"|"+r.URL.Query().Get("scope"))
		}
		return
	}
	repository := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/v1")
	challenge := o.challenge(r.Host, repository)
	status := http.StatusOK
	if challenge != "" {
		status = http.StatusUnauthorized
		if endpoint, scope, ok := strings.Cut(strings.TrimPrefix(secret, "Bearer "), "|"); ok {
			status = o.grants(endpoint, repository, scope)
		} else if secret != "" {
			status = http.StatusOK
		}
	}
	if status != http.StatusOK {
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", challenge)
		}
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("a", 64))
	w.Header().Set("Content-Length", "7")
}

// take gives what was asked since the last time.
func (o *office) take() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	asked := o.asked
	o.asked = nil
	return asked
}

// tokenFrom is the challenge to fetch a token for a repository from an endpoint of the registry.
func tokenFrom(endpoint string) func(host, repository string) string {
	return func(host, repository string) string {
		return fmt.Sprintf(`Bearer realm="http://%s%s",service="s",scope="repository:%s:pull"`, host, endpoint, repository)
	}
}

// grantedBy lets in who has a token of an endpoint for the repository, and answers others with a status.
func grantedBy(endpoint string, otherwise int) func(string, string, string) int {
	return func(from, repository, scope string) int {
		if from == endpoint && scope == "repository:"+repository+":pull" {
			return http.StatusOK
		}
		return otherwise
	}
}

// visit resolves a tag of several repositories, one after the other, and gives what was asked for the last of them.
func visit(t *testing.T, o *office, opened *Repository, repositories ...string) (asked []string, err error) {
	t.Helper()
	for _, name := range repositories {
		o.take()
		err = resolve(t.Context(), opened.client.Repository(image.Reference{Registry: opened.ref.Registry, Repository: name}))
		asked = o.take()
	}
	return asked, err
}

// byTeam is a credential per first element of a repository's name.
func byTeam(_ context.Context, _, repository string) (auth.Credential, error) {
	team, _, _ := strings.Cut(repository, "/")
	return auth.Credential{Username: team, Password: "secret of " + team}, nil
}

// TestARegistryIsNotAskedToRefuse the first request for a repository, where the same credential met its challenge before.
func TestARegistryIsNotAskedToRefuse(t *testing.T) {
	noScope := func(host, _ string) string { return fmt.Sprintf(`Bearer realm="http://%s/token",service="s"`, host) }
	own := func(host, repository string) string {
		return fmt.Sprintf(`Bearer realm="http://%s/token/%[2]s",service="s",scope="repository:%[2]s:pull"`, host, repository)
	}
	anyToken := func(string, string, string) int { return http.StatusOK }
	tests := map[string]struct {
		challenge  func(host, repository string) string
		grants     func(endpoint, repository, scope string) int
		credential CredentialFunc
		visited    []string
		want       []string // asked for the last
	}{
		"the first repository": {tokenFrom("/token"), grantedBy("/token", 401), byTeam, []string{"a/web"}, []string{
			"HEAD /v2/a/web/manifests/v1", "GET /token a", "HEAD /v2/a/web/manifests/v1 Bearer /token|repository:a/web:pull"}},
		"the next one of the same credential": {tokenFrom("/token"), grantedBy("/token", 401), byTeam, []string{"a/web", "a/db"}, []string{
			"GET /token a", "HEAD /v2/a/db/manifests/v1 Bearer /token|repository:a/db:pull"}},
		"the next one of the same credential, of challenges without scope": {noScope, grantedBy("/token", 401), byTeam, []string{"a/web", "a/db"}, []string{
			"GET /token a", "HEAD /v2/a/db/manifests/v1 Bearer /token|repository:a/db:pull"}},
		"the next one without credentials": {tokenFrom("/token"), grantedBy("/token", 401), nil, []string{"a/web", "b/db"}, []string{
			"GET /token", "HEAD /v2/b/db/manifests/v1 Bearer /token|repository:b/db:pull"}},
		"the next one by name and password": {func(string, string) string { return `Basic realm="x"` }, nil, byTeam, []string{"a/web", "a/db"}, []string{
			"HEAD /v2/a/db/manifests/v1 a"}},
		"the next one of another credential": {tokenFrom("/token"), grantedBy("/token", 401), byTeam, []string{"a/web", "b/db"}, []string{
			"HEAD /v2/b/db/manifests/v1", "GET /token b", "HEAD /v2/b/db/manifests/v1 Bearer /token|repository:b/db:pull"}},
		"a repository whose token is kept": {tokenFrom("/token"), grantedBy("/token", 401), byTeam, []string{"a/web", "a/db", "a/web"}, []string{
			"HEAD /v2/a/web/manifests/v1 Bearer /token|repository:a/web:pull"}},
		"an endpoint for each repository": {own, anyToken, byTeam, []string{"a/web", "a/db"}, []string{
			"HEAD /v2/a/db/manifests/v1", "GET /token/a/db a", "HEAD /v2/a/db/manifests/v1 Bearer /token/a/db|repository:a/db:pull"}},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			o := &office{challenge: test.challenge, grants: test.grants}
			opened, _ := served(t, o.ServeHTTP, Options{Credential: test.credential})
			if asked, err := visit(t, o, opened, test.visited...); err != nil || !slices.Equal(asked, test.want) {
				t.Errorf("%v, %q; want %q", err, asked, test.want)
			}
		})
	}
}

// TestAnExpectedChallengeDecidesNothing where the registry wants something else by now, or for this repository: it is asked
// as if nothing had been expected, and what it then says counts.
func TestAnExpectedChallengeDecidesNothing(t *testing.T) {
	tests := map[string]struct {
		then func(*office) // what changes once the challenge is known
		want reason.Code
		most int // requests
		end  string
	}{
		"another endpoint, and the old one's tokens are unknown": {func(o *office) {
			o.challenge, o.grants = tokenFrom("/token/new"), grantedBy("/token/new", http.StatusUnauthorized)
		}, "", 5, "Bearer /token/new|repository:a/db:pull"},
		"another endpoint, and the old one's tokens are not enough": {func(o *office) {
			o.challenge, o.grants = tokenFrom("/token/new"), grantedBy("/token/new", http.StatusForbidden)
		}, "", 5, "Bearer /token/new|repository:a/db:pull"},
		"another endpoint, and nothing is shown to the old one's tokens": {func(o *office) {
			o.challenge, o.grants = tokenFrom("/token/new"), grantedBy("/token/new", http.StatusNotFound)
		}, "", 5, "Bearer /token/new|repository:a/db:pull"},
		"another endpoint, and the old one is gone": {func(o *office) {
			o.challenge, o.grants = tokenFrom("/token/new"), grantedBy("/token/new", http.StatusUnauthorized)
			o.tokens = func(endpoint string, w http.ResponseWriter) bool {
				if endpoint == "/token" {
					w.WriteHeader(http.StatusGone)
				}
				return endpoint == "/token"
			}
		}, "", 4, "Bearer /token/new|repository:a/db:pull"},
		"no proof is wanted, and the endpoint is gone": {func(o *office) {
			o.challenge = func(string, string) string { return "" }
			o.tokens = func(_ string, w http.ResponseWriter) bool { w.WriteHeader(http.StatusGone); return true }
		}, "", 2, "manifests/v1"},
		"a name and a password are wanted": {func(o *office) {
			o.challenge = func(string, string) string { return `Basic realm="x"` }
			o.grants = func(string, string, string) int { return http.StatusUnauthorized }
		}, "", 4, "manifests/v1 a"},
		"nobody is let in": {func(o *office) {
			o.grants = func(string, string, string) int { return http.StatusForbidden }
		}, reason.RegistryUnauthorized, 5, ""},
		"there is no such repository": {func(o *office) {
			o.grants = func(string, string, string) int { return http.StatusNotFound }
		}, reason.ImageNotFound, 7, ""},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			o := &office{challenge: tokenFrom("/token"), grants: grantedBy("/token", http.StatusUnauthorized)}
			opened, _ := served(t, o.ServeHTTP, Options{Credential: byTeam})
			if _, err := visit(t, o, opened, "a/web"); err != nil {
				t.Fatal(err)
			}
			test.then(o)
			asked, err := visit(t, o, opened, "a/db")
			faultCase{want: test.want}.check(t, err)
			if len(asked) > test.most || len(asked) == 0 || !strings.HasSuffix(asked[len(asked)-1], test.end) {
				t.Errorf("asked %q; want at most %d, the last with %q", asked, test.most, test.end)
			}
		})
	}
}

// TestACredentialGoesToNoEndpointThatItsOwnRepositoriesDidNotName, though another credential's named it.
func TestACredentialGoesToNoEndpointThatItsOwnRepositoriesDidNotName(t *testing.T) {
	thief := eavesdrop(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"token":"stolen|"}`) })
	elsewhere := func(_, repository string) string {
		return fmt.Sprintf(`Bearer realm="%s/token",service="s",scope="repository:%s:pull"`, thief.URL, repository)
	}
	o := &office{grants: func(string, string, string) int { return http.StatusOK }}
	o.challenge = func(host, repository string) string {
		if strings.HasPrefix(repository, "mallory/") {
			return elsewhere(host, repository)
		}
		return tokenFrom("/token")(host, repository)
	}
	opened, _ := served(t, o.ServeHTTP, Options{Credential: byTeam})
	opened.client.options.InsecureHosts = append(opened.client.options.InsecureHosts, strings.TrimPrefix(thief.URL, "http://"))
	if _, err := visit(t, o, opened, "mallory/web", "mallory/db", "a/web", "a/db", "b/web"); err != nil {
		t.Fatal(err)
	}
	_, secrets := thief.heard()
	for _, secret := range secrets {
		r := http.Request{Header: http.Header{"Authorization": {secret}}}
		if name, _, _ := r.BasicAuth(); name != "mallory" {
			t.Errorf("%s's credential went to an endpoint that mallory's repositories named", name)
		}
	}
	if len(secrets) != 2 {
		t.Errorf("the endpoint was asked %d times; want once for each of mallory's repositories", len(secrets))
	}
}

func TestChallengesAreBounded(t *testing.T) {
	known := newChallenges()
	for i := range 3 * maxChallenges {
		known.keep(auth.Credential{Username: fmt.Sprint(i)}, "acme/app", `Bearer realm="https://a/token"`)
	}
	if n := known.known.Len(); n != maxChallenges {
		t.Errorf("%d challenges are kept; want %d", n, maxChallenges)
	}
	for sentence, text := range map[string]string{
		"a long one":                          `Bearer realm="https://a/` + strings.Repeat("x", maxChallenge) + `"`,
		"one with the name in the endpoint":   `Bearer realm="https://a/acme/app",scope="repository:acme/app:pull"`,
		"one of two scopes":                   `Bearer realm="https://a",scope="repository:acme/app:pull repository:acme/base:pull"`,
		"one for another repository":          `Bearer realm="https://a",scope="repository:acme/base:pull"`,
		"one with the name in the service":    `Bearer realm="https://a",service="acme/app"`,
		"one with the name in the rest of it": `Bearer realm="https://a",scope="repository:acme/app:pull",x="acme/app"`,
	} {
		credential := auth.Credential{Username: sentence}
		known.keep(credential, "acme/app", text)
		if got := known.expect(credential, "acme/web"); got != "" {
			t.Errorf("%s was kept: %s", sentence, got)
		}
	}
	pushed := auth.Credential{Username: "pusher"}
	known.keep(pushed, "acme/app", `Bearer realm="https://a",scope="repository:acme/app:pull,push"`)
	if got := known.expect(pushed, "acme/web"); got != `Bearer realm="https://a",scope="repository:acme/web:pull,push"` {
		t.Errorf("of another repository is expected %s", got)
	}
	odd, other := auth.Credential{Username: "a\xff"}, auth.Credential{Username: "a\xfe"}
	known.keep(odd, "acme/app", `Basic realm="x"`)
	if known.expect(other, "acme/app") != "" || known.expect(odd, "acme/web") != `Basic realm="x"` {
		t.Error("credentials that differ are taken for one")
	}
}
