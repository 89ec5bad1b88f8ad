package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// served gives the repository acme/app of a registry that answers with a handler.
func served(t *testing.T, handler http.HandlerFunc, options Options) (*Repository, *httptest.Server) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	options.InsecureHosts, options.MaxReferrers, options.AllowLoopback = []string{host}, 10, true
	client, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client.Repository(image.Reference{Registry: host, Repository: "acme/app"}), server
}

func resolve(ctx context.Context, r *Repository) error {
	_, err := r.Resolve(ctx, image.Reference{Tag: "v1"})
	return err
}

func manifest(ctx context.Context, r *Repository) error {
	_, _, err := r.Manifest(ctx, digest.FromString("x"))
	return err
}

func blob(ctx context.Context, r *Repository) error {
	_, err := r.Blob(ctx, ocispec.Descriptor{Digest: digest.FromString("x"), Size: 1}, 10)
	return err
}

func answering(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// answeringManifest serves one manifest, under whatever name.
func answeringManifest(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		fmt.Fprint(w, body)
	}
}

func TestFailuresHaveCodesAndNoSecrets(t *testing.T) {
	const refusal = `{"errors":[{"code":"DENIED","message":"you may not","detail":[{"Action":"pull"}]}]}`
	challenged := func(token http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				token(w, r)
				return
			}
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, r.Host))
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	redirected := func(next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/storage" {
				next(w, r)
				return
			}
			http.Redirect(w, r, "http://user:password@"+r.Host+"/storage?X-Amz-Signature=signed", http.StatusTemporaryRedirect)
		}
	}
	hangUp := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	badLocation := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "http://storage/%zz?X-Amz-Signature=signed")
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
	tests := map[string]struct {
		handler  http.HandlerFunc
		ask      func(context.Context, *Repository) error
		want     reason.Code
		says     string
		unusable bool
	}{
		"a tag that is not there":                            {answering(404, ""), resolve, reason.ImageNotFound, "no such image", false},
		"a token endpoint that is not there":                 {challenged(answering(404, "")), resolve, reason.RegistryUnavailable, "404", false},
		"a token endpoint that refuses":                      {challenged(answering(401, refusal)), resolve, reason.RegistryUnauthorized, "denied: you may not", false},
		"a token endpoint that fails":                        {challenged(answering(400, "")), resolve, reason.RegistryUnavailable, "400", false},
		"a refusal with details":                             {answering(403, refusal), blob, reason.RegistryUnauthorized, "denied: you may not", false},
		"a refusal that repeats a token":                     {answering(403, `{"errors":[{"code":"DENIED","message":"no: Bearer signed567890123456789012"}]}`), blob, reason.RegistryUnauthorized, "no: Bearer ***", false},
		"a refusal of its storage":                           {redirected(answering(403, "")), blob, reason.RegistryUnauthorized, "/storage", false},
		"a storage that hangs up":                            {redirected(hangUp), blob, reason.RegistryUnavailable, "/storage", false},
		"a storage that has another size":                    {redirected(answering(200, "too much")), blob, reason.RegistryInvalid, "other content", false},
		"a redirect to nowhere":                              {badLocation, blob, reason.RegistryUnavailable, "Location", false},
		"a signature manifest that is listed and not there":  {answering(404, ""), manifest, reason.RegistryInvalid, "not in the registry", true},
		"a digest header that is no digest":                  {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Docker-Content-Digest", "sha256:no") }, resolve, reason.RegistryInvalid, "cannot be used", false},
		"a manifest without media type, length and digest":   {answering(200, ""), resolve, reason.RegistryInvalid, "cannot be used", false},
		"content that is not that of its digest":             {answering(200, "y"), blob, reason.RegistryInvalid, "cannot be used", false},
		"a signature manifest that is not JSON":              {answeringManifest("x"), manifest, reason.RegistryInvalid, "not JSON", true},
		"a status that is none of the specification":         {answering(418, ""), resolve, reason.RegistryUnavailable, "418", false},
		"an endless explanation, of which the start is told": {answering(403, `{"errors":[{"code":"DENIED","message":"`+strings.Repeat("no ", 2000)+`"}]}`), blob, reason.RegistryUnauthorized, "no no", false},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			repository, _ := served(t, test.handler, Options{})
			err := test.ask(t.Context(), repository)
			var failure *Error
			if !errors.As(err, &failure) || failure.Code != test.want || !strings.Contains(failure.Text, test.says) {
				t.Fatalf("%v (%+v); want %s and %q", err, failure, test.want, test.says)
			}
			if errors.Is(err, ErrUnusable) != test.unusable {
				t.Errorf("unusable %t; want %t", !test.unusable, test.unusable)
			}
			for _, secret := range []string{"signed", "password", "map[", "service="} {
				if strings.Contains(failure.Text, secret) {
					t.Errorf("the text holds %q: %s", secret, failure.Text)
				}
			}
			if len(failure.Text) > 2*reason.MaxWords {
				t.Errorf("the text has %d bytes", len(failure.Text))
			}
		})
	}
}

func TestRedirectsStayOnTLS(t *testing.T) {
	request := func(url string) *http.Request { return httptest.NewRequest(http.MethodGet, url, nil) }
	tests := map[string]struct {
		options Options
		via     []string
		to      string
		refused bool
	}{
		"TLS to TLS":                               {Options{}, []string{"https://a"}, "https://b", false},
		"TLS to plain HTTP":                        {Options{}, []string{"https://a"}, "http://b", true},
		"plain HTTP to plain HTTP":                 {Options{}, []string{"http://a"}, "http://b", false},
		"TLS to a host that is named insecure":     {Options{InsecureHosts: []string{"b"}}, []string{"https://a"}, "http://b", false},
		"TLS to plain HTTP where that is allowed":  {Options{AllowInsecure: true}, []string{"https://a"}, "http://b", false},
		"TLS to plain HTTP by way of another host": {Options{}, []string{"http://a", "https://b"}, "http://c", true},
		"without end":                              {Options{}, strings.Split(strings.Repeat("https://a ", maxRedirects-1)+"https://a", " "), "https://a", true},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			var via []*http.Request
			for _, url := range test.via {
				via = append(via, request(url))
			}
			client, err := New(test.options)
			if err != nil {
				t.Fatal(err)
			}
			if err := client.open("a").web.CheckRedirect(request(test.to), via); (err != nil) != test.refused {
				t.Errorf("error %v; refused should be %t", err, test.refused)
			}
		})
	}
}

func TestReadsReportMissingCredentials(t *testing.T) {
	challenge := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
	helper := func(script string) func(*testing.T, string) string {
		return func(t *testing.T, host string) string {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
			return fmt.Sprintf(`{"credHelpers":{%q:"test"}}`, host)
		}
	}
	tests := map[string]struct {
		config func(t *testing.T, host string) string
		want   reason.Code
		says   string
	}{
		"an entry that is no name and password": {func(_ *testing.T, host string) string {
			return fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte("secret")))
		}, reason.RegistryUnauthorized, "docker config: "},
		"a helper that says its secret and fails": {helper("echo secret; exit 1"), reason.RegistryUnauthorized, "helper"},
		"a helper that fails without a word":      {helper("exit 3"), reason.RegistryUnauthorized, "exit status 3"},
		"a helper that is not installed": {func(_ *testing.T, host string) string {
			return fmt.Sprintf(`{"credHelpers":{%q:"absent"}}`, host)
		}, reason.RegistryUnauthorized, "docker-credential-absent"},
		"a helper whose child hangs": {helper("sleep 4; true"), reason.Timeout, "time ran out"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "config.json")
			repository, server := served(t, challenge, Options{Credential: DockerConfig(file)})
			text := test.config(t, strings.TrimPrefix(server.URL, "http://"))
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			var failure *Error
			if err := resolve(ctx, repository); !errors.As(err, &failure) || failure.Code != test.want || !strings.Contains(failure.Text, test.says) {
				t.Errorf("%v; want %s and %q", err, test.want, test.says)
			}
			if failure != nil && strings.Contains(failure.Text, "secret") {
				t.Errorf("the text holds the secret: %s", failure.Text)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("it took %s, longer than the deadline", took)
			}
		})
	}
}
