package registry

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/nirmata/kyverno-notation-venafi/core"
)

// Error is a failure of a registry with the code that it means.
type Error struct {
	Code  core.Code
	Text  string
	cause error
}

// Error is one sentence for a person.
func (e *Error) Error() string { return e.Text }

// Unwrap gives the cause; nil for an answer that was refused for what it says.
func (e *Error) Unwrap() error { return e.cause }

// lie reports an answer that no honest registry gives, or one over its bound.
func lie(format string, args ...any) error {
	return &Error{Code: core.RegistryInvalid, Text: "the registry's answer cannot be used: " + fmt.Sprintf(format, args...)}
}

// What was under way when something failed.
const (
	resolving = "looking it up"
	listing   = "listing its referrers"
	fetching  = "fetching"
)

// classify finds the code of a failure.
func classify(ctx context.Context, doing string, err error) error {
	e := &Error{Code: codeOf(ctx, doing, err), cause: err}
	switch e.Code {
	case core.ImageNotFound:
		e.Text = "the registry has no such image"
	case core.RegistryUnauthorized:
		e.Text = fmt.Sprintf("the registry refused access; check the service's credentials and the image's name: %v", err)
	case core.Timeout:
		e.Text = fmt.Sprintf("time ran out %s in the registry", doing)
	case core.RegistryInvalid:
		e.Text = fmt.Sprintf("the registry's answer cannot be used: %v", err)
	default:
		e.Text = fmt.Sprintf("the registry failed %s: %v", doing, err)
	}
	var untrusted x509.UnknownAuthorityError
	if errors.As(err, &untrusted) {
		e.Text += "; name the registry's CA in --registryCAFile"
	}
	return e
}

func codeOf(ctx context.Context, doing string, err error) core.Code {
	var answered *errcode.ErrorResponse
	var credential *credentialError
	var transport net.Error // *url.Error is one
	switch {
	case errors.As(err, &answered):
		return codeOfStatus(doing, answered.StatusCode)
	case ctx.Err() != nil:
		return core.Timeout
	case errors.Is(err, errdef.ErrNotFound) && doing == resolving:
		return core.ImageNotFound
	case errors.Is(err, auth.ErrBasicCredentialNotFound), errors.As(err, &credential):
		return core.RegistryUnauthorized
	case errors.As(err, &transport), errors.Is(err, io.ErrUnexpectedEOF):
		return core.RegistryUnavailable
	}
	return core.RegistryInvalid // what remains is an answer that contradicts itself or its bounds
}

func codeOfStatus(doing string, status int) core.Code {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return core.RegistryUnauthorized
	case status == http.StatusNotFound && doing == resolving:
		return core.ImageNotFound
	}
	return core.RegistryUnavailable
}
