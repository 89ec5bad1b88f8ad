package registrytest

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Auth is how a registry wants its callers to prove who they are.
type Auth int

// The ways to authenticate.
const (
	AuthNone  Auth = iota // everyone may do everything
	AuthBasic             // HTTP basic authentication, RFC 7617
	AuthToken             // bearer tokens of the registry's own token endpoint
)

// TokenPath is the path of the token endpoint.
const TokenPath = "/token"

// defaultTokenLifetime is longer than the 60 seconds that the specification
// wants for old clients.
const defaultTokenLifetime = 5 * time.Minute

// protect puts the authentication before the handler.
func (r *Registry) protect(options Options) http.Handler {
	handler := options.Handler
	if handler == nil {
		handler = InMemory()
	}
	switch options.Auth {
	case AuthBasic:
		return requireBasic(account{options.Username, options.Password}, handler)
	case AuthToken:
		return newTokenAuth(r.URL, options, handler)
	default:
		return handler
	}
}

// account is the one name and password that a registry knows.
type account struct{ username, password string }

// presentedBy says whether a request carries the account, RFC 7617.
func (a account) presentedBy(r *http.Request) bool {
	username, password, _ := r.BasicAuth()
	return a.is(username, password)
}

func (a account) is(username, password string) bool {
	return equal(username, a.username) && equal(password, a.password)
}

// equal compares secrets; an unset one equals nothing.
func equal(presented, secret string) bool {
	return secret != "" && subtle.ConstantTimeCompare([]byte(presented), []byte(secret)) == 1
}

// requireBasic lets those pass who present the account.
func requireBasic(account account, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if account.presentedBy(r) {
			next.ServeHTTP(w, r)
			return
		}
		unauthorized(w, `Basic realm="test registry"`)
	})
}

// unauthorized answers as the distribution specification wants it.
// https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes
func unauthorized(w http.ResponseWriter, challenge string) {
	w.Header().Set("WWW-Authenticate", challenge)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	fmt.Fprintln(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
}

// tokenAuth is a registry's authorization service and its enforcement in one.
// Whoever is known may have every scope.
// https://distribution.github.io/distribution/spec/auth/token/
// https://distribution.github.io/distribution/spec/auth/oauth/
type tokenAuth struct {
	root          func() string // URL of the registry, known once it listens
	account       account
	identityToken string
	lifetime      time.Duration
	next          http.Handler

	mu     sync.Mutex
	grants map[string]grant // by token
}

// grant is what a token is good for.
type grant struct {
	scopes []string
	until  time.Time
}

func newTokenAuth(root func() string, options Options, next http.Handler) *tokenAuth {
	lifetime := options.TokenLifetime
	if lifetime == 0 {
		lifetime = defaultTokenLifetime
	}
	return &tokenAuth{
		root:          root,
		account:       account{options.Username, options.Password},
		identityToken: options.IdentityToken,
		lifetime:      lifetime,
		next:          next,
		grants:        map[string]grant{},
	}
}

// ServeHTTP implements http.Handler.
func (a *tokenAuth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == TokenPath {
		a.serveToken(w, r)
		return
	}
	scope := scopeOf(r)
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if a.allows(token, scope) {
		a.next.ServeHTTP(w, r)
		return
	}
	challenge := fmt.Sprintf("Bearer realm=%q,service=%q", a.root()+TokenPath, r.Host)
	if scope != "" {
		challenge += fmt.Sprintf(",scope=%q", scope)
	}
	unauthorized(w, challenge)
}

// serveToken gives a token to who is known: by basic authentication with GET,
// by a refresh token or a password with POST.
func (a *tokenAuth) serveToken(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !a.knows(r) {
		unauthorized(w, `Basic realm="test registry"`)
		return
	}
	var scopes []string
	for _, value := range r.Form["scope"] {
		scopes = append(scopes, strings.Fields(value)...)
	}
	token := rand.Text()
	a.mu.Lock()
	a.grants[token] = grant{scopes: scopes, until: time.Now().Add(a.lifetime)}
	a.mu.Unlock()

	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ // fails if the caller is gone
		"token":        token,
		"access_token": token,
		"scope":        strings.Join(scopes, " "),
		"expires_in":   int(a.lifetime.Seconds()),
		"issued_at":    time.Now().UTC().Format(time.RFC3339),
	})
}

// knows says whether a request to the token endpoint proves who sent it.
func (a *tokenAuth) knows(r *http.Request) bool {
	switch {
	case r.Method == http.MethodGet:
		return a.account.presentedBy(r)
	case r.Method == http.MethodPost && r.PostForm.Get("grant_type") == "refresh_token":
		return equal(r.PostForm.Get("refresh_token"), a.identityToken)
	case r.Method == http.MethodPost && r.PostForm.Get("grant_type") == "password":
		return a.account.is(r.PostForm.Get("username"), r.PostForm.Get("password"))
	default:
		return false
	}
}

// allows says whether a token is good for a scope now.
func (a *tokenAuth) allows(token, scope string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	granted, known := a.grants[token]
	if !known || time.Now().After(granted.until) {
		return false
	}
	return scope == "" || slices.ContainsFunc(granted.scopes, func(have string) bool {
		return covers(have, scope)
	})
}

// covers says whether one scope, "repository:<name>:<actions>", includes the
// other, whose actions must all be among its own.
func covers(have, want string) bool {
	haveResource, haveActions, _ := cutLast(have, ":")
	wantResource, wantActions, _ := cutLast(want, ":")
	if haveResource != wantResource {
		return false
	}
	actions := strings.Split(haveActions, ",")
	for action := range strings.SplitSeq(wantActions, ",") {
		if !slices.Contains(actions, action) && !slices.Contains(actions, "*") {
			return false
		}
	}
	return true
}

// scopeOf returns the scope that a request needs, nothing outside of a
// repository.
func scopeOf(r *http.Request) string {
	name, found := repositoryOf(r.URL.Path)
	if !found {
		return ""
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return "repository:" + name + ":pull"
	}
	return "repository:" + name + ":pull,push"
}

// repositoryOf returns the name in "/v2/<name>/<kind>/...", which may itself
// have slashes.
func repositoryOf(path string) (name string, found bool) {
	rest, isV2 := strings.CutPrefix(path, "/v2/")
	if !isV2 {
		return "", false
	}
	for _, kind := range []string{"/manifests/", "/blobs/", "/tags/", "/referrers/"} {
		if name, _, found := cutLast(rest, kind); found {
			return name, true
		}
	}
	return "", false
}

// cutLast is strings.Cut around the last separator.
func cutLast(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return s, "", false
}
