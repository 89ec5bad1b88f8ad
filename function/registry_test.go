package function_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// dockerConfig writes a Docker configuration file with credentials for a host.
func dockerConfig(t *testing.T, host, username, password string) string {
	t.Helper()
	encoded := base64.StdEncoding.EncodeToString([]byte(username + ":" + password))
	return writeFile(t, "config.json", fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, encoded), 0o600)
}

func writeFile(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCredentialsOfEverySourceWork verifies an image of a registry that requires authentication.
func TestCredentialsOfEverySourceWork(t *testing.T) {
	helper := func(t *testing.T, host string) string {
		dir := filepath.Dir(writeFile(t, "docker-credential-test", fmt.Sprintf("#!/bin/sh\ncat >/dev/null\necho '{\"ServerURL\":\"%s\",\"Username\":\"user\",\"Secret\":\"secret\"}'\n", host), 0o755))
		t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
		return writeFile(t, "config.json", fmt.Sprintf(`{"credHelpers":{%q:"test"}}`, host), 0o600)
	}
	good := func(t *testing.T, host string) string { return dockerConfig(t, host, "user", "secret") }
	wrong := func(t *testing.T, host string) string { return dockerConfig(t, host, "user", "wrong") }
	none := func(t *testing.T, _ string) string { return filepath.Join(t.TempDir(), "none.json") }
	broken := func(t *testing.T, _ string) string { return writeFile(t, "config.json", "{", 0o600) }
	elsewhere := func(t *testing.T, _ string) string {
		return dockerConfig(t, "registry.example.com", "user", "secret")
	}
	identity := func(t *testing.T, host string) string {
		return writeFile(t, "config.json", fmt.Sprintf(`{"auths":{%q:{"auth":%q,"identitytoken":"refresh"}}}`, host, base64.StdEncoding.EncodeToString([]byte("00000000-0000-0000-0000-000000000000:"))), 0o600)
	}
	tests := map[string]struct {
		auth   registrytest.Auth
		config func(t *testing.T, host string) string
		want   reason.Code
	}{
		"basic authentication from the Docker configuration": {registrytest.AuthBasic, good, reason.Verified},
		"a bearer token for that":                            {registrytest.AuthToken, good, reason.Verified},
		"an identity token, exchanged for a bearer token":    {registrytest.AuthToken, identity, reason.Verified},
		"a credential helper":                                {registrytest.AuthToken, helper, reason.Verified},
		"a wrong password":                                   {registrytest.AuthBasic, wrong, reason.RegistryUnauthorized},
		"a wrong password for a token":                       {registrytest.AuthToken, wrong, reason.RegistryUnauthorized},
		"no credentials":                                     {registrytest.AuthBasic, none, reason.RegistryUnauthorized},
		"credentials for another registry":                   {registrytest.AuthBasic, elsewhere, reason.RegistryUnauthorized},
		"a configuration that is not JSON":                   {registrytest.AuthBasic, broken, reason.RegistryUnauthorized},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			b := prepare(t, registrytest.Options{Auth: test.auth, Username: "user", Password: "secret", IdentityToken: "refresh"}, "")
			repository, err := signingtest.Repository(b.registry.Host(), "acme/private", b.registry.Client(), true)
			if err != nil {
				t.Fatal(err)
			}
			signingtest.SignIn(repository, b.registry.Client(), auth.Credential{Username: "user", Password: "secret"})
			image, err := signingtest.PushImage(t.Context(), repository, "v1", signingtest.Image{})
			if err != nil {
				t.Fatal(err)
			}
			envelope, err := b.scenario.Signer().Sign(t.Context(), signingtest.SignRequest{Subject: image, Format: signingtest.JWS})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := signingtest.PushSignature(t.Context(), repository, image, signingtest.JWS, envelope); err != nil {
				t.Fatal(err)
			}
			config := test.config(t, b.registry.Host())
			b.serve(t, func(s *function.Settings) { s.DockerConfig = config })
			got := b.verdict(t, pod(b.registry.Host()+"/acme/private:v1")).Results[0]
			if got.Code != test.want {
				t.Errorf("code %s; want %s: %s", got.Code, test.want, got.Reason)
			}
			if strings.Contains(got.Reason, "secret") {
				t.Errorf("the reason holds the password: %s", got.Reason)
			}
		})
	}
}

// TestRegistryTransportSecurity holds that plain HTTP and further CAs are used only where the settings allow it.
func TestRegistryTransportSecurity(t *testing.T) {
	tests := map[string]struct {
		tls    bool
		change func(b *bench, s *function.Settings)
		want   reason.Code
		says   string
	}{
		"a private CA that is named": {true, func(b *bench, s *function.Settings) {
			s.InsecureRegistries, s.RegistryCAFile = nil, filepath.Join(b.trustDir, "ca.pem")
		}, reason.Verified, ""},
		"a private CA that is not named": {true, func(_ *bench, s *function.Settings) {
			s.InsecureRegistries = nil
		}, reason.RegistryUnavailable, "--registryCAFile"},
		"plain HTTP to a host that is not named": {false, func(_ *bench, s *function.Settings) {
			s.InsecureRegistries = nil
		}, reason.RegistryUnavailable, "HTTP response to HTTPS client"},
		"plain HTTP to any host, when that is allowed": {false, func(_ *bench, s *function.Settings) {
			s.InsecureRegistries, s.AllowInsecureRegistry = nil, true
		}, reason.Verified, ""},
		"plain HTTP to another host that is named": {false, func(_ *bench, s *function.Settings) {
			s.InsecureRegistries = []string{"registry.example.com"}
		}, reason.RegistryUnavailable, "HTTP response to HTTPS client"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			b := prepare(t, registrytest.Options{TLS: test.tls}, "")
			if err := os.WriteFile(filepath.Join(b.trustDir, "ca.pem"), b.registry.CAPEM(), 0o644); err != nil {
				t.Fatal(err)
			}
			b.serve(t, func(s *function.Settings) { test.change(b, s) })
			reference, _ := b.publish(t, "signed")
			if got := b.verdict(t, pod(reference)).Results[0]; got.Code != test.want || !strings.Contains(got.Reason, test.says) {
				t.Errorf("code %s, %q; want %s, %q", got.Code, got.Reason, test.want, test.says)
			}
		})
	}
}

// TestCredentialsAreNotForwardedOnRedirect redirects the envelope's download to another host.
func TestCredentialsAreNotForwardedOnRedirect(t *testing.T) {
	b := prepare(t, registrytest.Options{}, "")
	var asked, leaked atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("Authorization") != "" {
			leaked.Add(1)
		}
		http.Error(w, "no", http.StatusNotFound)
	}))
	t.Cleanup(other.Close)
	reference, _ := b.publish(t, "signed")
	b.registry.SetFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		switch {
		case r.Header.Get("Authorization") == "":
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
		case strings.Contains(r.URL.Path, "/blobs/"):
			http.Redirect(w, r, other.URL+"/elsewhere", http.StatusTemporaryRedirect)
		default:
			next.ServeHTTP(w, r)
		}
	})
	config := dockerConfig(t, b.registry.Host(), "user", "secret")
	b.serve(t, func(s *function.Settings) { s.DockerConfig = config })
	if got := b.verdict(t, pod(reference)).Results[0]; got.Verified {
		t.Errorf("verified: %+v", got)
	}
	if asked.Load() == 0 || leaked.Load() != 0 {
		t.Errorf("the other host was asked %d times, %d of them with credentials; want some and none", asked.Load(), leaked.Load())
	}
}
