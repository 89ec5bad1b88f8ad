package registry

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jellydator/ttlcache/v3"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/nirmata/kyverno-notation-venafi/shell/flight"
)

const (
	maxTokens     = 1000             // of one registry
	maxTokenBytes = 1 << 20          // of one registry's tokens and their scopes, whose lengths the registry chooses
	tokenFor      = 5 * time.Minute  // for which a token is kept, unless the registry refuses it
	tokenTimeout  = 10 * time.Second // of one fetch
)

// tokens keeps a registry's access tokens by their scope. It is a bounded auth.Cache of oras, in which no caller can end a
// fetch that others wait for.
type tokens struct {
	known   *ttlcache.Cache[string, string]
	fetches flight.Group[string, fetched]

	mu     sync.Mutex
	scheme auth.Scheme // that worked last
}

// fetched is a token, or why there is none.
type fetched struct {
	token string
	err   error
}

// repositoryTokens are the tokens of one repository, since each repository may have credentials of its own.
type repositoryTokens struct {
	*tokens
	repository string
}

// GetToken gives a kept token, which the registry may have revoked.
func (t *repositoryTokens) GetToken(ctx context.Context, registry string, scheme auth.Scheme, scopes string) (string, error) {
	return t.tokens.GetToken(ctx, registry+"/"+t.repository, scheme, scopes)
}

// Set fetches a token, once for all callers that ask for it at the same time.
func (t *repositoryTokens) Set(ctx context.Context, registry string, scheme auth.Scheme, scopes string, get func(context.Context) (string, error)) (string, error) {
	return t.tokens.Set(ctx, registry+"/"+t.repository, scheme, scopes, get)
}

// forget drops what is kept for a repository and scopes.
func (t *tokens) forget(registry, repository string, scopes []string) {
	for _, key := range []string{
		tokenKey(registry+"/"+repository, auth.SchemeBearer, strings.Join(scopes, " ")),
		tokenKey(registry+"/"+repository, auth.SchemeBasic, ""),
	} {
		t.known.Delete(key)
	}
}

func newTokens() *tokens {
	return &tokens{
		known: ttlcache.New(ttlcache.WithTTL[string, string](tokenFor), ttlcache.WithCapacity[string, string](maxTokens),
			ttlcache.WithMaxCost(maxTokenBytes, func(item ttlcache.CostItem[string, string]) uint64 { return uint64(len(item.Key) + len(item.Value)) }),
			ttlcache.WithDisableTouchOnHit[string, string]()),
		fetches: flight.Group[string, fetched]{Timeout: tokenTimeout},
	}
}

func tokenKey(registry string, scheme auth.Scheme, scopes string) string {
	return fmt.Sprintf("%s %s %s", registry, scheme, scopes)
}

// GetScheme gives the scheme that worked last.
func (t *tokens) GetScheme(context.Context, string) (auth.Scheme, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.scheme == auth.SchemeUnknown {
		return auth.SchemeUnknown, errdef.ErrNotFound
	}
	return t.scheme, nil
}

// GetToken gives a kept token, which the registry may have revoked.
func (t *tokens) GetToken(_ context.Context, registry string, scheme auth.Scheme, scopes string) (string, error) {
	if item := t.known.Get(tokenKey(registry, scheme, scopes)); item != nil {
		return item.Value(), nil
	}
	return "", errdef.ErrNotFound
}

// Set fetches a token, once for all callers that ask for it at the same time. The fetch ends when the last of them has
// left.
func (t *tokens) Set(ctx context.Context, registry string, scheme auth.Scheme, scopes string, get func(context.Context) (string, error)) (string, error) {
	key := tokenKey(registry, scheme, scopes)
	f, ok := t.fetches.Do(ctx, key, func(ctx context.Context) fetched {
		token, err := guarded(ctx, get)
		if err == nil {
			t.keep(key, scheme, token)
		}
		return fetched{token, err}
	})
	if !ok {
		return "", fmt.Errorf("token: %w", ctx.Err())
	}
	return f.token, f.err
}

func (t *tokens) keep(key string, scheme auth.Scheme, token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.scheme = scheme
	if len(key)+len(token) <= maxTokenBytes/4 { // a larger one would evict most others
		t.known.Set(key, token, ttlcache.DefaultTTL)
	}
}

// guarded turns a panic of the client into an error.
func guarded(ctx context.Context, get func(context.Context) (string, error)) (token string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &credentialError{fmt.Errorf("an internal error occurred: %v", r)}
		}
	}()
	return get(ctx)
}
