package callertoken

import (
	"fmt"
	"time"
)

// Policy says how long a token is used.
type Policy struct {
	Period      time.Duration // after which a token is replaced; 0 for never, and then what can be used is left alone
	Propagation time.Duration // within which every policy and every replica reads a change
}

// shortestPeriod is the least number of propagation times in a period: two of them are waits, with two tokens that are accepted.
const shortestPeriod = 4

// Validate says why a policy cannot be followed.
func (p Policy) Validate() error {
	switch {
	case p.Period < 0:
		return fmt.Errorf("the token of callers, or the key of the shared cache, lasts %s; it must be 0, for one that is never replaced, or longer", p.Period)
	case p.Period > 0 && p.Period < shortestPeriod*p.Propagation:
		return fmt.Errorf("the token of callers, or the key of the shared cache, lasts %s; it must be at least %d times the propagation delay, %s, or 0 for one that is never replaced", p.Period, shortestPeriod, p.Propagation)
	}
	return nil
}

// Step is what to do next.
type Step struct {
	Reason string        // why to write Want; "" when there is nothing to write
	Want   State         // what the Secret should hold
	Wait   time.Duration // when there is nothing to write: after which to look again even without a change
}

// Next decides the next step. fresh is a new random token, used where one is needed. seen is for how long this process has seen
// the Secret as it is, by a clock that does not jump.
func (p Policy) Next(s State, fresh string, now time.Time, seen time.Duration) Step {
	if flaw := Flaw(s.Token); flaw != "" {
		// The others go too: whoever empties the token may want all of them revoked.
		return Step{Reason: "the token " + flaw, Want: State{Token: fresh, Since: now}}
	}
	if p.Period == 0 {
		return Step{Wait: longestWait}
	}
	if step, unsound := sound(s); unsound {
		return step
	}
	waited, want := seen >= p.Propagation, s
	switch {
	case s.Since.IsZero() || s.Since.After(now):
		want.Since = now
		return Step{Reason: "since when the token is used is not recorded", Want: want}
	case s.Previous != "" && waited:
		want.Previous = ""
		return Step{Reason: "whoever uses it had time to learn of the token after the previous one", Want: want}
	case s.Next != "" && waited:
		return Step{Reason: "replicas had time to learn of the next token", Want: State{Token: s.Next, Previous: s.Token, Since: now}}
	case s.Previous != "" || s.Next != "":
		return Step{Wait: p.Propagation - seen}
	case !now.Before(s.Since.Add(p.Period)):
		want.Next = fresh
		return Step{Reason: "the next token is due", Want: want}
	}
	return Step{Wait: min(s.Since.Add(p.Period).Sub(now), longestWait)}
}

const longestWait = 24 * time.Hour

// sound removes a token beside the first that cannot be used or is one too many.
func sound(s State) (Step, bool) {
	want := s
	switch flaw := Flaw(s.Previous); {
	case s.Previous != "" && flaw != "":
		want.Previous = ""
		return Step{Reason: "the previous token " + flaw, Want: want}, true
	case s.Previous != "" && s.Previous == s.Token:
		want.Previous = ""
		return Step{Reason: "the previous token is the token", Want: want}, true
	}
	switch flaw := Flaw(s.Next); {
	case s.Next != "" && flaw != "":
		want.Next = ""
		return Step{Reason: "the next token " + flaw, Want: want}, true
	case s.Next != "" && (s.Next == s.Token || s.Previous != ""):
		want.Next = "" // it is used nowhere yet, and another one is made later
		return Step{Reason: "the next token is one too many", Want: want}, true
	}
	return Step{}, false
}
