package records

import (
	"slices"
	"sync"

	"github.com/nirmata/kyverno-notation-venafi/core/record"
)

// ring holds the records that came last. A nil ring holds none.
type ring struct {
	most int // records

	mu      sync.Mutex
	entries []*entry // the oldest first
	bytes   int
}

// entry is a record in memory, with what it is found by.
type entry struct {
	id, namespace, outcome string
	bytes                  int  // of memory
	forgotten              bool // is not in the ring any more

	encoding sync.Mutex
	counted  bool // it was counted whether it is whole
	encoded  bool
	made     record.Record // while it is not encoded
	line     []byte        // once it is; nil where that failed
}

// Filter chooses records. Empty texts choose all.
type Filter struct {
	Namespace, Outcome string
	Most               int
}

// add takes a record in, and forgets the oldest until there is room.
func (r *ring) add(e *entry) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, e)
	r.bytes += e.bytes
	r.shrink()
}

// weigh takes another size of a record in, which may make the ring forget it.
func (r *ring) weigh(e *entry, bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.forgotten {
		return
	}
	r.bytes += bytes - e.bytes
	e.bytes = bytes
	r.shrink()
}

func (r *ring) shrink() {
	forgotten := 0
	for len(r.entries)-forgotten > r.most || r.bytes > maxRingBytes {
		oldest := r.entries[forgotten]
		r.bytes -= oldest.bytes
		oldest.forgotten, r.entries[forgotten] = true, nil
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

// find gives the record of an id; nil where it is not there.
func (r *ring) find(id string) *entry {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.entries, func(e *entry) bool { return e.id == id })
	if i < 0 {
		return nil
	}
	return r.entries[i]
}

func (r *ring) recent(filter Filter) (found []*entry) {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range slices.Backward(r.entries) {
		if len(found) == filter.Most {
			break
		}
		if (filter.Namespace == "" || e.namespace == filter.Namespace) && (filter.Outcome == "" || e.outcome == filter.Outcome) {
			found = append(found, e)
		}
	}
	return found
}
