package registry

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/budget"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Shared is how the replicas of the service tell each other that a registry wants no requests. It may lie, and forget: what it tells
// holds requests back for a few seconds at most. Both functions return at once.
type Shared interface {
	// Tell tells the others until when a registry wants no requests.
	Tell(registry string, until time.Time)
	// Told gives the last that others told of a registry; zero for nothing.
	Told(registry string) (until time.Time)
}

// maxBudgets bounds the registries of which is remembered what they said; whoever names an image chooses the registry.
const maxBudgets = 1024

// budgets remembers what registries said of how many requests they take. It outlives their connections.
type budgets struct {
	shared Shared // nil for none

	mu    sync.Mutex
	known map[string]*state
}

// state is what one registry said.
type state struct {
	budget.State
	changed chan struct{} // closed when a pause begins or ends
	used    time.Time
}

func newBudgets(shared Shared) *budgets { return &budgets{shared: shared, known: map[string]*state{}} }

// of gives the state of a registry, with what other replicas tell of it. The caller holds mu.
func (b *budgets) of(registry string, now time.Time) *state {
	s, ok := b.known[registry]
	if !ok {
		s = &state{changed: make(chan struct{})}
		b.known[registry] = s
		b.forget(now)
	}
	s.used = now
	if b.shared != nil {
		s.Told(b.shared.Told(registry), now)
	}
	return s
}

// forget makes room for a registry: by one that is not paused, and of those by the one that was asked longest ago.
func (b *budgets) forget(now time.Time) {
	if len(b.known) <= maxBudgets {
		return
	}
	oldest := ""
	for name, s := range b.known {
		other, ok := b.known[oldest]
		if paused := s.Wait(now) > 0; !ok || paused == (other.Wait(now) > 0) && s.used.Before(other.used) || !paused && other.Wait(now) > 0 {
			oldest = name
		}
	}
	delete(b.known, oldest)
}

// await waits until a registry takes requests. With try set, the caller sends one next. It fails at once where that would be after the end
// of ctx: so nobody waits in vain.
func (b *budgets) await(ctx context.Context, registry string, try bool) error {
	for {
		wait, changed := b.wait(registry, try, time.Now())
		if wait == 0 {
			return nil
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait+leastTime {
			return &Error{Code: reason.RegistryUnavailable, cause: errPaused, Text: fmt.Sprintf(
				"the registry wants no requests now, since it has had too many; it is asked again in %s", wait.Round(100*time.Millisecond))}
		}
		select {
		case <-time.After(wait):
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// errPaused is the cause of a failure without a request.
var errPaused = fmt.Errorf("the registry is paused")

func (b *budgets) wait(registry string, try bool, now time.Time) (time.Duration, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.of(registry, now)
	if try {
		return s.Ask(now), s.changed
	}
	return s.Wait(now), s.changed
}

// hear takes in what a registry answered.
func (b *budgets) hear(registry string, reply budget.Reply, now time.Time) {
	b.mu.Lock()
	s := b.of(registry, now)
	before := s.Wait(now) > 0
	until := s.Hear(reply, now)
	if after := s.Wait(now) > 0; before != after || !after {
		close(s.changed)
		s.changed = make(chan struct{})
	}
	b.mu.Unlock()
	if !until.IsZero() && b.shared != nil {
		b.shared.Tell(registry, until)
	}
}

// Limit is what a registry says of its rate limit.
type Limit struct {
	Registry         string
	Remaining, Limit int64 // requests; Limit is 0 where it is not said
}

// limits gives what named registries say is left, in the order of their names, and how many registries are paused.
func (b *budgets) limits(now time.Time, named func(string) bool) (limits []Limit, paused int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, s := range b.known {
		if !s.Until(now).IsZero() {
			paused++
		}
		if left := s.Left(); left.Known && named(name) {
			limits = append(limits, Limit{name, left.Remaining, left.Limit})
		}
	}
	slices.SortFunc(limits, func(a, b Limit) int { return strings.Compare(a.Registry, b.Registry) })
	return limits, paused
}

// budgeted holds requests to a registry back as it wants, and hears what it answers. Of other hosts, which a registry has its tokens
// fetched from or redirects to, refusals alone are heard.
type budgeted struct {
	next     http.RoundTripper
	budgets  *budgets
	registry string
}

// RoundTrip is part of http.RoundTripper.
func (t *budgeted) RoundTrip(request *http.Request) (*http.Response, error) {
	own := request.URL.Host == hostOf(t.registry)
	if own {
		if err := t.budgets.await(request.Context(), t.registry, true); err != nil {
			return nil, err
		}
	}
	sent := time.Now()
	response, err := t.next.RoundTrip(request)
	if err != nil {
		return response, err
	}
	now := time.Now()
	reply := budget.Reply{Sent: sent, RetryAfter: -1}
	pause, said := retryAfter(response.Header.Get("Retry-After"), now)
	if said {
		reply.RetryAfter = pause
	}
	reply.Refused = response.StatusCode == http.StatusTooManyRequests || response.StatusCode == http.StatusServiceUnavailable && said
	if own {
		reply.Left = budget.ReadLeft(response.Header.Get)
	}
	if own || reply.Refused {
		t.budgets.hear(t.registry, reply, now)
	}
	return response, nil
}
