package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"slices"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// CredentialFunc gives the credentials for a repository of a registry; the empty ones are anonymous. host is canonical, as
// canonicalHost gives it.
type CredentialFunc = func(ctx context.Context, host, repository string) (auth.Credential, error)

// DockerConfig gives the credentials of a Docker configuration file, its credential helpers included. The file
// is read again whenever a registry asks for credentials, so that rotated ones work. "" means the file that
// Docker itself uses; where that does not exist, access is anonymous.
func DockerConfig(path string) CredentialFunc {
	return func(ctx context.Context, host, repository string) (auth.Credential, error) {
		store, err := openStore(path)
		if err != nil {
			return auth.EmptyCredential, unreadable(err)
		}
		text, err := os.ReadFile(store.ConfigPath())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return auth.EmptyCredential, unreadable(err)
		}
		match, found := ParseDockerConfig(text).Find(host, repository)
		if server, ok := helped(text, host); ok && (!found || match.path == "") {
			credential, err := store.Get(ctx, server)
			if err != nil {
				return auth.EmptyCredential, unreadable(err)
			}
			if credential != auth.EmptyCredential {
				return credential, nil
			}
		}
		if match.problem != nil {
			return auth.EmptyCredential, &credentialError{fmt.Errorf("docker config: the entry for %s: %w", host, match.problem)}
		}
		return match.Credential, nil
	}
}

// helped gives the name under which a credential helper of a Docker configuration knows a host; not ok without a helper.
func helped(config []byte, host string) (server string, ok bool) {
	var helpers struct {
		CredHelpers map[string]string `json:"credHelpers"`
		CredsStore  string            `json:"credsStore"`
	}
	if json.Unmarshal(config, &helpers) != nil {
		return "", false
	}
	for _, server := range slices.Sorted(maps.Keys(helpers.CredHelpers)) {
		if name, _ := splitServer(server); name == host {
			return server, true
		}
	}
	return credentials.ServerAddressFromHostname(host), helpers.CredsStore != ""
}

// credentialError is a failure to find credentials, before the registry was asked with them.
type credentialError struct{ cause error }

// Error is the cause's text.
func (e *credentialError) Error() string { return e.cause.Error() }

// Unwrap gives the cause.
func (e *credentialError) Unwrap() error { return e.cause }

// unreadable is the error of a Docker configuration or helper that gave no credentials. The library's errors repeat what it
// could not read, which may be a password, so only errors of the system are repeated.
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

// inTime gives up asking for credentials when ctx ends. The goroutine that asks may stay behind, since a helper's child
// that holds its pipe open cannot be interrupted.
func inTime(ask CredentialFunc) CredentialFunc {
	if ask == nil {
		return nil
	}
	type answer struct {
		credential auth.Credential
		err        error
	}
	return func(ctx context.Context, host, repository string) (auth.Credential, error) {
		answered := make(chan answer, 1)
		go func() {
			credential, err := ask(ctx, host, repository)
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

func openStore(path string) (*credentials.DynamicStore, error) {
	if path == "" {
		return credentials.NewStoreFromDocker(credentials.StoreOptions{})
	}
	return credentials.NewStore(path, credentials.StoreOptions{})
}
