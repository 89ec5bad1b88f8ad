package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Accept says which findings do not count.
type Accept struct {
	Partial bool // the beginning may be missing: it is in files that were rotated away
	Open    bool // the end may be missing: a replica still writes, or was killed
}

// Report joins what the files hold, and gives the result.
func (v *Verifier) Report(accept Accept) Report {
	chains := map[string]*chain{}
	for _, name := range slices.Sorted(maps.Keys(v.segments)) {
		chains[name] = v.join(name)
	}
	for _, name := range slices.Sorted(maps.Keys(chains)) {
		v.follow(chains[name], chains)
	}
	v.vouch(slices.Collect(maps.Values(chains)))
	for _, name := range slices.Sorted(maps.Keys(v.seen)) {
		v.compareSeen(name, chains[name])
	}
	v.report.Chains = []Summary{}
	for _, name := range slices.Sorted(maps.Keys(chains)) {
		v.end(chains[name])
		v.report.Chains = append(v.report.Chains, chains[name].Summary)
	}
	slices.SortStableFunc(v.report.Chains, func(a, b Summary) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.Chain, b.Chain))
	})
	if len(chains) == 0 {
		v.find(Unsigned, 0, "", "there is no chain")
	}
	v.report.Whole = v.report.More == 0
	for i, finding := range v.report.Findings {
		accepted := finding.Kind == Partial && accept.Partial || finding.Kind == Open && accept.Open
		v.report.Findings[i].Accepted = accepted
		v.report.Whole = v.report.Whole && accepted
	}
	return v.report
}

// chain is a chain whose segments are joined.
type chain struct {
	Summary
	last      *segment
	covered   uint64 // lines, from sequence 0 on, that its own checkpoints vouch for, and after [Verifier.vouch] chains that come after it
	before    *chain // that it follows; nil for none
	followers int
}

// join puts the segments of a chain in order, and compares their ends.
func (v *Verifier) join(name string) *chain {
	segments := v.segments[name]
	slices.SortStableFunc(segments, func(a, b *segment) int { return cmp.Compare(a.first, b.first) })
	first := segments[0]
	c := &chain{Summary: Summary{Chain: name, First: first.first}}
	if first.first > 0 {
		v.findAt(Partial, first, fmt.Sprintf("the chain begins with sequence %d here; what is before it is in no file", first.first))
	}
	for i, s := range segments {
		if i > 0 {
			v.meet(c, segments[i-1], s)
		}
		c.add(s)
	}
	return c
}

// meet compares a segment with the one before it in another file.
func (v *Verifier) meet(c *chain, before, s *segment) {
	switch {
	case before.file == s.file: // a gap in a file was found already
	case s.first > before.head.Sequence+1:
		v.findAt(Missing, s, fmt.Sprintf("the chain goes from sequence %d, in %s, to %d", before.head.Sequence, before.file, s.first))
	case s.first <= before.head.Sequence:
		v.findAt(Repeated, s, fmt.Sprintf("sequence %d is in %s too", s.first, before.file))
	case s.previous != before.head.Hash:
		v.findAt(Changed, s, fmt.Sprintf("the line does not follow the end of %s", before.file))
	}
	switch {
	case before.closed:
		v.findAt(Appended, s, "the chain was closed before this line")
	case !s.firstTime.IsZero() && s.firstTime.Before(before.signed):
		v.findAt(BadTime, s, fmt.Sprintf("it is signed at %s, and what is before it at %s", formatTime(s.firstTime), formatTime(before.signed)))
	case c.Replica != "" && s.replica != "" && (c.Replica != s.replica || !c.Started.Equal(s.started)):
		v.findAt(Contradict, s, "its checkpoints name another replica or start")
	}
}

func (c *chain) add(s *segment) {
	c.Head, c.last, c.Closed = s.head, s, s.closed
	c.Records += s.records
	c.Dropped += s.dropped
	c.Checkpoints += s.good
	if s.replica != "" {
		c.Replica, c.Started = s.replica, s.started
	}
	if s.start != nil {
		c.After = s.start.After
	}
	if s.good > 0 {
		c.SignedAt, c.Key, c.covered = s.signed, KeyFingerprint(s.key), s.signedSeq+1
	}
}

func (v *Verifier) findAt(kind Kind, s *segment, text string) {
	v.file = s.file
	v.find(kind, s.firstLine, s.head.Chain, text)
}

// follow compares a chain with the one that it says it comes after.
func (v *Verifier) follow(c *chain, chains map[string]*chain) {
	if c.After == nil {
		return
	}
	start := v.segments[c.Chain][0]
	before := chains[c.After.Chain]
	if before == nil {
		v.findAt(Partial, start, fmt.Sprintf("the chain comes after chain %s, which is in no file", c.After.Chain))
		return
	}
	hash, there := before.last.hashAt(c.After.Sequence)
	switch {
	case c.After.Sequence > before.Head.Sequence:
		v.findAt(Missing, start, fmt.Sprintf("chain %s went up to sequence %d when this one began, and ends at %d now: its end was cut off", before.Chain, c.After.Sequence, before.Head.Sequence))
	case !there:
		v.findAt(Contradict, start, fmt.Sprintf("chain %s goes on for more than %d lines after the one that this chain names", before.Chain, MaxUnconfirmed))
	case hash != c.After.Hash:
		v.findAt(Changed, start, fmt.Sprintf("the end of chain %s is not what this chain says", before.Chain))
	case before.Started.After(c.Started):
		v.findAt(BadTime, start, fmt.Sprintf("the chain started before chain %s, after which it comes", before.Chain))
	default:
		c.before = before
		before.followers++
		before.ContinuedBy = c.Chain
	}
}

// vouch takes in that a chain for which something signed vouches also vouches for the lines of the chain that it names, up to the
// one that it names. The last chains come first, so that each is looked at once. Chains that claim to follow each other in a circle,
// which only changed lines can, vouch for nothing but themselves.
func (v *Verifier) vouch(chains []*chain) {
	left := map[*chain]int{} // followers that are not looked at yet
	var ready []*chain
	for _, c := range chains {
		if left[c] = c.followers; c.followers == 0 {
			ready = append(ready, c)
		}
	}
	for len(ready) > 0 {
		c := ready[len(ready)-1]
		ready = ready[:len(ready)-1]
		v.steps++
		if c.before == nil {
			continue
		}
		if c.covered > 0 {
			c.before.covered = max(c.before.covered, c.After.Sequence+1)
		}
		if left[c.before]--; left[c.before] == 0 {
			ready = append(ready, c.before)
		}
	}
}

// compareSeen demands a chain to be at least as long as it was seen before.
func (v *Verifier) compareSeen(name string, c *chain) {
	for _, head := range v.seen[name] {
		v.steps++
		switch {
		case c == nil:
			v.find(Partial, 0, name, fmt.Sprintf("the chain was seen up to sequence %d before, and is in no file", head.Sequence))
		case c.Head.Sequence < head.Sequence:
			v.find(Rollback, 0, name, fmt.Sprintf("the chain was seen up to sequence %d before, and ends at %d now", head.Sequence, c.Head.Sequence))
		}
	}
}

// end says what is not proven about the end of a chain.
func (v *Verifier) end(c *chain) {
	lines := c.Head.Sequence + 1
	c.Unsigned = lines - min(lines, c.covered)
	switch {
	case c.covered == 0:
		v.find(Unsigned, 0, c.Chain, fmt.Sprintf("nothing signs any of its %d lines, so they prove nothing", c.last.head.Sequence+1-c.First))
	case c.Closed:
	case c.Unsigned > 0:
		v.find(Open, 0, c.Chain, fmt.Sprintf("unsigned since %s: the last %d lines; nor is the chain closed", sinceWhen(c), c.Unsigned))
	case c.followers == 0:
		v.find(Open, 0, c.Chain, fmt.Sprintf("the chain is not closed: what came after %s, if anything, is missing", sinceWhen(c)))
	}
}

func sinceWhen(c *chain) string {
	if c.SignedAt.IsZero() {
		return "its start"
	}
	return formatTime(c.SignedAt)
}
