package fair

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// Queue bounds the number of callers that work at once (seats) and the number that wait. Waiting tenants take turns; the
// callers of one tenant are served in order of arrival. No tenant gets more than three quarters of the seats nor half of
// the queue, and no part of a tenant, such as one registry, gets more than three quarters of its tenant's seats. Make one
// with NewQueue.
//
// Beside the shared seats there are as many reserve seats, of which each tenant may hold one: a tenant without a seat is
// served at once. So one tenant is held up only when as many others as there are seats hold a reserve seat each.
type Queue struct {
	seats, tenantSeats, partSeats        int // in all, of one tenant, of one part of a tenant
	length, tenantLength, reservedLength int // of the queue: in all, of one tenant, and of a tenant while the queue is full

	mu      sync.Mutex
	inUse   map[string]int // seats by tenant
	parts   map[member]int // seats by part of a tenant that has parts
	total   int
	waiting map[string][]waiter // by tenant, in order of arrival
	turns   []string            // the tenants that wait, in the order of their turns
	queued  int
	refused int64
	spare   chan struct{} // closed at the next change that may leave a seat to spare; nil while nobody waits for that
}

// member is a part of a tenant.
type member struct{ tenant, part string }

// waiter is a caller that waits; turn is closed when it gets its seat.
type waiter struct {
	turn chan struct{}
	part string
}

// ErrFull refuses a caller at once because the queue is full.
var ErrFull = errors.New("too many are waiting")

// NewQueue makes a queue with a number of seats, at least 1, for which at most length callers wait; 0 lets nobody wait.
func NewQueue(seats, length int) *Queue {
	tenantSeats := threeQuarters(seats)
	return &Queue{
		seats: seats, tenantSeats: tenantSeats, partSeats: threeQuarters(tenantSeats),
		length: length, tenantLength: min(length, max(1, length/2)), reservedLength: (length + 63) / 64,
		inUse: map[string]int{}, parts: map[member]int{}, waiting: map[string][]waiter{},
	}
}

// threeQuarters rounds down, so that a seat is left for others even where there are few, but one is always had.
func threeQuarters(seats int) int { return max(1, seats*3/4) }

// Acquire takes a seat for a part of a tenant ("" when the tenant has no parts) and waits for it until ctx ends. The
// caller gives the seat back with Release. The error is ErrFull or that of ctx.
func (q *Queue) Acquire(ctx context.Context, tenant, part string) error {
	turn, err := q.acquireOrQueue(tenant, part)
	if turn == nil {
		return err
	}
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		if q.giveUp(tenant, turn) {
			return ctx.Err()
		}
		return nil // it got the seat at the same moment
	}
}

// acquireOrQueue takes a free seat and gives no channel, or queues the caller and gives the channel that is closed when
// it gets its seat.
func (q *Queue) acquireOrQueue(tenant, part string) (turn chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	ahead := len(q.waiting[tenant])
	switch {
	case q.next(tenant) < 0 && q.hasSeat(tenant, part): // no earlier caller of the tenant could take the seat
		q.seat(tenant, part)
		return nil, nil
	case ahead >= q.tenantLength, q.queued >= q.length && (ahead >= q.reservedLength || q.queued >= 2*q.length):
		q.refused++
		return nil, ErrFull
	}
	turn = make(chan struct{})
	if ahead == 0 {
		q.turns = append(q.turns, tenant)
	}
	q.waiting[tenant] = append(q.waiting[tenant], waiter{turn, part})
	q.queued++
	return turn, nil
}

// hasSeat tells whether a part of a tenant may take a seat now.
func (q *Queue) hasSeat(tenant, part string) bool {
	if q.inUse[tenant] == 0 {
		return q.total < 2*q.seats // the reserve seats count
	}
	return q.total < q.seats && q.inUse[tenant] < q.tenantSeats && (part == "" || q.parts[member{tenant, part}] < q.partSeats)
}

func (q *Queue) seat(tenant, part string) {
	q.inUse[tenant]++
	if part != "" {
		q.parts[member{tenant, part}]++
	}
	q.total++
}

// next gives the index of the tenant's first waiter that may take a seat now; -1 for none.
func (q *Queue) next(tenant string) int {
	return slices.IndexFunc(q.waiting[tenant], func(w waiter) bool { return q.hasSeat(tenant, w.part) })
}

// giveUp takes a waiter out of the queue; false when it has its seat already.
func (q *Queue) giveUp(tenant string, turn chan struct{}) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.IndexFunc(q.waiting[tenant], func(w waiter) bool { return w.turn == turn })
	if i >= 0 {
		q.unqueue(tenant, i)
		q.changed()
	}
	return i >= 0
}

// unqueue removes the tenant's waiter i from the queue.
func (q *Queue) unqueue(tenant string, i int) {
	q.queued--
	q.waiting[tenant] = slices.Delete(q.waiting[tenant], i, i+1)
	if len(q.waiting[tenant]) > 0 {
		return
	}
	delete(q.waiting, tenant)
	q.turns = slices.DeleteFunc(q.turns, func(other string) bool { return other == tenant })
}

// Release gives back a seat that Acquire took, and seats the waiters that fit now.
func (q *Queue) Release(tenant, part string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total--
	decrement(q.inUse, tenant)
	if part != "" {
		decrement(q.parts, member{tenant, part})
	}
	for i := 0; i < len(q.turns); {
		tenant := q.turns[i]
		first := q.next(tenant)
		if first < 0 {
			i++ // the tenant has all the seats that it may have
			continue
		}
		q.turns = append(slices.Delete(q.turns, i, i+1), tenant) // its next turn comes after all others'
		seated := q.waiting[tenant][first]
		q.unqueue(tenant, first)
		q.seat(tenant, seated.part)
		close(seated.turn)
	}
	q.changed()
}

// AwaitSpare waits until a tenant could have one of the shared seats that no waiter can have. It takes none, so a caller
// that acquires a seat next finds one, unless others came in between. It is for work that comes after all other.
func (q *Queue) AwaitSpare(ctx context.Context, tenant, part string) error {
	for {
		spare := q.spareOrWatch(tenant, part)
		if spare == nil {
			return nil
		}
		select {
		case <-spare:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// spareOrWatch gives nil when there is a seat to spare, or the channel that is closed at the next change.
func (q *Queue) spareOrWatch(tenant, part string) <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	// While one of the shared seats is free, those who wait may not have it: Release has offered it to all of them.
	if q.total < q.seats && len(q.waiting[tenant]) == 0 && q.hasSeat(tenant, part) {
		return nil
	}
	if q.spare == nil {
		q.spare = make(chan struct{})
	}
	return q.spare
}

// changed wakes those who wait for a seat to spare.
func (q *Queue) changed() {
	if q.spare != nil {
		close(q.spare)
		q.spare = nil
	}
}

// decrement lowers a count and removes it at 0, so that the map holds no tenants of the past.
func decrement[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] == 0 {
		delete(counts, key)
	}
}

// Stats counts the seats in use and the waiters now, and the callers refused since the start.
type Stats struct {
	InUse, Queued int
	Refused       int64
}

// Stats gives the counts of this moment.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Stats{InUse: q.total, Queued: q.queued, Refused: q.refused}
}
