package function

import (
	"context"
	"sync"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/tracing"
)

// deadline is a context that ends at a time, as that of context.WithDeadline does, but whose timer starts when somebody first
// waits for its end. Most requests are answered from the cache, and nobody does.
type deadline struct {
	context.Context // of the caller
	at              time.Time

	mu     sync.Mutex
	timed  context.Context // nil until somebody waits
	cancel context.CancelFunc
}

// release frees what the context holds, and ends it for those who wait for it.
func (d *deadline) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cancel != nil {
		d.cancel()
	}
}

// started gives the context with the timer, or nil if nobody waits for it.
func (d *deadline) started() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.timed
}

// Deadline is part of context.Context.
func (d *deadline) Deadline() (at time.Time, ok bool) {
	if earlier, ok := d.Context.Deadline(); ok && earlier.Before(d.at) {
		return earlier, true
	}
	return d.at, true
}

// Done is part of context.Context. It starts the timer.
func (d *deadline) Done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timed == nil {
		d.timed, d.cancel = context.WithDeadline(d.Context, d.at)
	}
	return d.timed.Done()
}

// Err is part of context.Context.
func (d *deadline) Err() error {
	if timed := d.started(); timed != nil {
		return timed.Err()
	}
	if err := d.Context.Err(); err != nil {
		return err
	}
	if time.Now().Before(d.at) {
		return nil
	}
	return context.DeadlineExceeded
}

// Value is part of context.Context. Contexts made of this one find the timer's by it, and so need no goroutine.
func (d *deadline) Value(key any) any {
	if tracing.IsKey(key) { // the trace of a request begins within it
		return nil
	}
	if timed := d.started(); timed != nil {
		return timed.Value(key)
	}
	return d.Context.Value(key)
}
