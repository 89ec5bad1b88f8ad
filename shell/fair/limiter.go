package fair

import (
	"context"
	"slices"
	"sync"
)

// Limiter bounds the callers that work at once. Those that wait are served by tenant in turns, and in order of arrival for each: a
// tenant with many callers holds up others by one turn. Make one with NewLimiter.
type Limiter struct {
	seats int

	mu      sync.Mutex
	inUse   int
	waiting map[string][]chan struct{} // by tenant, in order of arrival; closed when it is their turn
	turns   []string                   // the tenants that wait, in the order of their turns
	queued  int
}

// NewLimiter makes a limiter with a number of seats.
func NewLimiter(seats int) *Limiter {
	return &Limiter{seats: seats, waiting: map[string][]chan struct{}{}}
}

// Acquire waits for a seat until ctx ends. The caller gives it back with Release. The tenant is that of [WithTenant]. The error is
// that of ctx.
func (l *Limiter) Acquire(ctx context.Context) error {
	tenant := tenantOf(ctx)
	turn := l.acquireOrQueue(tenant)
	if turn == nil {
		return nil
	}
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		if l.giveUp(tenant, turn) {
			return ctx.Err()
		}
		return nil // it got the seat at the same moment
	}
}

func (l *Limiter) acquireOrQueue(tenant string) (turn chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inUse < l.seats {
		l.inUse++
		return nil
	}
	turn = make(chan struct{})
	if len(l.waiting[tenant]) == 0 {
		l.turns = append(l.turns, tenant)
	}
	l.waiting[tenant] = append(l.waiting[tenant], turn)
	l.queued++
	return turn
}

// giveUp takes a caller out of its queue; false when it has its seat already.
func (l *Limiter) giveUp(tenant string, turn chan struct{}) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.waiting[tenant], turn)
	if i >= 0 {
		l.unqueue(tenant, i)
	}
	return i >= 0
}

func (l *Limiter) unqueue(tenant string, i int) {
	l.queued--
	l.waiting[tenant] = slices.Delete(l.waiting[tenant], i, i+1)
	if len(l.waiting[tenant]) == 0 {
		delete(l.waiting, tenant)
		l.turns = slices.DeleteFunc(l.turns, func(other string) bool { return other == tenant })
	}
}

// Release gives back a seat that Acquire took, to the tenant whose turn it is.
func (l *Limiter) Release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.turns) == 0 {
		l.inUse--
		return
	}
	tenant := l.turns[0]
	l.turns = append(l.turns[1:], tenant) // its next turn comes after all others'
	turn := l.waiting[tenant][0]
	l.unqueue(tenant, 0)
	close(turn)
}

// Seats, InUse and Waiting count the seats, those in use now, and the callers that wait now.
func (l *Limiter) Seats() int { return l.seats }

func (l *Limiter) InUse() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inUse
}

func (l *Limiter) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queued
}

type tenantKey struct{}

// WithTenant says for whom the work under a context is done, such as a trust policy. Without it, work is that of nobody in particular.
func WithTenant(ctx context.Context, tenant string) context.Context {
	return context.WithValue(ctx, tenantKey{}, tenant)
}

func tenantOf(ctx context.Context) string {
	tenant, _ := ctx.Value(tenantKey{}).(string)
	return tenant
}
