package records

import (
	"slices"
	"sync"
)

// ring holds the records that came last. A nil ring holds none.
type ring struct {
	most int // records

	mu      sync.Mutex
	entries []entry // the oldest first
	bytes   int
}

// entry is a record in memory, with what it is found by.
type entry struct {
	id, namespace, outcome string
	line                   []byte
}

// Filter chooses records. Empty texts choose all.
type Filter struct {
	Namespace, Outcome string
	Most               int
}

// add takes a record in, and forgets the oldest until there is room.
func (r *ring) add(e entry) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, e)
	r.bytes += len(e.line)
	forgotten := 0
	for len(r.entries)-forgotten > r.most || r.bytes > maxRingBytes {
		r.bytes -= len(r.entries[forgotten].line)
		r.entries[forgotten] = entry{}
		forgotten++
	}
	r.entries = r.entries[forgotten:]
}

func (r *ring) size() int {
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.entries)
}

func (r *ring) find(id string) ([]byte, bool) {
	if r == nil {
		return nil, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.entries, func(e entry) bool { return e.id == id })
	if i < 0 {
		return nil, false
	}
	return r.entries[i].line, true
}

func (r *ring) recent(filter Filter) (lines [][]byte) {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range slices.Backward(r.entries) {
		if len(lines) == filter.Most {
			break
		}
		if (filter.Namespace == "" || e.namespace == filter.Namespace) && (filter.Outcome == "" || e.outcome == filter.Outcome) {
			lines = append(lines, e.line)
		}
	}
	return lines
}
