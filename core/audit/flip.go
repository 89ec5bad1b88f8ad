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
	NoLongerSelected Change = "NoLongerSelected" // no trust policy applies to the namespace any more
	NoLongerVerified Change = "NoLongerVerified" // admitted, but without verification
	NewlyAdmitted    Change = "NewlyAdmitted"
)

// Changes lists the changes, worst first.
func Changes() []Change {
	return []Change{NewlyDenied, NotTold, NoLongerSelected, NoLongerVerified, NewlyAdmitted}
}

// Words are the change for a person.
func (c Change) Words() string {
	switch c {
	case NewlyDenied:
		return "would newly be denied"
	case NoLongerSelected:
		return "would no longer be under a trust policy"
	case NoLongerVerified:
		return "would no longer be verified"
	case NewlyAdmitted:
		return "would newly be admitted"
	}
	return "could not tell"
}

// Untold tells whether it is not known how what is proposed would go.
func (c Change) Untold() bool { return c == NotTold || c == NoLongerSelected }

// Side is a verdict on one side of a change.
type Side struct {
	TrustPolicy string      `json:"trustPolicy,omitempty"` // that decided; "" for the default, and where none applies
	Code        reason.Code `json:"code"`
	Reason      string      `json:"reason"`
}

// Flip is a use that a change of trust affects.
type Flip struct {
	Use
	Change   Change `json:"change"`
	Now      Side   `json:"now"`
	Proposed Side   `json:"proposed"`
}

// Flips gives the uses for which a restart would go otherwise as proposed, and those for which it could not be told, in the order
// of the uses.
func Flips(uses []Use, now, proposed Evaluation) []Flip {
	flips := []Flip{}
	for _, use := range uses {
		policy, before := now.worst(use)
		proposedPolicy, after := proposed.worst(use)
		if change := changeOf(before, after); change != "" {
			flips = append(flips, Flip{use, change, Side{policy, before.Code, before.Reason}, Side{proposedPolicy, after.Code, after.Reason}})
		}
	}
	return flips
}

// worst gives the worst verdict on what a restart of a use would pull, and the trust policy of it. Of denials the one is worse
// that says something against the image.
func (e Evaluation) worst(use Use) (trustPolicy string, worst Verdict) {
	least := -1
	for _, demand := range e.Demands.Of(use.Namespace) {
		verdict := e.restart(demand, use)
		if rank := verdict.rank(); least < 0 || rank < least {
			trustPolicy, worst, least = demand.TrustPolicy, verdict, rank
		}
	}
	return trustPolicy, worst
}

// changeOf is "" where nothing changes for who deploys.
func changeOf(before, after Verdict) Change {
	switch {
	case before.Code == reason.NoTrustPolicy && (after.admitted() || after.Code == reason.NoTrustPolicy):
		return ""
	case before.Code == reason.NoTrustPolicy && after.denied():
		return NewlyDenied
	case after.Code == reason.NoTrustPolicy:
		return NoLongerSelected
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

// SumFlips gives the outcome of a proposed change: bad where it denies what is not denied now, and indefinite where it leaves
// something without a trust policy.
func SumFlips(flips []Flip) Outcome {
	return sum(
		slices.ContainsFunc(flips, func(f Flip) bool { return f.Change == NewlyDenied }),
		slices.ContainsFunc(flips, func(f Flip) bool { return f.Change.Untold() }),
	)
}
