package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"

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
			return auth.EmptyCredential, unreadable(err)
		}
		credential, err := credentials.Credential(store)(ctx, host)
		if err != nil {
			return auth.EmptyCredential, unreadable(err)
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

// unreadable tells why a Docker configuration or its helper gave no credentials. The errors of the library repeat what
// they could not read, which may be a password, so only those of the system are told.
func unreadable(err error) error {
	var path *fs.PathError
	var start *exec.Error
	var exit *exec.ExitError
	reason := errors.New("it is not a Docker configuration, or a helper in it failed")
	switch {
	case errors.As(err, &path):
		reason = path
	case errors.As(err, &start):
		reason = start
	case errors.As(err, &exit):
		reason = fmt.Errorf("its helper failed: %w", exit)
	}
	return &credentialError{fmt.Errorf("docker config: %w", reason)}
}

// inTime gives up asking for credentials when ctx ends. A helper's child that holds its pipe cannot be waited for, so
// that who asks it is left behind.
func inTime(ask CredentialFunc) CredentialFunc {
	if ask == nil {
		return nil
	}
	type answer struct {
		credential auth.Credential
		err        error
	}
	return func(ctx context.Context, host string) (auth.Credential, error) {
		answered := make(chan answer, 1)
		go func() {
			credential, err := ask(ctx, host)
			answered <- answer{credential, err}
		}()
		select {
		case <-ctx.Done():
			return auth.EmptyCredential, fmt.Errorf("credentials: %w", ctx.Err())
		case a := <-answered:
			return a.credential, a.err
		}
	}
}

func openStore(path string) (credentials.Store, error) {
	if path == "" {
		return credentials.NewStoreFromDocker(credentials.StoreOptions{})
	}
	return credentials.NewStore(path, credentials.StoreOptions{})
}
