package registry

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	ecr "github.com/awslabs/amazon-ecr-credential-helper/ecr-login"
	acr "github.com/chrismellard/docker-credential-acr-env/pkg/credhelper"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/google"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// keychain gets a cloud's credentials from the pod's environment. It serves the cloud's own registries only: the patterns
// of the helpers also match hosts that merely contain a cloud's name, which would get a token.
type keychain struct {
	name     string
	suffixes []string // of hosts
	authn.Keychain
}

func keychains() []keychain {
	return []keychain{
		{"ecr", []string{".amazonaws.com", ".amazonaws.com.cn", ".on.aws", "public.ecr.aws"}, authn.NewKeychainFromHelper(ecr.NewECRHelper(ecr.WithLogger(io.Discard)))},
		{"gcr", []string{"gcr.io", ".pkg.dev"}, google.Keychain},
		{"acr", []string{".azurecr.io", ".azurecr.cn", ".azurecr.de", ".azurecr.us"}, authn.NewKeychainFromHelper(acr.NewACRCredentialsHelper())},
	}
}

// CloudKeychains gives the credentials of the clouds named: ecr (Amazon), gcr (Google, Artifact Registry too), acr
// (Azure). Other registries get none.
func CloudKeychains(names []string) (CredentialFunc, error) {
	var chosen []keychain
	for _, wanted := range names {
		i := slices.IndexFunc(keychains(), func(k keychain) bool { return k.name == wanted })
		if i < 0 {
			return nil, fmt.Errorf("cloudKeychains names %q; use ecr, gcr or acr", wanted)
		}
		chosen = append(chosen, keychains()[i])
	}
	return func(ctx context.Context, host, _ string) (auth.Credential, error) {
		for _, k := range chosen {
			if k.serves(host) {
				return k.credential(ctx, host)
			}
		}
		return auth.EmptyCredential, nil
	}, nil
}

func (k keychain) serves(host string) bool {
	return slices.ContainsFunc(k.suffixes, func(suffix string) bool {
		return host == strings.TrimPrefix(suffix, ".") || strings.HasSuffix(host, "."+strings.TrimPrefix(suffix, "."))
	})
}

// credential asks the cloud. The helpers take no context, so the goroutine of one that hangs stays behind when ctx ends.
func (k keychain) credential(ctx context.Context, host string) (auth.Credential, error) {
	type answer struct {
		credential auth.Credential
		err        error
	}
	answered := make(chan answer, 1)
	go func() {
		credential, err := k.resolve(host)
		answered <- answer{credential, err}
	}()
	select {
	case <-ctx.Done():
		return auth.EmptyCredential, fmt.Errorf("%s keychain: %w", k.name, ctx.Err())
	case a := <-answered:
		if a.err != nil {
			return auth.EmptyCredential, &credentialError{fmt.Errorf("%s keychain: %w", k.name, a.err)}
		}
		return a.credential, nil
	}
}

func (k keychain) resolve(host string) (auth.Credential, error) {
	registry, err := name.NewRegistry(host)
	if err != nil {
		return auth.EmptyCredential, err
	}
	found, err := k.Resolve(registry)
	if err != nil {
		return auth.EmptyCredential, err
	}
	config, err := found.Authorization()
	if err != nil {
		return auth.EmptyCredential, err
	}
	return auth.Credential{
		Username: config.Username, Password: config.Password,
		RefreshToken: config.IdentityToken, AccessToken: config.RegistryToken,
	}, nil
}
