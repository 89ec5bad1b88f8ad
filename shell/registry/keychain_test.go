package registry

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
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

// fake is a keychain of a test.
type fake struct {
	config authn.AuthConfig
	err    error
	wait   chan struct{} // nil answers at once
}

// Resolve answers.
func (f fake) Resolve(authn.Resource) (authn.Authenticator, error) {
	if f.wait != nil {
		<-f.wait
	}
	return authn.FromConfig(f.config), f.err
}

func TestKeychainGivesTheHelpersAnswer(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	tests := map[string]struct {
		keychain fake
		want     auth.Credential
		fails    error
	}{
		"a password":          {fake{config: authn.AuthConfig{Username: "u", Password: "p"}}, auth.Credential{Username: "u", Password: "p"}, nil},
		"an identity token":   {fake{config: authn.AuthConfig{IdentityToken: "t"}}, auth.Credential{RefreshToken: "t"}, nil},
		"a registry token":    {fake{config: authn.AuthConfig{RegistryToken: "t"}}, auth.Credential{AccessToken: "t"}, nil},
		"nothing":             {fake{}, auth.EmptyCredential, nil},
		"a failure":           {fake{err: context.Canceled}, auth.EmptyCredential, context.Canceled},
		"no answer, for ever": {fake{wait: hang}, auth.EmptyCredential, context.DeadlineExceeded},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			got, err := keychain{name: "test", Keychain: test.keychain}.credential(ctx, "registry.example.com")
			if got != test.want || !errors.Is(err, test.fails) {
				t.Errorf("%v, %v; want %v, %v", got, err, test.want, test.fails)
			}
		})
	}
}
