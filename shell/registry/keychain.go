package registry

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	ecr "github.com/awslabs/amazon-ecr-credential-helper/ecr-login"
	acr "github.com/chrismellard/docker-credential-acr-env/pkg/credhelper"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// keychain gets a cloud's credentials from the pod's environment. It serves the cloud's own registries only: the patterns
// of the helpers also match hosts that merely contain a cloud's name, which would get a token.
type keychain struct {
	name     string
	suffixes []string // of hosts
	ask      func(host string) (auth.Credential, error)
}

func keychains() []keychain {
	return []keychain{
		{"ecr", []string{".amazonaws.com", ".amazonaws.com.cn", ".on.aws", "public.ecr.aws"}, fromHelper(ecr.NewECRHelper(ecr.WithLogger(io.Discard)))},
		{"gcr", []string{"gcr.io", ".pkg.dev"}, new(googleTokens).credential},
		{"acr", []string{".azurecr.io", ".azurecr.cn", ".azurecr.de", ".azurecr.us"}, fromHelper(acr.NewACRCredentialsHelper())},
	}
}

// helper is a credential helper of Docker.
type helper interface {
	Get(host string) (user, secret string, err error)
}

// identityToken is the user that a helper names where its secret is an identity token (protocol of Docker's credential helpers).
const identityToken = "<token>"

// fromHelper asks a helper. Where it has nothing access is anonymous, and the registry says whether that will do.
func fromHelper(of helper) func(host string) (auth.Credential, error) {
	return func(host string) (auth.Credential, error) {
		user, secret, err := of.Get(host)
		switch {
		case err != nil:
			return auth.EmptyCredential, nil
		case user == identityToken:
			return auth.Credential{RefreshToken: secret}, nil
		}
		return auth.Credential{Username: user, Password: secret}, nil
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
		credential, err := k.ask(host)
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
