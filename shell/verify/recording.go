package verify

import (
	"slices"
	"sync"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// Recording says of a request's facts where they come from. A nil recording records nothing. It may be read when the facts were
// given, and not before.
type Recording struct {
	Decision string // id of the decision that the facts are for
	Plugins  string // revision of the plugins
	Limits   verification.Limits
	Tasks    []Course // one per task

	one [1]Course // that of most requests, without an allocation
}

// Course says where the facts of one task come from.
type Course struct {
	How   record.How // "" where the verification panicked
	From  string     // see record.Gathered
	Asked []Asked    // of WorkedOut, in the order of the answers
}

// Asked is a lookup with its answer.
type Asked struct {
	Lookup verification.Lookup
	Answer verification.Answer
	Report *verification.Report // of a signature that was verified for this decision; nil for others
	Kept   bool                 // the answer came from the cache
	Began  time.Time
	Took   time.Duration
}

func (r *Recording) begin(tasks int, plugins string, limits verification.Limits) {
	if r == nil {
		return
	}
	r.Plugins, r.Limits = plugins, limits
	if r.Tasks = r.one[:]; tasks != 1 {
		r.Tasks = make([]Course, tasks)
	}
}

func (r *Recording) decision() string {
	if r == nil {
		return ""
	}
	return r.Decision
}

// lookups begins to collect the lookups of a task, with the one that was made before.
func (r *Recording) lookups(made bool, first Asked) *lookups {
	if r == nil {
		return nil
	}
	l := &lookups{}
	if made {
		l.add(first)
	}
	return l
}

func (r *Recording) kept(i int, from string) {
	if r != nil {
		r.Tasks[i] = Course{How: record.Kept, From: from}
	}
}

func (r *Recording) shared(i int, from string) {
	if r != nil {
		r.Tasks[i] = Course{How: record.Shared, From: from}
	}
}

func (r *Recording) unfinished(i int) {
	if r != nil {
		r.Tasks[i] = Course{How: record.Unfinished}
	}
}

func (r *Recording) workedOut(i int, log *lookups) {
	if r != nil {
		r.Tasks[i] = Course{How: record.WorkedOut, Asked: log.made()}
	}
}

// lookups collects the lookups of one task. A lookup that others share may be reported after the task has ended. Nil collects
// nothing.
type lookups struct {
	mu      sync.Mutex
	asked   []Asked
	reports map[verification.Lookup]*verification.Report
}

func (l *lookups) add(asked Asked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	asked.Answer.Document.Document = nil // which decides nothing, and may be large
	l.asked = append(l.asked, asked)
}

func (l *lookups) report(lookup verification.Lookup, report verification.Report) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reports == nil {
		l.reports = map[verification.Lookup]*verification.Report{}
	}
	l.reports[lookup] = &report
}

// made gives the lookups so far, with the reports on signatures.
func (l *lookups) made() []Asked {
	l.mu.Lock()
	defer l.mu.Unlock()
	asked := slices.Clone(l.asked)
	for i := range asked {
		asked[i].Report = l.reports[asked[i].Lookup]
	}
	return asked
}
