// Package ecr takes the place of Amazon's credential helper, of which func asks for a version that is not a release, and that not every
// proxy has. It has no credentials for any registry.
package ecr

import (
	"context"
	"errors"
	"io"
)

// Helper is what func asks for credentials.
type Helper struct{}

// Option says how to ask, which makes no difference here.
type Option func(*Helper)

// WithLogger is for a log, which is not written.
func WithLogger(io.Writer) Option { return func(*Helper) {} }

// WithContext is for a deadline, which is not needed.
func WithContext(context.Context) Option { return func(*Helper) {} }

// NewECRHelper is the helper.
func NewECRHelper(...Option) Helper { return Helper{} }

// Get has no credentials.
func (Helper) Get(string) (name, password string, err error) {
	return "", "", errors.New("no credentials")
}
