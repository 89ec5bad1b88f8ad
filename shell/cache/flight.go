package cache

import (
	"context"
	"errors"
	"time"
)

// flight is work under way.
type flight struct {
	cancel  context.CancelFunc
	waiting int           // callers; of the cache's mutex
	landed  chan struct{} // closed when the fields below are set

	value    any
	late     bool // its time ran out
	panicked any
}

// join finds the work for a key, under way or just done, or starts it. It has the values of the caller's context but
// not its end.
func (c *Cache) join(ctx context.Context, key Key, work func(context.Context) (any, Keep)) (f *flight, started bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f, ok := c.flights[key]; ok {
		f.waiting++
		c.counts[key.Kind].shared.Add(1)
		return f, false
	}
	if found, hit := c.lookup(key); hit { // it landed after the caller had looked
		return arrived(found), false
	}
	c.counts[key.Kind].misses.Add(1)
	f = &flight{waiting: 1, landed: make(chan struct{})}
	detached, cancel := c.detach(ctx)
	f.cancel = cancel
	c.flights[key] = f
	go c.fly(detached, key, f, work, c.flushes)
	return f, true
}

// arrived is the flight of an outcome that is there.
func arrived(value any) *flight {
	f := &flight{cancel: func() {}, waiting: 1, landed: make(chan struct{}), value: value}
	close(f.landed)
	return f
}

func (c *Cache) detach(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx = context.WithoutCancel(ctx)
	if c.options.Timeout > 0 {
		return context.WithTimeout(ctx, c.options.Timeout)
	}
	return context.WithCancel(ctx)
}

// fly does the work and keeps its outcome, unless it was cut short or there was a flush in the meantime.
func (c *Cache) fly(ctx context.Context, key Key, f *flight, work func(context.Context) (any, Keep), flushes uint64) {
	began := c.options.Now()
	var keep Keep
	func() {
		defer func() { f.panicked = recover() }()
		f.value, keep = work(ctx)
	}()
	whole := f.panicked == nil && ctx.Err() == nil
	f.late = errors.Is(ctx.Err(), context.DeadlineExceeded)
	f.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	if whole && flushes == c.flushes {
		c.put(key, f.value, keep, began)
	}
	if c.flights[key] == f {
		delete(c.flights, key)
	}
	close(f.landed)
}

// grace is how long the one who began work before its deadline waits past it: the work has run out of time too, and will
// say at what.
const grace = 80 * time.Millisecond

// wait waits for a flight to land, or for the caller's own end. The last to leave ends the work.
func (c *Cache) wait(ctx context.Context, key Key, f *flight, started bool) (any, bool) {
	select {
	case <-f.landed:
	case <-ctx.Done():
		if !started || ctx.Err() != context.DeadlineExceeded || !f.landsWithin(grace) {
			c.leave(key, f)
			return nil, false
		}
	}
	if f.panicked != nil {
		panic(f.panicked)
	}
	return f.value, true
}

func (f *flight) landsWithin(d time.Duration) bool {
	select {
	case <-f.landed:
		return true
	case <-time.After(d):
		return false
	}
}

func (c *Cache) leave(key Key, f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.waiting--
	if f.waiting > 0 {
		return
	}
	f.cancel()
	if c.flights[key] == f { // who comes now begins anew
		delete(c.flights, key)
	}
}
