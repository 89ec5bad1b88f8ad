package audit

import (
	"slices"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Change says what a proposed trust would change for a use.
type Change string

// The changes, worst first.
const (
	NewlyDenied      Change = "NewlyDenied"
	NotTold          Change = "Unknown"          // one of the two verdicts could not be told
	NoLongerVerified Change = "NoLongerVerified" // admitted, but without verification
	NewlyAdmitted    Change = "NewlyAdmitted"
)

// Changes lists the changes, worst first.
func Changes() []Change { return []Change{NewlyDenied, NotTold, NoLongerVerified, NewlyAdmitted} }

// Words are the change for a person.
func (c Change) Words() string {
	switch c {
	case NewlyDenied:
		return "would newly be denied"
	case NoLongerVerified:
		return "would no longer be verified"
	case NewlyAdmitted:
		return "would newly be admitted"
	}
	return "could not tell"
}

// Side is a verdict on one side of a change.
type Side struct {
	Code   reason.Code `json:"code"`
	Reason string      `json:"reason"`
}

// Flip is a use that a change of trust affects.
type Flip struct {
	Use
	TrustPolicy string `json:"trustPolicy,omitempty"`
	Change      Change `json:"change"`
	Now         Side   `json:"now"`
	Proposed    Side   `json:"proposed"`
}

// Flips gives the uses for which a restart would go otherwise under the proposed trust, and those for which it could not be
// told, in the order of the uses.
func Flips(demand Demand, uses []Use, now, proposed Verdicts) []Flip {
	flips := []Flip{}
	for _, use := range uses {
		check, _ := demand.Checks(use)
		before, after := now.of(check), proposed.of(check)
		if change := changeOf(before, after); change != "" {
			flips = append(flips, Flip{use, check.TrustPolicy, change, Side{before.Code, before.Reason}, Side{after.Code, after.Reason}})
		}
	}
	return flips
}

// changeOf is "" where nothing changes for who deploys.
func changeOf(before, after Verdict) Change {
	switch {
	case before.undecided() || after.undecided():
		return NotTold
	case before.hides(after):
		return NotTold
	case before.admitted() && after.denied():
		return NewlyDenied
	case before.denied() && after.admitted():
		return NewlyAdmitted
	case before.Code == reason.Verified && after.admitted() && after.Code != reason.Verified:
		return NoLongerVerified
	}
	return ""
}

// SumFlips gives the outcome of a proposed change: bad where it denies what is admitted now.
func SumFlips(flips []Flip) Outcome {
	return sum(
		slices.ContainsFunc(flips, func(f Flip) bool { return f.Change == NewlyDenied }),
		slices.ContainsFunc(flips, func(f Flip) bool { return f.Change == NotTold }),
	)
}
