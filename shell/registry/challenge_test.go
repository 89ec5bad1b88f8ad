package registry

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// TestChooseChallenge finds the challenge that can be answered among all that there are.
func TestChooseChallenge(t *testing.T) {
	tests := map[string]struct {
		fields []string
		want   string
	}{
		"none":                                    {nil, ""},
		"one that nobody answers":                 {[]string{"Negotiate"}, ""},
		"basic":                                   {[]string{`Basic realm="x"`}, `Basic realm="x"`},
		"basic without a realm":                   {[]string{`basic`}, `basic`},
		"negotiate in a field before":             {[]string{`Negotiate`, `Basic realm="x"`}, `Basic realm="x"`},
		"negotiate in the same field":             {[]string{`Negotiate, Basic realm="x"`}, `Basic realm="x"`},
		"negotiate with a token":                  {[]string{`Negotiate YII=, Bearer realm="https://a/token",service="s"`}, `Bearer realm="https://a/token",service="s"`},
		"bearer behind basic":                     {[]string{`Basic realm="x", Bearer realm="https://a/token" , scope="repository:a:pull,push"`}, `Bearer realm="https://a/token",scope="repository:a:pull,push"`},
		"bearer with a comma in quotes":           {[]string{`Bearer realm="https://a/token,Basic realm=x"`}, `Bearer realm="https://a/token,Basic realm=x"`},
		"a quote in quotes":                       {[]string{`Digest realm="a\", Basic ", Basic realm="x"`}, `Basic realm="x"`},
		"white space before the sign of equality": {[]string{`Bearer realm = "https://a/token", service = "s"`}, `Bearer realm = "https://a/token",service = "s"`},
		"parameters of nobody":                    {[]string{`realm="x", Basic realm="y"`}, `Basic realm="y"`},
		"a scheme that begins like one":           {[]string{`BasicX realm="x"`, `X-Basic realm="x"`}, ""},
		"nothing":                                 {[]string{"", ",,"}, ""},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			if got := chooseChallenge(test.fields); got != test.want {
				t.Errorf("%q; want %q", got, test.want)
			}
		})
	}
}

func TestChooseChallengeTakesLinearTime(t *testing.T) {
	for sentence, item := range map[string]string{"nothing between commas": ",", "parameters": "a=b,", "schemes": "Negotiate,"} {
		cost := func(length int) uint64 {
			field := "Bearer " + strings.Repeat(item, length/len(item))
			return allocated(func() { chooseChallenge([]string{field}) })
		}
		if half, whole := cost(maxHeader/2), cost(maxHeader); whole > 3*half {
			t.Errorf("%s: %d bytes are allocated for a field of %d, and %d for half of it", sentence, whole, maxHeader, half)
		}
	}
}

// allocated gives how many bytes a function allocates, those that are free again included.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// eavesdropper is a host that keeps what it is sent of secrets.
type eavesdropper struct {
	*httptest.Server
	mu      sync.Mutex
	secrets []string
	asked   int
}

func eavesdrop(t *testing.T, answer http.HandlerFunc) *eavesdropper {
	e := &eavesdropper{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		e.asked++
		if err := r.ParseForm(); err == nil && r.PostForm.Get("password")+r.PostForm.Get("refresh_token") != "" {
			e.secrets = append(e.secrets, r.PostForm.Encode())
		}
		if secret := r.Header.Get("Authorization"); secret != "" {
			e.secrets = append(e.secrets, secret)
		}
		e.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *eavesdropper) heard() (int, []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asked, e.secrets
}

func TestCredentialsGoToTheirRegistryOnly(t *testing.T) {
	basic := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "" {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return false
	}
	bearer := func(realm string) func(w http.ResponseWriter, r *http.Request, other string) {
		return func(w http.ResponseWriter, r *http.Request, other string) {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="s"`, strings.Replace(realm, "OTHER", other, 1)))
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	redirect := func(status int, to string) func(w http.ResponseWriter, r *http.Request, other string) {
		return func(w http.ResponseWriter, r *http.Request, other string) {
			if basic(w, r) {
				http.Redirect(w, r, strings.Replace(to, "OTHER", other, 1), status)
			}
		}
	}
	tests := map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request, other string)
		other  http.HandlerFunc // of the other host; nil: not found
		want   reason.Code
		asked  bool // the other host is, without secrets
		says   string
	}{
		"a redirect to another host":                  {redirect(307, "OTHER/x"), nil, reason.ImageNotFound, true, ""},
		"a permanent redirect to another host":        {redirect(308, "OTHER/x"), nil, reason.ImageNotFound, true, ""},
		"another host that asks for a password":       {redirect(307, "OTHER/x"), func(w http.ResponseWriter, r *http.Request) { basic(w, r) }, reason.RegistryUnauthorized, true, ""},
		"another host that redirects back":            {redirect(307, "OTHER/x"), func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/y", http.StatusTemporaryRedirect) }, reason.RegistryUnavailable, true, ""},
		"a redirect to a metadata service":            {redirect(307, "http://169.254.169.254/latest"), nil, reason.RegistryUnavailable, false, "metadata"},
		"the same as a number":                        {redirect(307, "http://2852039166/latest"), nil, reason.RegistryUnavailable, false, "metadata"},
		"a token endpoint that is a metadata service": {bearer("https://169.254.169.254/computeMetadata"), nil, reason.RegistryUnavailable, false, "metadata"},
		"the same, written so":                        {bearer("https://[::ffff:a9fe:a9fe]/x"), nil, reason.RegistryUnavailable, false, "metadata"},
		"the same by its name":                        {bearer("https://metadata.google.internal/x"), nil, reason.RegistryUnavailable, false, "metadata"},
		"a token endpoint by plain HTTP, not named":   {bearer("OTHER/token"), nil, reason.RegistryUnauthorized, false, "--insecureRegistries"},
		"a token endpoint that is a file":             {bearer("file:///etc/passwd"), nil, reason.RegistryInvalid, false, "scheme"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			other := eavesdrop(t, func(w http.ResponseWriter, r *http.Request) {
				if test.other == nil {
					http.NotFound(w, r)
					return
				}
				test.other(w, r)
			})
			repository, _ := served(t, func(w http.ResponseWriter, r *http.Request) { test.answer(w, r, other.URL) }, Options{
				Credential: func(context.Context, string, string) (auth.Credential, error) {
					return auth.Credential{Username: "user", Password: "secret"}, nil
				},
			})
			faultCase{want: test.want, says: test.says}.check(t, resolve(t.Context(), repository))
			if asked, secrets := other.heard(); asked > 0 != test.asked || len(secrets) > 0 {
				t.Errorf("the other host was asked %d times and got %q", asked, secrets)
			}
		})
	}
}

func TestCredentialsAreKeptByRepository(t *testing.T) {
	for _, scheme := range []string{"Basic", "Bearer"} {
		t.Run(scheme, func(t *testing.T) {
			var mu sync.Mutex
			used := map[string]string{} // repository -> name
			nameOf := func(r *http.Request) string {
				name, _, _ := r.BasicAuth()
				return name
			}
			repository, server := served(t, func(w http.ResponseWriter, r *http.Request) {
				sent := r.Header.Get("Authorization")
				switch {
				case r.URL.Path == "/token":
					fmt.Fprintf(w, `{"token":%q}`, base64.StdEncoding.EncodeToString([]byte(nameOf(r))))
				case sent == "" && scheme == "Basic":
					w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
					w.WriteHeader(http.StatusUnauthorized)
				case sent == "":
					w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="s"`, r.Host))
					w.WriteHeader(http.StatusUnauthorized)
				default:
					name := nameOf(r)
					if token, ok := strings.CutPrefix(sent, "Bearer "); ok {
						text, _ := base64.StdEncoding.DecodeString(token)
						name = string(text)
					}
					mu.Lock()
					used[strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/v1")] = name
					mu.Unlock()
					http.NotFound(w, r)
				}
			}, Options{Credential: func(_ context.Context, host, repository string) (auth.Credential, error) {
				found, _ := ParseDockerConfig([]byte(fmt.Sprintf(`{"auths":{"%[1]s":{"username":"all","password":"p"},"%[1]s/team":{"username":"team","password":"p"},"%[1]s/team/app":{"username":"app","password":"p"}}}`, host))).Find(host, repository)
				return found.Credential, nil
			}})
			host := strings.TrimPrefix(server.URL, "http://")
			for range 2 {
				for _, name := range []string{"app", "team/app", "team/web", "team/app/web", "teams/app"} {
					r := repository.client.Repository(image.Reference{Registry: host, Repository: name})
					faultCase{want: reason.ImageNotFound}.check(t, resolve(t.Context(), r))
				}
			}
			want := map[string]string{"app": "all", "team/app": "app", "team/web": "team", "team/app/web": "app", "teams/app": "all"}
			for name := range want {
				if used[name] != want[name] {
					t.Errorf("%s was asked for as %q; want %q", name, used[name], want[name])
				}
			}
		})
	}
}

func TestCredentialsAreNotSentOverPlainHTTP(t *testing.T) {
	registry := eavesdrop(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	at, err := url.Parse(registry.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, named := range []bool{false, true} {
		options := Options{AllowInsecure: true, AllowLoopback: true, Credential: func(context.Context, string, string) (auth.Credential, error) {
			return auth.Credential{Username: "user", Password: "secret"}, nil
		}}
		want, says := reason.RegistryUnauthorized, "plain HTTP"
		if named {
			options.InsecureHosts, want, says = []string{strings.ToUpper(at.Host)}, reason.ImageNotFound, ""
		}
		client, err := New(options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		faultCase{want: want, says: says}.check(t, resolve(t.Context(), client.Repository(image.Reference{Registry: at.Host, Repository: "acme/app"})))
		if _, secrets := registry.heard(); len(secrets) > 0 != named {
			t.Errorf("named %t: %q", named, secrets)
		}
	}
}
