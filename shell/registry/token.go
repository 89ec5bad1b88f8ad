package registry

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jellydator/ttlcache/v3"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
)

const (
	maxTokens     = 1000             // of one registry
	maxTokenBytes = 1 << 20          // of one registry's tokens and their scopes, which it chooses
	tokenFor      = 5 * time.Minute  // that one is kept, if the registry does not refuse it before
	fetchingAt    = 10 * time.Second // at most for one token
)

// tokens keeps a registry's access tokens by their scope. It is oras's auth.Cache, with a bound, and with a fetch that
// no caller can end for the others who wait for it.
type tokens struct {
	known *ttlcache.Cache[string, string]

	mu      sync.Mutex
	scheme  auth.Scheme
	fetches map[string]*fetch
}

// repositoryTokens are those of one repository: another one may have other credentials.
type repositoryTokens struct {
	*tokens
	repository string
}

// GetToken gives a token that may still be good.
func (t *repositoryTokens) GetToken(ctx context.Context, registry string, scheme auth.Scheme, scopes string) (string, error) {
	return t.tokens.GetToken(ctx, registry+"/"+t.repository, scheme, scopes)
}

// Set fetches a token, once for all who ask for it at the same time.
func (t *repositoryTokens) Set(ctx context.Context, registry string, scheme auth.Scheme, scopes string, get func(context.Context) (string, error)) (string, error) {
	return t.tokens.Set(ctx, registry+"/"+t.repository, scheme, scopes, get)
}

// fetch is one that is under way.
type fetch struct {
	done    chan struct{} // closed when the rest is set
	token   string
	err     error
	waiting int // guarded by tokens.mu
	cancel  context.CancelFunc
}

func newTokens() *tokens {
	return &tokens{
		known: ttlcache.New(ttlcache.WithTTL[string, string](tokenFor), ttlcache.WithCapacity[string, string](maxTokens),
			ttlcache.WithMaxCost(maxTokenBytes, func(item ttlcache.CostItem[string, string]) uint64 { return uint64(len(item.Key) + len(item.Value)) }),
			ttlcache.WithDisableTouchOnHit[string, string]()),
		fetches: map[string]*fetch{},
	}
}

func tokenKey(registry string, scheme auth.Scheme, scopes string) string {
	return fmt.Sprintf("%s %s %s", registry, scheme, scopes)
}

// GetScheme gives the scheme that was of use last.
func (t *tokens) GetScheme(context.Context, string) (auth.Scheme, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.scheme == auth.SchemeUnknown {
		return auth.SchemeUnknown, errdef.ErrNotFound
	}
	return t.scheme, nil
}

// GetToken gives a token that may still be good.
func (t *tokens) GetToken(_ context.Context, registry string, scheme auth.Scheme, scopes string) (string, error) {
	if item := t.known.Get(tokenKey(registry, scheme, scopes)); item != nil {
		return item.Value(), nil
	}
	return "", errdef.ErrNotFound
}

// Set fetches a token, once for all who ask for it at the same time. The fetch ends when the last of them has left.
func (t *tokens) Set(ctx context.Context, registry string, scheme auth.Scheme, scopes string, get func(context.Context) (string, error)) (string, error) {
	key := tokenKey(registry, scheme, scopes)
	f := t.join(ctx, key, scheme, get)
	select {
	case <-f.done:
		return f.token, f.err
	case <-ctx.Done():
		t.abandon(key, f)
		return "", fmt.Errorf("token: %w", ctx.Err())
	}
}

func (t *tokens) join(ctx context.Context, key string, scheme auth.Scheme, get func(context.Context) (string, error)) *fetch {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, ok := t.fetches[key]
	if !ok {
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchingAt)
		f = &fetch{done: make(chan struct{}), cancel: cancel}
		t.fetches[key] = f
		go t.run(detached, key, f, scheme, get)
	}
	f.waiting++
	return f
}

func (t *tokens) run(ctx context.Context, key string, f *fetch, scheme auth.Scheme, get func(context.Context) (string, error)) {
	defer f.cancel()
	defer close(f.done)
	f.token, f.err = guarded(ctx, get)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fetches[key] == f {
		delete(t.fetches, key)
	}
	if f.err == nil {
		t.scheme = scheme
		if len(key)+len(f.token) <= maxTokenBytes/4 { // one alone does not drive out all others
			t.known.Set(key, f.token, ttlcache.DefaultTTL)
		}
	}
}

// guarded turns a panic, which here would end the process, into an error.
func guarded(ctx context.Context, get func(context.Context) (string, error)) (token string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &credentialError{fmt.Errorf("an internal error occurred: %v", r)}
		}
	}()
	return get(ctx)
}

func (t *tokens) abandon(key string, f *fetch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.waiting--
	if f.waiting > 0 {
		return
	}
	f.cancel()
	if t.fetches[key] == f {
		delete(t.fetches, key)
	}
}
