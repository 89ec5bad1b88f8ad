package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/shell/egress"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest/distribution"
)

// TestReadsAreBoundedByRegistry checks the bound, what a read that waits in vain says, and that another registry is not
// held up.
func TestReadsAreBoundedByRegistry(t *testing.T) {
	slow := stocked(t, registrytest.Options{}, func(o *Options) { o.MaxRequests = 2 })
	var now, most atomic.Int32
	arrived := make(chan struct{}, 2)
	slow.registry.SetFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		most.Store(max(most.Load(), now.Add(1)))
		select {
		case arrived <- struct{}{}:
		default:
		}
		defer now.Add(-1)
		registrytest.Delay(time.Hour)(w, r, next)
	})
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() { _ = slow.read(ctx, "app") })
	}
	for range 2 {
		<-arrived
	}
	for range 5 {
		short, end := context.WithTimeout(ctx, 10*time.Millisecond)
		faultCase{want: reason.Timeout, says: "2 reads from this registry were under way"}.check(t, slow.read(short, "app"))
		end()
	}
	quick := stocked(t, registrytest.Options{}, nil)
	quick.client.Close()
	slow.client.options.InsecureHosts = append(slow.client.options.InsecureHosts, quick.registry.Host())
	quick.client = slow.client
	if err := quick.read(t.Context(), "app"); err != nil {
		t.Errorf("the other registry: %v", err)
	}
	cancel()
	readers.Wait()
	if most.Load() > 2 {
		t.Errorf("%d requests at once; want 2", most.Load())
	}
	if s := slow.client.Stats(); s.Reading != 0 || s.Waiting != 0 || s.Hosts != 2 {
		t.Errorf("%+v", s)
	}
}

// TestReadsKeepTheirTurnForFurtherRequests so that they do not wait for each other: a fallback tag without a length is
// asked for twice.
func TestReadsKeepTheirTurnForFurtherRequests(t *testing.T) {
	s := stocked(t, registrytest.Options{Handler: withoutReferrers(t)}, func(o *Options) { o.MaxRequests = 1 })
	s.registry.SetFault(registrytest.Only(func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/sha256-")
	}, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(unmeasured{w}, r)
	}))
	var readers sync.WaitGroup
	for range 5 {
		readers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := s.read(ctx, "app"); err != nil {
				t.Error(err)
			}
		})
	}
	readers.Wait()
}

// unmeasured sends an answer without its length.
type unmeasured struct{ http.ResponseWriter }

func (w unmeasured) WriteHeader(status int) {
	w.Header().Del("Content-Length")
	w.ResponseWriter.WriteHeader(status)
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// withoutReferrers is a registry without referrers API, of which a goroutine stays.
func withoutReferrers(t *testing.T) http.Handler {
	t.Helper()
	return distribution.New(context.WithoutCancel(t.Context()))
}

// TestRetriesStayWithinTheirBudget where a registry is down for all requests.
func TestRetriesStayWithinTheirBudget(t *testing.T) {
	s := stocked(t, registrytest.Options{}, nil)
	s.registry.SetFault(registrytest.FailTimes(-1, http.StatusServiceUnavailable, nil))
	const readers, each = 10, 20
	var reading sync.WaitGroup
	for range readers {
		reading.Go(func() {
			for range each {
				faultCase{want: reason.RegistryUnavailable, says: "503"}.check(t, s.read(t.Context(), "app"))
			}
		})
	}
	reading.Wait()
	const most = readers*each*(1+retryShare) + retryBurst
	if n := len(s.registry.Requests()); n <= readers*each || float64(n) > most {
		t.Errorf("%d requests for %d reads; want some more, and at most %g", n, readers*each, most)
	}
	if now := s.client.Stats(); now.Requests["failed"] != uint64(len(s.registry.Requests())) || now.Retries != now.Requests["failed"]-readers*each {
		t.Errorf("%+v for %d requests", now, len(s.registry.Requests()))
	}
}

// TestRetryAfter is read as seconds or as a date.
func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := map[string]struct {
		header string
		want   time.Duration
		given  bool
	}{
		"none":                  {"", 0, false},
		"seconds":               {"7", 7 * time.Second, true},
		"none to wait":          {"0", 0, true},
		"too many":              {"4294967295", longestWait, true},
		"more than can be read": {"99999999999999999999", 0, false},
		"negative":              {"-1", 0, false},
		"a date":                {"Fri, 02 Jan 2026 03:04:15 GMT", 10 * time.Second, true},
		"a date that is gone":   {"Fri, 02 Jan 2026 03:00:00 GMT", 0, true},
		"words":                 {"soon", 0, false},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			if got, given := retryAfter(test.header, now); got != test.want || given != test.given {
				t.Errorf("%s, %t; want %s, %t", got, given, test.want, test.given)
			}
		})
	}
}

// TestHostsForgetTheLeastRecentlyUsed but never those in use.
func TestHostsForgetTheLeastRecentlyUsed(t *testing.T) {
	client, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	busy := client.hosts.use("busy", client.open)
	name := func(i int) string { return fmt.Sprintf("registry-%d", i) }
	for i := range 3 * maxHosts {
		client.hosts.done(client.hosts.use(name(i), client.open))
	}
	if n := client.Stats().Hosts; n != maxHosts {
		t.Errorf("%d hosts; want %d", n, maxHosts)
	}
	if client.hosts.known["busy"] != busy || client.hosts.known[name(3*maxHosts-1)] == nil || client.hosts.known[name(0)] != nil {
		t.Error("one that is in use is gone, or the last, or the first is not")
	}
	var held []*host
	for i := range 2 * maxHosts {
		held = append(held, client.hosts.use(name(i), client.open))
	}
	if n := client.Stats().Hosts; n < 2*maxHosts {
		t.Errorf("%d hosts; want all that are in use", n)
	}
	for _, h := range append(held, busy) {
		client.hosts.done(h)
	}
	if n := client.Stats().Hosts; n != maxHosts {
		t.Errorf("%d hosts when none is in use; want %d", n, maxHosts)
	}
}

// TestReadsTakeFewRequests four for a tag with one signature, and one more without a referrers API, the first time two.
func TestReadsTakeFewRequests(t *testing.T) {
	tests := map[string]struct {
		handler    func(*testing.T) http.Handler
		cold, warm int
	}{
		"referrers API": {func(*testing.T) http.Handler { return nil }, 4, 4},
		"fallback tags": {withoutReferrers, 6, 5},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			s := stocked(t, registrytest.Options{Handler: test.handler(t)}, nil)
			for i, want := range []int{test.cold, test.warm, test.warm} {
				s.registry.Reset()
				if err := s.read(t.Context(), "app"); err != nil {
					t.Fatal(err)
				}
				if n := len(s.registry.Requests()); n != want {
					t.Errorf("read %d: %d requests; want %d: %v", i, n, want, s.registry.Requests())
				}
			}
		})
	}
}

// TestTokensAreFetchedOnceForManyReaders, and again when the registry refuses the kept one.
func TestTokensAreFetchedOnceForManyReaders(t *testing.T) {
	s := stocked(t, registrytest.Options{}, nil)
	gate := &tokenGate{asked: make(chan struct{}, 10)}
	s.registry.SetFault(gate.stand)
	tokensAsked := func() (n int) {
		for _, r := range s.registry.Requests() {
			if r.Path == registrytest.TokenPath {
				n++
			}
		}
		return n
	}
	hold := make(chan struct{})
	gate.hold.Store(&hold)
	waiting := make(chan string, 20)
	h := s.client.hosts.use(s.registry.Host(), s.client.open)
	defer s.client.hosts.done(h)
	h.tokens.fetches.Joined = func(key string) { waiting <- key }
	impatient, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- s.read(impatient, "app") }()
	<-gate.asked
	var readers sync.WaitGroup
	for range 20 {
		readers.Go(func() {
			if err := s.read(t.Context(), "app"); err != nil {
				t.Error(err)
			}
		})
	}
	for range 20 {
		<-waiting
	}
	leave()
	faultCase{want: reason.Timeout}.check(t, <-left)
	close(hold)
	readers.Wait()
	if n := tokensAsked(); n != 1 {
		t.Errorf("%d tokens for 21 readers", n)
	}
	gate.revoked.Add(1)
	if err := s.read(t.Context(), "app"); err != nil {
		t.Errorf("with a token that is revoked: %v", err)
	}
	if n := tokensAsked(); n != 2 {
		t.Errorf("%d tokens; want a second one", n)
	}
	gate.revoked.Add(1000) // none is good any more
	faultCase{want: reason.RegistryUnauthorized}.check(t, s.read(t.Context(), "app"))
	if n := tokensAsked(); n != 3 {
		t.Errorf("%d tokens; want one more try", n)
	}
}

// tokenGate wants a token of its own making, "token-<n>", of which the last is good unless it was revoked.
type tokenGate struct {
	made, revoked atomic.Int64
	hold          atomic.Pointer[chan struct{}] // tokens are made when it is closed
	asked         chan struct{}                 // gets an element for each request for a token
}

func (g *tokenGate) stand(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if r.URL.Path == registrytest.TokenPath {
		g.asked <- struct{}{}
		select {
		case <-*g.hold.Load():
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
		fmt.Fprintf(w, `{"token":"token-%d"}`, g.made.Add(1))
		return
	}
	if made := g.made.Load(); made > g.revoked.Load() && r.Header.Get("Authorization") == fmt.Sprintf("Bearer token-%d", made) {
		next.ServeHTTP(w, r)
		return
	}
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s%s",service="test",scope="repository:acme/app:pull"`, r.Host, registrytest.TokenPath))
	w.WriteHeader(http.StatusUnauthorized)
}

// TestTokensAreBounded also checks that a fetch ends when nobody waits for it, and that its panic becomes an error.
func TestTokensAreBounded(t *testing.T) {
	leftBehind(t)
	kept := newTokens()
	for i := range 3 * maxTokens {
		scope := fmt.Sprintf("repository:acme/%d:pull", i)
		if token, err := kept.Set(t.Context(), "registry", auth.SchemeBearer, scope, func(context.Context) (string, error) { return scope, nil }); err != nil || token != scope {
			t.Fatal(token, err)
		}
	}
	if n := kept.known.Len(); n != maxTokens {
		t.Errorf("%d tokens; want %d", n, maxTokens)
	}
	long := strings.Repeat("x", maxTokenBytes/10)
	for i := range 50 {
		if _, err := kept.Set(t.Context(), fmt.Sprint(i), auth.SchemeBearer, long, func(context.Context) (string, error) { return long, nil }); err != nil {
			t.Fatal(err)
		}
	}
	bytes := 0
	for key, item := range kept.known.Items() {
		bytes += len(key) + len(item.Value())
	}
	if bytes > maxTokenBytes {
		t.Errorf("%d bytes of tokens and their scopes are kept; want at most %d", bytes, maxTokenBytes)
	}
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := kept.Set(ctx, "registry", auth.SchemeBearer, "hangs", func(ctx context.Context) (string, error) {
		<-ctx.Done()
		close(ended)
		return "", ctx.Err()
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("abandoned: %v", err)
	}
	<-ended
	if _, err := kept.Set(t.Context(), "registry", auth.SchemeBearer, "panics", func(context.Context) (string, error) { panic("no") }); err == nil {
		t.Error("a panic gave a token")
	}
}

// TestReadsFollowTheEgressRule to loopback only where the registry has such a name and the operator allows it, and never
// to a metadata service.
func TestReadsFollowTheEgressRule(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	here := strings.TrimPrefix(server.URL, "http://")
	tests := map[string]struct {
		own, to string
		allow   bool
		refused bool
	}{
		"loopback from another registry":                        {"registry.example.com", here, false, true},
		"loopback from another registry, though it is allowed":  {"registry.example.com", here, true, true},
		"loopback from a private address, though it is allowed": {"10.0.0.1:5000", here, true, true},
		"loopback from loopback":                                {here, here, false, true},
		"loopback from loopback where that is allowed":          {here, here, true, false},
		"loopback from localhost where that is allowed":         {"localhost:5000", here, true, false},
		"metadata from loopback":                                {here, "169.254.169.254", true, true},
		"metadata in another spelling":                          {"registry.example.com", "[64:ff9b::a9fe:a9fe]", false, true},
		"metadata that is named as a registry":                  {"169.254.169.254", "169.254.169.254", true, true},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			client, err := New(Options{AllowLoopback: test.allow})
			if err != nil {
				t.Fatal(err)
			}
			h := client.open(test.own)
			t.Cleanup(h.transport.CloseIdleConnections)
			response, err := h.web.Get("http://" + test.to + "/")
			if err == nil {
				response.Body.Close()
			}
			var refused *egress.Error
			if errors.As(err, &refused) != test.refused || !test.refused && err != nil {
				t.Errorf("%v; refused should be %t", err, test.refused)
			}
		})
	}
}
