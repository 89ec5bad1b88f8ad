// Package fair shares a bounded number of places between tenants, so that the burst of one does not starve another.
package fair

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// Gate lets a bounded number in at once, and a bounded number wait. Of those who wait, the tenants take turns; of one
// tenant, who came first goes first. No tenant gets more than three quarters of the places nor half of the queue, and no
// part of a tenant, such as one registry, more than three quarters of the tenant's. Make one with New.
//
// However many tenants act together, a tenant that has nobody inside is let in at once: beside the places that all share
// there are as many again, of which each tenant may have one. So it takes as many others as there are places, each of them
// stalled, to hold up a tenant altogether.
type Gate struct {
	places, share, part int // in all, of one tenant, and of one part of it
	queue, line, own    int // in all, of one tenant, and of a tenant although the queue is full

	mu      sync.Mutex
	inside  map[string]int
	parts   map[member]int
	total   int
	waiting map[string][]waiter // by tenant
	turns   []string            // the tenants that wait, in the order of their turns
	queued  int
	refused int64
}

// member is a part of a tenant.
type member struct{ tenant, part string }

// waiter is one who waits; turn is closed to let in.
type waiter struct {
	turn chan struct{}
	part string
}

// ErrFull refuses someone at once, since the queue is full: to wait would not end well.
var ErrFull = errors.New("too many are waiting")

// New makes a gate with a number of places, at least 1, and a queue of a length; 0 lets nobody wait.
func New(places, queue int) *Gate {
	share := max(1, places-places/4)
	return &Gate{
		places: places, share: share, part: share - share/4,
		queue: queue, line: (queue + 1) / 2, own: (queue + 63) / 64,
		inside: map[string]int{}, parts: map[member]int{}, waiting: map[string][]waiter{},
	}
}

// Enter takes a place for a part of a tenant, "" for no certain one, waiting for its turn until ctx ends. The place is
// given back by Leave. The error is ErrFull, or that of ctx.
func (g *Gate) Enter(ctx context.Context, tenant, part string) error {
	turn, err := g.stand(tenant, part)
	if turn == nil {
		return err
	}
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		if g.giveUp(tenant, turn) {
			return ctx.Err()
		}
		return nil // its turn came at the same moment
	}
}

// stand takes a place at once, or one in the queue, whose turn comes when the channel is closed.
func (g *Gate) stand(tenant, part string) (turn chan struct{}, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	ahead := len(g.waiting[tenant])
	switch {
	case g.next(tenant) < 0 && g.admits(tenant, part): // nobody ahead could go first
		g.letIn(tenant, part)
		return nil, nil
	case ahead >= g.line, g.queued >= g.queue && (ahead >= g.own || g.queued >= 2*g.queue):
		g.refused++
		return nil, ErrFull
	}
	turn = make(chan struct{})
	if ahead == 0 {
		g.turns = append(g.turns, tenant)
	}
	g.waiting[tenant] = append(g.waiting[tenant], waiter{turn, part})
	g.queued++
	return turn, nil
}

func (g *Gate) admits(tenant, part string) bool {
	if g.inside[tenant] == 0 {
		return g.total < 2*g.places
	}
	return g.total < g.places && g.inside[tenant] < g.share && (part == "" || g.parts[member{tenant, part}] < g.part)
}

func (g *Gate) letIn(tenant, part string) {
	g.inside[tenant]++
	g.parts[member{tenant, part}]++
	g.total++
}

// next gives which of those of a tenant who wait is to be let in; -1 for none.
func (g *Gate) next(tenant string) int {
	return slices.IndexFunc(g.waiting[tenant], func(w waiter) bool { return g.admits(tenant, w.part) })
}

// giveUp leaves the queue; false when the turn has come already.
func (g *Gate) giveUp(tenant string, turn chan struct{}) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.IndexFunc(g.waiting[tenant], func(w waiter) bool { return w.turn == turn })
	if i >= 0 {
		g.unqueue(tenant, i)
	}
	return i >= 0
}

// unqueue takes the tenant's i-th out of the queue.
func (g *Gate) unqueue(tenant string, i int) {
	g.queued--
	g.waiting[tenant] = slices.Delete(g.waiting[tenant], i, i+1)
	if len(g.waiting[tenant]) > 0 {
		return
	}
	delete(g.waiting, tenant)
	g.turns = slices.DeleteFunc(g.turns, func(other string) bool { return other == tenant })
}

// Leave gives a place back that Enter gave.
func (g *Gate) Leave(tenant, part string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	drop(g.inside, tenant)
	drop(g.parts, member{tenant, part})
	for i := 0; i < len(g.turns); {
		tenant := g.turns[i]
		first := g.next(tenant)
		if first < 0 {
			i++ // it has its share
			continue
		}
		g.turns = append(slices.Delete(g.turns, i, i+1), tenant) // behind the others, if it still waits
		entering := g.waiting[tenant][first]
		g.unqueue(tenant, first)
		g.letIn(tenant, entering.part)
		close(entering.turn)
	}
}

// drop takes one off a count that is kept only while there is one.
func drop[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] == 0 {
		delete(counts, key)
	}
}

// Stats are the places taken and the queue of this moment, and how many were refused since the start.
type Stats struct {
	Inside, Queued int
	Refused        int64
}

// Stats gives counts.
func (g *Gate) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Stats{Inside: g.total, Queued: g.queued, Refused: g.refused}
}
