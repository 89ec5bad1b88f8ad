package plugin

import (
	"context"
	"runtime"
	"sync/atomic"
)

// Stats is what the plugins' processes did since the manager was made, and do now.
type Stats struct {
	Running, Queued int // processes now, and callers who wait for one to end
	OpenCircuits    int // plugins, by the root certificate of the signatures, that are left alone now
	Started         uint64
	Refused         uint64 // processes that did their work and refused the signature
	Failed          uint64 // processes whose failure was the plugin's own, those that were out of time included
	LeftAlone       uint64 // calls that were answered without a process, by an open circuit
}

// pool bounds the processes that run at once.
type pool struct {
	slots                               chan struct{}
	queued                              atomic.Int64
	started, refused, failed, leftAlone atomic.Uint64
}

func newPool(size int) *pool {
	if size < 1 {
		size = max(2, 2*runtime.GOMAXPROCS(0))
	}
	return &pool{slots: make(chan struct{}, size)}
}

// enter waits for a slot, for as long as ctx lasts; the caller frees it with leave.
func (p *pool) enter(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	p.queued.Add(1)
	defer p.queued.Add(-1)
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pool) leave() { <-p.slots }

// count notes how a call has ended.
func (p *pool) count(err error) {
	switch failure, ok := err.(*Error); {
	case !ok:
	case failure.open:
		p.leftAlone.Add(1)
	case failure.blame == blamePlugin:
		p.failed.Add(1)
	case failure.Refusal():
		p.refused.Add(1)
	}
}

// Stats gives the counts of this moment.
func (m *Manager) Stats() Stats {
	return Stats{
		Running: len(m.pool.slots), Queued: int(m.pool.queued.Load()), OpenCircuits: m.circuits.open(),
		Started: m.pool.started.Load(), Refused: m.pool.refused.Load(), Failed: m.pool.failed.Load(), LeftAlone: m.pool.leftAlone.Load(),
	}
}
