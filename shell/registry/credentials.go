package registry

import (
	"context"
	"fmt"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// DockerConfig gives the credentials of a Docker configuration file, its credential helpers included. The file
// is read anew whenever a registry asks for credentials, so that a rotated one works. "" means the file that
// Docker itself uses; where that does not exist, access is anonymous.
func DockerConfig(path string) CredentialFunc {
	return func(ctx context.Context, host string) (auth.Credential, error) {
		store, err := openStore(path)
		if err != nil {
			return auth.EmptyCredential, &credentialError{fmt.Errorf("docker config: %w", err)}
		}
		credential, err := credentials.Credential(store)(ctx, host)
		if err != nil {
			return auth.EmptyCredential, &credentialError{err}
		}
		return credential, nil
	}
}

// credentialError is a failure of finding credentials, before the registry was asked again.
type credentialError struct{ cause error }

// Error is the cause's text.
func (e *credentialError) Error() string { return e.cause.Error() }

// Unwrap gives the cause.
func (e *credentialError) Unwrap() error { return e.cause }

func openStore(path string) (credentials.Store, error) {
	if path == "" {
		return credentials.NewStoreFromDocker(credentials.StoreOptions{})
	}
	return credentials.NewStore(path, credentials.StoreOptions{})
}
