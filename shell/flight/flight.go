// Package flight does work once for all callers that ask for the same key at the same time.
//
// The first caller of a key starts a flight: a goroutine that does the work. Callers that come before it lands wait for
// the same result. A caller whose context ends stops waiting; when the last one has left, the work's context is canceled,
// unless the group says otherwise.
package flight

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Group shares work by key. The zero value is ready to use. Its settings must not change after the first Do.
type Group[K comparable, V any] struct {
	Timeout time.Duration // of each flight, whoever waits for it; 0 for none
	Grace   time.Duration // how long the caller that started a flight waits past its own deadline for what the flight says
	Joined  func(K)       // is told of each caller that waits for a flight that another started; nil for nobody
	GoesOn  bool          // whether a flight goes on when its last caller has left, since its result is of use to the next

	mu      sync.Mutex
	flights map[K]*flight[V]
}

// flight is work under way.
type flight[V any] struct {
	cancel  context.CancelFunc
	waiting int           // callers; guarded by Group.mu
	landed  chan struct{} // closed when the fields below are set

	value    V
	late     bool // its timeout passed
	panicked any
}

// Do gives the result of the work for a key: of the flight under way, or of a new one. The work's context has the values
// of the starting caller's context but not its end. Do is not ok when ctx ended first. A flight that ran out of its time
// counts for the caller that started it; others start anew with the time they have left. A panic of the work is raised in
// every caller.
func (g *Group[K, V]) Do(ctx context.Context, key K, work func(context.Context) V) (value V, ok bool) {
	for {
		f, started := g.join(ctx, key, work)
		if !g.wait(ctx, key, f, started) {
			return value, false
		}
		if f.late && !started && ctx.Err() == nil {
			continue
		}
		return f.value, true
	}
}

// Forget detaches the flights of the chosen keys: callers that come later start anew. Those that wait already get the
// result.
func (g *Group[K, V]) Forget(chosen func(K) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for key := range g.flights {
		if chosen(key) {
			delete(g.flights, key)
		}
	}
}

func (g *Group[K, V]) join(ctx context.Context, key K, work func(context.Context) V) (f *flight[V], started bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f, ok := g.flights[key]; ok {
		f.waiting++
		if g.Joined != nil {
			g.Joined(key)
		}
		return f, false
	}
	detached, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if g.Timeout > 0 {
		detached, cancel = context.WithTimeout(context.WithoutCancel(ctx), g.Timeout)
	}
	f = &flight[V]{waiting: 1, landed: make(chan struct{}), cancel: cancel}
	if g.flights == nil {
		g.flights = map[K]*flight[V]{}
	}
	g.flights[key] = f
	go g.fly(detached, key, f, work)
	return f, true
}

// fly does the work.
func (g *Group[K, V]) fly(ctx context.Context, key K, f *flight[V], work func(context.Context) V) {
	func() {
		defer func() { f.panicked = recover() }()
		f.value = work(ctx)
	}()
	f.late = errors.Is(ctx.Err(), context.DeadlineExceeded)
	f.cancel()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.remove(key, f)
	close(f.landed)
}

// wait waits until a flight has landed, or until the caller's context ends.
func (g *Group[K, V]) wait(ctx context.Context, key K, f *flight[V], started bool) bool {
	select {
	case <-f.landed:
	case <-ctx.Done():
		if !started || ctx.Err() != context.DeadlineExceeded || !f.landsWithin(g.Grace) {
			g.leave(key, f)
			return false
		}
	}
	if f.panicked != nil {
		panic(f.panicked)
	}
	return true
}

func (f *flight[V]) landsWithin(d time.Duration) bool {
	select {
	case <-f.landed:
		return true
	case <-time.After(d):
		return false
	}
}

// leave is for a caller that gives up. The last one ends the work.
func (g *Group[K, V]) leave(key K, f *flight[V]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.waiting--; f.waiting == 0 && !g.GoesOn {
		f.cancel()
		g.remove(key, f)
	}
}

// remove forgets a flight, unless another one has taken its place.
func (g *Group[K, V]) remove(key K, f *flight[V]) {
	if g.flights[key] == f {
		delete(g.flights, key)
	}
}
