package registry

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/jellydator/ttlcache/v3"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/shell/egress"
	"github.com/nirmata/kyverno-notation-venafi/shell/fair"
)

// Bounds on what is kept for each registry. Whoever names an image chooses the registry.
const (
	maxHosts        = 128              // whose connections are kept
	connecting      = 5 * time.Second  // to establish a connection, even one that nobody waits for any more
	idleConnection  = 60 * time.Second // before it is closed
	maxRepositories = 1000             // of a host that are remembered to have no referrers API
	withoutAPIFor   = 5 * time.Minute  // for which this is remembered
	maxHeader       = 256 << 10        // bytes of an answer's header
)

// host is what is kept for one registry: connections, tokens, turns for reads, and a budget of retries. Registries share
// none of it, so that a slow one does not hold up another. Its redirects and its token endpoint use the same.
type host struct {
	name      string
	transport *http.Transport
	web       *http.Client
	userAgent string
	tokens    *tokens
	reads     *fair.Limiter

	challenges *challenges

	// withoutAPI holds the repositories that were found twice in a row to have no referrers API.
	withoutAPI *ttlcache.Cache[string, struct{}]

	users int    // guarded by hosts.mu
	used  uint64 // value of hosts.uses at its last use; guarded by hosts.mu
}

// hosts keeps the most recently used registries.
type hosts struct {
	mu    sync.Mutex
	known map[string]*host
	uses  uint64
}

// use gives a host, made by open if it is new. The caller calls done when it has finished.
func (h *hosts) use(name string, open func(string) *host) *host {
	h.mu.Lock()
	defer h.mu.Unlock()
	found, ok := h.known[name]
	if !ok {
		found = open(name)
		h.known[name] = found
	}
	h.uses++
	found.used = h.uses
	found.users++
	h.forget()
	return found
}

func (h *hosts) done(used *host) {
	h.mu.Lock()
	defer h.mu.Unlock()
	used.users--
	h.forget()
}

// forget removes the least recently used hosts over the bound and closes their connections. Hosts in use stay, even over
// the bound.
func (h *hosts) forget() {
	for len(h.known) > maxHosts {
		var oldest *host
		for _, candidate := range h.known {
			if candidate.users == 0 && (oldest == nil || candidate.used < oldest.used) {
				oldest = candidate
			}
		}
		if oldest == nil {
			return
		}
		delete(h.known, oldest.name)
		oldest.transport.CloseIdleConnections()
	}
}

func (h *hosts) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.known)
}

// reads counts the reads of all hosts that are under way, and those that wait for their turn.
func (h *hosts) reads() (reading, waiting int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, known := range h.known {
		reading += known.reads.InUse()
		waiting += known.reads.Waiting()
	}
	return reading, waiting
}

func (h *hosts) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, known := range h.known {
		known.transport.CloseIdleConnections()
	}
}

// open makes a new host.
func (c *Client) open(name string) *host {
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		ForceAttemptHTTP2:      true, // a custom TLS configuration would switch it off
		TLSClientConfig:        &tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    connecting,
		ResponseHeaderTimeout:  15 * time.Second,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        idleConnection,
		MaxIdleConnsPerHost:    c.options.MaxRequests,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true, // bounds and digests are checked on the bytes that arrive
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: connecting},
	}
	// The registry chooses where it redirects to. Only a registry that itself has a loopback name may redirect to a
	// loopback address.
	rule := egress.Rule{AllowLoopback: c.options.AllowLoopback && egress.IsLoopback(name)}
	var base http.RoundTripper = rule.Guard(transport, net.Dialer{Timeout: connecting, KeepAlive: 30 * time.Second})
	base = &counting{next: base, counts: c.counts, traceparent: c.options.Traceparent}
	base = &budgeted{next: base, budgets: c.budgets, registry: name}
	if c.options.Pace != nil {
		base = &paced{next: base, pace: c.options.Pace, registry: name}
	}
	base = &credentialGuard{next: base, speaksPlain: c.options.speaksPlain}
	if c.options.AllowInsecure {
		base = &plainFallback{next: base}
	}
	base = &challengeFilter{next: &retrying{next: base, budget: newRetryBudget(), counts: c.counts}}
	return &host{
		name: name, transport: transport,
		reads: fair.NewLimiter(c.options.MaxRequests),
		withoutAPI: ttlcache.New(ttlcache.WithTTL[string, struct{}](withoutAPIFor), ttlcache.WithCapacity[string, struct{}](maxRepositories),
			ttlcache.WithDisableTouchOnHit[string, struct{}]()),
		web:       &http.Client{Transport: base, CheckRedirect: c.options.followRedirect},
		userAgent: c.options.UserAgent,
		tokens:    newTokens(), challenges: newChallenges(),
	}
}

// authFor gives a client that authenticates with the credentials and tokens of one repository, and sends them to no other
// host, wherever the registry redirects to.
func (h *host) authFor(apiHost string, repository image.Reference, credential CredentialFunc) *auth.Client {
	ask := remembered(func(ctx context.Context) (auth.Credential, error) {
		if credential == nil {
			return auth.EmptyCredential, nil
		}
		return inTime(credential)(ctx, canonicalHost(repository.Registry), repository.Repository)
	})
	return &auth.Client{
		Client: h.web,
		Header: http.Header{"User-Agent": {h.userAgent}},
		Cache:  &repositoryTokens{h.tokens, repository.Repository},
		Credential: func(ctx context.Context, host string) (auth.Credential, error) {
			if host != apiHost {
				return auth.EmptyCredential, nil
			}
			return ask(ctx)
		},
		BlockedRealmPrefixes: []netip.Prefix{}, // the egress rule of open applies to all requests
	}
}

// acquire waits for a turn to read from a host until ctx ends. A read keeps its turn from its first request to its last,
// since one request may need another one, for a token, to end.
func (c *Client) acquire(ctx context.Context, name string) (*host, func(), error) {
	if err := c.budgets.await(ctx, name, false); err != nil { // before the turn, which others could use
		return nil, nil, classify(ctx, waiting, err)
	}
	h := c.hosts.use(name, c.open)
	if err := h.reads.Acquire(ctx); err != nil {
		c.hosts.done(h)
		return nil, nil, &Error{Code: reason.Timeout, cause: err, Text: fmt.Sprintf(
			"time ran out waiting, since %d reads from this registry were under way; if the registry is not slow and it lasts, raise --maxRegistryRequests", h.reads.Seats())}
	}
	return h, func() {
		h.reads.Release()
		c.hosts.done(h)
	}, nil
}

// followRedirect refuses redirects from TLS to plain HTTP, except to hosts that are configured for it.
func (o Options) followRedirect(next *http.Request, via []*http.Request) error {
	switch secure := via[len(via)-1].URL.Scheme == "https"; {
	case len(via) >= maxRedirects:
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
	case secure && next.URL.Scheme == "http" && !o.AllowInsecure && !o.speaksPlain(next.URL.Host):
		return fmt.Errorf("it redirects from TLS to plain HTTP at %s", next.URL.Host)
	}
	return nil
}
