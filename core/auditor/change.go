package auditor

import "time"

// change is a change of trust that is being followed up, from when it was seen to when the last report on it was written.
type change struct {
	began     time.Time // zero for none
	checks    map[*check]bool
	workloads map[*workload]bool
	affected  bool            // something was to be done
	took      []time.Duration // of changes that were followed up; see State.Changes
}

// begin counts a change of trust. One that comes before the last was followed up is counted with it.
func (c *change) begin(now time.Time) {
	if c.checks == nil {
		c.checks, c.workloads = map[*check]bool{}, map[*workload]bool{}
	}
	if c.began.IsZero() {
		c.began = now
	}
}

// add has the change wait for a check.
func (c *change) add(of *check) {
	if !c.began.IsZero() {
		c.checks[of], c.affected = true, true
	}
}

// done no longer waits for a check.
func (c *change) done(of *check) { delete(c.checks, of) }

// report has the change wait for the report of a workload.
func (c *change) report(w *workload) {
	if !c.began.IsZero() {
		c.workloads[w], c.affected = true, true
	}
}

// forget no longer waits for the report of a workload.
func (c *change) forget(w *workload) { delete(c.workloads, w) }

// settle ends the change when nothing is left to be waited for.
func (c *change) settle(now time.Time) {
	if c.began.IsZero() || len(c.checks)+len(c.workloads) > 0 {
		return
	}
	if c.affected {
		c.took = append(c.took, now.Sub(c.began))
	}
	c.began, c.affected = time.Time{}, false
}
