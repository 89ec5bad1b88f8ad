// Package fair shares a bounded number of places between tenants, so that the burst of one does not starve another.
package fair

import (
	"context"
	"errors"
	"sync"
)

// Gate lets a bounded number in at once, and a bounded number wait. Of those who wait, the tenants take turns; of one
// tenant, who came first goes first. No tenant gets all places, nor more than half of the queue, so that another finds
// one soon. Make one with New.
type Gate struct {
	places, share int // in all, and of one tenant
	queue, line   int // the same for those who wait

	mu      sync.Mutex
	inside  map[string]int
	total   int
	waiting map[string][]chan struct{} // by tenant; closed to let in
	turns   []string                   // the tenants that wait, in the order of their turns
	queued  int
	refused int64
}

// ErrFull refuses someone at once, since the queue is full: to wait would not end well.
var ErrFull = errors.New("too many are waiting")

// New makes a gate with a number of places, at least 1, and a queue of a length; 0 lets nobody wait.
func New(places, queue int) *Gate {
	return &Gate{
		places: places, share: max(1, places-places/4),
		queue: queue, line: (queue + 1) / 2,
		inside: map[string]int{}, waiting: map[string][]chan struct{}{},
	}
}

// Enter takes a place for a tenant, waiting for its turn until ctx ends. The place is given back by Leave. The error
// is ErrFull, or that of ctx.
func (g *Gate) Enter(ctx context.Context, tenant string) error {
	turn, err := g.stand(tenant)
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
func (g *Gate) stand(tenant string) (turn chan struct{}, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	ahead := len(g.waiting[tenant])
	switch {
	case ahead == 0 && g.admits(tenant):
		g.letIn(tenant)
		return nil, nil
	case g.queued >= g.queue || ahead >= g.line:
		g.refused++
		return nil, ErrFull
	}
	turn = make(chan struct{})
	if ahead == 0 {
		g.turns = append(g.turns, tenant)
	}
	g.waiting[tenant] = append(g.waiting[tenant], turn)
	g.queued++
	return turn, nil
}

func (g *Gate) admits(tenant string) bool { return g.total < g.places && g.inside[tenant] < g.share }

func (g *Gate) letIn(tenant string) {
	g.inside[tenant]++
	g.total++
}

// giveUp leaves the queue; false when the turn has come already.
func (g *Gate) giveUp(tenant string, turn chan struct{}) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, other := range g.waiting[tenant] {
		if other == turn {
			g.unqueue(tenant, i)
			return true
		}
	}
	return false
}

// unqueue takes the tenant's i-th out of the queue.
func (g *Gate) unqueue(tenant string, i int) {
	g.queued--
	line := g.waiting[tenant]
	g.waiting[tenant] = append(line[:i:i], line[i+1:]...)
	if len(g.waiting[tenant]) > 0 {
		return
	}
	delete(g.waiting, tenant)
	for j, other := range g.turns {
		if other == tenant {
			g.turns = append(g.turns[:j:j], g.turns[j+1:]...)
			return
		}
	}
}

// Leave gives a place back that Enter gave.
func (g *Gate) Leave(tenant string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	if g.inside[tenant]--; g.inside[tenant] == 0 {
		delete(g.inside, tenant)
	}
	for i := 0; i < len(g.turns); {
		next := g.turns[i]
		if !g.admits(next) {
			i++ // it has its share
			continue
		}
		g.turns = append(append(g.turns[:i:i], g.turns[i+1:]...), next) // behind the others, if it still waits
		turn := g.waiting[next][0]
		g.unqueue(next, 0)
		g.letIn(next)
		close(turn)
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
