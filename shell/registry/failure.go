package registry

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"

	"github.com/samber/lo"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Error is a failure to read from a registry, with its code.
type Error struct {
	Code  reason.Code
	Text  string
	cause error
}

// Error is one sentence for a person.
func (e *Error) Error() string { return e.Text }

// Unwrap gives the cause; nil for an answer that is refused for its content.
func (e *Error) Unwrap() error { return e.cause }

// invalidResponse reports an answer that violates the specification, or that is over a bound.
func invalidResponse(format string, args ...any) error {
	return &Error{Code: reason.RegistryInvalid, Text: "the registry's answer cannot be used: " + reason.Clip(fmt.Sprintf(format, args...), reason.MaxWords)}
}

// ErrUnusable is an artifact whose digest holds and whose content violates the specifications. An [Error] that unwraps to
// it is not the registry's fault, and a retry would not help.
var ErrUnusable = errors.New("the artifact cannot be used")

// unusable reports an artifact that is ErrUnusable.
func unusable(format string, args ...any) error {
	return &Error{Code: reason.RegistryInvalid, Text: reason.Clip(fmt.Sprintf(format, args...), reason.MaxWords), cause: ErrUnusable}
}

// ErrAbsent is an [ErrUnusable] whose content is unknown: another artifact names it, and the registry does not have it, or
// it is too large to be read.
var ErrAbsent = fmt.Errorf("%w: it is not there", ErrUnusable)

// absent reports an artifact that is ErrAbsent.
func absent(format string, args ...any) error {
	return &Error{Code: reason.RegistryInvalid, Text: reason.Clip(fmt.Sprintf(format, args...), reason.MaxWords), cause: ErrAbsent}
}

// errNotFound is the registry's answer that it has no such tag or digest.
var errNotFound = errors.New("not found")

// What was being done when a request failed, as the error says it.
const (
	waiting   = "waiting for its turn"
	resolving = "looking it up"
	listing   = "listing its referrers"
	fetching  = "fetching"
)

// classify makes an [Error] of a failure.
func classify(ctx context.Context, doing string, err error) error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	e := &Error{Code: codeOf(ctx, doing, err), cause: err}
	switch e.Code {
	case reason.ImageNotFound:
		e.Text = "the registry has no such image"
	case reason.RegistryUnauthorized:
		e.Text = fmt.Sprintf("the registry refused access; check the service's credentials and the image's name: %s", described(err))
	case reason.Timeout:
		e.Text = fmt.Sprintf("time ran out %s in the registry", doing)
	case reason.RegistryInvalid:
		e.Text = fmt.Sprintf("the registry's answer cannot be used: %s", described(err))
	default:
		e.Text = fmt.Sprintf("the registry failed %s: %s", doing, described(err))
	}
	var untrusted x509.UnknownAuthorityError
	if errors.As(err, &untrusted) {
		e.Text += "; name the registry's CA in --registryCAFile, or in a cluster put it into the ConfigMap ca-certificates"
	}
	return e
}

func codeOf(ctx context.Context, doing string, err error) reason.Code {
	var answered *errcode.ErrorResponse
	var credential *credentialError
	var transport net.Error // *url.Error is one
	var broken *brokenOff
	switch {
	case errors.As(err, &answered):
		return codeOfStatus(answered.StatusCode)
	case ctx.Err() != nil:
		return reason.Timeout
	case errors.Is(err, errNotFound):
		return reason.ImageNotFound
	case errors.Is(err, auth.ErrBasicCredentialNotFound), errors.As(err, &credential):
		return reason.RegistryUnauthorized
	case errors.As(err, &transport), errors.As(err, &broken):
		return reason.RegistryUnavailable
	}
	return reason.RegistryInvalid // all that is left is an answer that contradicts itself or exceeds a bound
}

// codeOfStatus never gives ImageNotFound: a missing image is errNotFound, and any other 404 comes from a token endpoint.
func codeOfStatus(status int) reason.Code {
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		return reason.RegistryUnauthorized
	}
	return reason.RegistryUnavailable
}

// Parts of an error's text that hold secrets: user names and passwords in URLs, and the queries of URLs, with which
// registries sign redirects to their storage.
var (
	userInfo = regexp.MustCompile(`://[^/\s"@]*@`)
	query    = regexp.MustCompile(`((?:https?://|/)[^\s"?]*)\?[^\s"]*`)
)

// described is the text of an error without secrets, and without the details that registries add for programs.
func described(err error) string {
	text := err.Error()
	var answered *errcode.ErrorResponse
	if errors.As(err, &answered) {
		plain := *answered
		plain.Errors = lo.Map(answered.Errors, func(e errcode.Error, _ int) errcode.Error {
			return errcode.Error{Code: e.Code, Message: e.Message}
		})
		text = strings.Replace(text, answered.Error(), plain.Error(), 1)
	}
	text = userInfo.ReplaceAllString(text, "://")
	text = query.ReplaceAllString(text, "$1")
	return reason.Clip(reason.WithoutTokens(text), reason.MaxWords)
}
