package fair

import (
	"context"
	"sync/atomic"
)

// Limiter bounds the callers that work at once, in order of arrival and without regard to tenants. Make one with
// NewLimiter.
type Limiter struct {
	seats   chan struct{} // one element for each seat in use
	waiting atomic.Int64
}

// NewLimiter makes a limiter with a number of seats.
func NewLimiter(seats int) *Limiter { return &Limiter{seats: make(chan struct{}, seats)} }

// Acquire waits for a seat until ctx ends. The caller gives it back with Release. The error is that of ctx.
func (l *Limiter) Acquire(ctx context.Context) error {
	select {
	case l.seats <- struct{}{}:
		return nil
	default:
	}
	l.waiting.Add(1)
	defer l.waiting.Add(-1)
	select {
	case l.seats <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Release gives back a seat that Acquire took.
func (l *Limiter) Release() { <-l.seats }

// Seats, InUse and Waiting count the seats, those in use now, and the callers that wait now.
func (l *Limiter) Seats() int   { return cap(l.seats) }
func (l *Limiter) InUse() int   { return len(l.seats) }
func (l *Limiter) Waiting() int { return int(l.waiting.Load()) }
