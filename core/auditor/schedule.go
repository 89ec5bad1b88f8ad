package auditor

import (
	"cmp"
	"hash/fnv"
	"strings"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Cause says why an image is verified.
type Cause string

// The causes, the most urgent first.
const (
	ForTrust Cause = "trust" // a change of trust affects it
	ForNew   Cause = "new"   // it was not verified yet
	ForRetry Cause = "retry" // it could not be told
	ForAge   Cause = "age"   // its interval is over
)

// Causes lists the causes.
func Causes() []Cause { return []Cause{ForTrust, ForNew, ForRetry, ForAge} }

// Task is an image to verify now, under the trust of now. Each task must be answered by Verified.
type Task struct {
	audit.Check
	Registry string // "" for an image that cannot be parsed
	Cause    Cause
	Revision string // of the trust

	check *check
	of    *space // whose turn it is
}

// Times of verifying again.
const (
	firstRetry = 10 * time.Second // after an image could not be told; doubled up to the interval
	endMargin  = time.Second      // after a moment from which a signature does not verify any longer
	// keptFor is for how many intervals a verdict stays while its registry fails.
	keptFor = 3
	// othersTurn is the share of turns, one in so many, of what no change of trust affects, while one is followed up.
	othersTurn = 4
)

// Ready gives the time until a registry may be asked; 0 for now.
type Ready func(registry string) time.Duration

// Next gives an image to verify now, or else the time after which there may be one; what is seen meanwhile can shorten that. What
// a change of trust affects goes first, in three turns of four. Within that the namespace goes first whose last turn is longest ago.
func (s *State) Next(now time.Time, ready Ready) (*Task, time.Duration) {
	wait := s.options.Interval
	var best [2]*check // of urgent ones, and of the others
	var of [2]*space
	for _, sp := range s.spaces {
		if sp.busy >= s.options.MaxOfOne {
			continue
		}
		for c := range sp.checks {
			if c.busy || s.busy[c.registry] >= s.options.MaxOfRegistry {
				continue
			}
			pause := c.due.Sub(now)
			if pause <= 0 { // only then is the registry looked up, since most are not due
				pause = s.pause(c, ready)
			}
			if pause > 0 {
				wait = min(wait, pause)
				continue
			}
			i := 1
			if c.urgent {
				i = 0
			}
			if best[i] == nil || earlier(sp, c, of[i], best[i]) {
				best[i], of[i] = c, sp
			}
		}
	}
	i := 0
	if best[0] == nil || best[1] != nil && s.picks%othersTurn == othersTurn-1 {
		i = 1
	}
	if best[i] == nil {
		return nil, wait
	}
	s.picks++
	s.turns++
	of[i].turn = s.turns
	return s.begin(best[i], of[i]), 0
}

func (s *State) pause(c *check, ready Ready) time.Duration {
	if c.registry == "" {
		return 0
	}
	return ready(c.registry)
}

// earlier orders checks that could be made: by the turn of their namespace, by cause, by time, and else by name, so that the same
// state gives the same answer.
func earlier(sp *space, c *check, than *space, other *check) bool {
	if sp != than { // which is so for most, and costs little to see
		return cmp.Or(cmp.Compare(sp.turn, than.turn), strings.Compare(sp.name, than.name)) < 0
	}
	return cmp.Or(cmp.Compare(rank(c), rank(other)), c.due.Compare(other.due), c.Compare(other.Check)) < 0
}

func (c *check) cause() Cause {
	switch {
	case c.urgent:
		return ForTrust
	case c.verdict == nil && c.failures == 0:
		return ForNew
	case c.failures > 0:
		return ForRetry
	}
	return ForAge
}

func rank(c *check) int {
	for i, cause := range Causes() {
		if cause == c.cause() {
			return i
		}
	}
	return len(Causes())
}

func (s *State) begin(c *check, of *space) *Task {
	c.busy = true
	of.busy++
	s.busy[c.registry]++
	return &Task{Check: c.Check, Registry: c.registry, Cause: c.cause(), Revision: c.wanted, check: c, of: of}
}

// Verified takes in the verdict of a task.
func (s *State) Verified(task *Task, verdict audit.Verdict, now time.Time) {
	c := task.check
	c.busy = false
	task.of.busy--
	if s.busy[c.registry]--; s.busy[c.registry] == 0 {
		delete(s.busy, c.registry)
	}
	if s.checks[c.Check] != c {
		return // nothing runs it any longer
	}
	s.judge(c, verdict, task.Revision, now)
	s.change.settle(now)
}

// judge takes in a verdict. While a registry fails the last one stays for some time, if trust is the same: what was found is not
// undone by what could not be found out.
func (s *State) judge(c *check, verdict audit.Verdict, revision string, now time.Time) {
	undecided := !verdict.Decided()
	current := revision == c.wanted
	if undecided {
		c.failures++
	} else {
		c.failures = 0
	}
	c.due = now.Add(s.pauseAfter(c, verdict, now))
	if undecided && c.verdict != nil && c.revision == revision && now.Sub(c.at) < keptFor*s.options.Interval {
		c.urgent = c.urgent && !current
		s.follow(c, current)
		return
	}
	same := c.verdict != nil && alike(*c.verdict, verdict)
	verdict.Ends, verdict.Anchors = nil, nil
	verdict.Reason = reason.Clip(verdict.Reason, reason.MaxWords)
	affected := c.urgent || c.revision != "" && c.revision != revision
	c.verdict, c.revision, c.at = &verdict, revision, now
	for w := range c.users {
		if !same || w.said == nil || w.said.Revision != w.revision() || s.stale(*w.said, now.Unix()) {
			w.touch()
			if affected {
				s.change.report(w)
			}
		}
	}
	c.urgent = false
	s.follow(c, current)
}

// follow has a check whose trust changed meanwhile made again at once.
func (s *State) follow(c *check, current bool) {
	if current {
		s.change.done(c)
		return
	}
	c.urgent, c.due = true, c.at
}

// pauseAfter gives the time until a check is made again: a good one before it ends, and one that could not be told sooner.
func (s *State) pauseAfter(c *check, verdict audit.Verdict, now time.Time) time.Duration {
	if !verdict.Decided() {
		return min(firstRetry<<min(c.failures-1, 20), s.options.Interval)
	}
	pause := s.options.Interval - spread(c, s.options.Interval/10)
	for _, end := range verdict.Ends {
		if left := end.At.Sub(now); left > 0 {
			pause = min(pause, left+endMargin)
		}
	}
	return pause
}

// spread gives each check a part of a time of its own, so that those that were made together are not always made together.
func spread(c *check, over time.Duration) time.Duration {
	hash := fnv.New32a()
	hash.Write([]byte(c.Image + "\n" + c.TrustPolicy + "\n" + c.Rules))
	return over * time.Duration(hash.Sum32()%1000) / 1000
}

// alike tells whether two verdicts give the same report.
func alike(a, b audit.Verdict) bool {
	return a.Code == b.Code && a.Reason == b.Reason && a.Digest == b.Digest && a.Signer == b.Signer && strings.Join(a.Warnings, "\n") == strings.Join(b.Warnings, "\n")
}
