package plugin

import "sync/atomic"

// Stats counts the plugins' processes now and since the manager was made.
type Stats struct {
	Running, Queued int // processes now, and callers that wait for one to end
	OpenCircuits    int // that answer without starting a process now
	Started         uint64
	Refused         uint64 // processes that did their work and refused the signature
	Failed          uint64 // processes that failed through the plugin's own fault, timeouts included
	LeftAlone       uint64 // calls that an open circuit answered without a process
}

// counts are those of processes and calls since the start.
type counts struct{ started, refused, failed, leftAlone atomic.Uint64 }

// count notes how a call ended.
func (c *counts) count(err error) {
	switch failure, ok := err.(*Error); {
	case !ok:
	case failure.open:
		c.leftAlone.Add(1)
	case failure.blame == blamePlugin:
		c.failed.Add(1)
	case failure.Refusal():
		c.refused.Add(1)
	}
}

// Stats gives the counts of this moment.
func (m *Manager) Stats() Stats {
	return Stats{
		Running: m.processes.InUse(), Queued: m.processes.Waiting(), OpenCircuits: m.circuits.open(),
		Started: m.counts.started.Load(), Refused: m.counts.refused.Load(), Failed: m.counts.failed.Load(), LeftAlone: m.counts.leftAlone.Load(),
	}
}
