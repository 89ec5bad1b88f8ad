package registry

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// TestKeychainsServeTheirOwnHosts and no host that only looks like one of theirs.
func TestKeychainsServeTheirOwnHosts(t *testing.T) {
	tests := map[string]string{
		"123456789012.dkr.ecr.eu-west-1.amazonaws.com":     "ecr",
		"123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn": "ecr",
		"public.ecr.aws":                  "ecr",
		"gcr.io":                          "gcr",
		"eu.gcr.io":                       "gcr",
		"europe-docker.pkg.dev":           "gcr",
		"acme.azurecr.io":                 "acr",
		"acme.azurecr.io.example.com":     "",
		"evilgcr.io":                      "",
		"amazonaws.com.example.com":       "",
		"registry.example.com":            "",
		"acme.azurecr.io:443.example.com": "",
	}
	for host, want := range tests {
		got := ""
		for _, k := range keychains() {
			if k.serves(host) {
				got += k.name
			}
		}
		if got != want {
			t.Errorf("%s is served by %q; want %q", host, got, want)
		}
	}
}

// TestCloudKeychains refuses names it does not know, and leaves other registries anonymous.
func TestCloudKeychains(t *testing.T) {
	if _, err := CloudKeychains([]string{"ecr", "aws"}); err == nil {
		t.Error("an unknown name was taken")
	}
	credentials, err := CloudKeychains([]string{"ecr", "gcr", "acr"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := credentials(t.Context(), "registry.example.com", "acme/app"); err != nil || got != auth.EmptyCredential {
		t.Errorf("another registry gets %v, %v", got, err)
	}
}

// fake is a credential helper of a test.
type fake struct {
	user, secret string
	err          error
	wait         chan struct{} // nil answers at once
}

// Get answers.
func (f fake) Get(string) (user, secret string, err error) {
	if f.wait != nil {
		<-f.wait
	}
	return f.user, f.secret, f.err
}

func TestKeychainGivesTheHelpersAnswer(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	failing := func(string) (auth.Credential, error) { return auth.EmptyCredential, context.Canceled }
	tests := map[string]struct {
		ask   func(string) (auth.Credential, error)
		want  auth.Credential
		fails error
	}{
		"a password":          {fromHelper(fake{user: "u", secret: "p"}), auth.Credential{Username: "u", Password: "p"}, nil},
		"an identity token":   {fromHelper(fake{user: "<token>", secret: "t"}), auth.Credential{RefreshToken: "t"}, nil},
		"nothing":             {fromHelper(fake{}), auth.EmptyCredential, nil},
		"a helper's failure":  {fromHelper(fake{err: errors.New("no identity")}), auth.EmptyCredential, nil},
		"a failure":           {failing, auth.EmptyCredential, context.Canceled},
		"no answer, for ever": {fromHelper(fake{wait: hang}), auth.EmptyCredential, context.DeadlineExceeded},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			got, err := keychain{name: "test", ask: test.ask}.credential(ctx, "registry.example.com")
			if got != test.want || !errors.Is(err, test.fails) {
				t.Errorf("%v, %v; want %v, %v", got, err, test.want, test.fails)
			}
		})
	}
}

// googleEndpoints answers as Google does: /token exchanges the assertion of a service account for a token that lasts an hour, and
// the metadata server below /computeMetadata knows no account. It counts the tokens that it gave.
func googleEndpoints(t *testing.T) (url string, given *atomic.Int64) {
	t.Helper()
	given = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/token" || r.FormValue("assertion") == "" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":"of the account, %d","token_type":"Bearer","expires_in":3600}`, given.Add(1))
	}))
	t.Cleanup(server.Close)
	return server.URL, given
}

// TestGoogleTokens come from a service account's key, or else from the command gcloud, and are used until they expire.
func TestGoogleTokens(t *testing.T) {
	url, given := googleEndpoints(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	account, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "knv@acme.example", "private_key_id": "1", "token_uri": url + "/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	const gcloud = "#!/bin/sh\n" + `[ "$1 $2 $3 $4" = "config config-helper --force-auth-refresh --format=json(credential)" ] || exit 1` + "\n"
	none := auth.EmptyCredential
	for sentence, test := range map[string]struct {
		account, gcloud string // files; "" for none
		want            auth.Credential
	}{
		"a service account":               {string(account), gcloud + "exit 1", auth.Credential{Username: "_token", Password: "of the account, 1"}},
		"gcloud":                          {"", gcloud + `echo '{"credential":{"access_token":"of gcloud","token_expiry":"2999-01-01T00:00:00Z"}}'`, auth.Credential{Username: "_token", Password: "of gcloud"}},
		"a key that cannot be read":       {"{", gcloud + `echo '{"credential":{"access_token":"of gcloud","token_expiry":"2999-01-01T00:00:00Z"}}'`, auth.Credential{Username: "_token", Password: "of gcloud"}},
		"gcloud that fails":               {"", gcloud + "exit 1", none},
		"gcloud that says something else": {"", gcloud + "echo '{}'", none},
		"a token without its end":         {"", gcloud + `echo '{"credential":{"access_token":"of gcloud"}}'`, none},
		"nothing":                         {"", "", none},
	} {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{"account.json": test.account, "gcloud": test.gcloud} {
				if text == "" {
					continue
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", dir)
			t.Setenv("HOME", dir)
			t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(url, "http://"))
			t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
			if test.account != "" {
				t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", filepath.Join(dir, "account.json"))
			}
			given.Store(0)
			var tokens googleTokens
			for range 3 {
				if got, err := tokens.credential("gcr.io"); err != nil || got != test.want {
					t.Errorf("%+v, %v; want %+v", got, err, test.want)
				}
			}
			if given.Load() > 1 {
				t.Errorf("%d tokens were asked for", given.Load())
			}
		})
	}
}
