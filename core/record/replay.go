package record

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// CutError is a record that cannot be replayed.
type CutError struct{ Cut []string }

// Error names what was cut.
func (e *CutError) Error() string {
	return "the record cannot be replayed, since it lacks " + strings.Join(e.Cut, "; ")
}

// DifferenceError is a replay that does not come to what was recorded.
type DifferenceError struct {
	What               string // such as "the verdict"
	Recorded, Replayed string // JSON
}

// Error names the difference.
func (e *DifferenceError) Error() string {
	return fmt.Sprintf("%s differs: recorded is %s, and the core gives %s", e.What, e.Recorded, e.Replayed)
}

// Replay has the core decide again on what a record holds: on the reports about signatures, then step by step on the answers to
// lookups, then on the facts. It gives nil where all that comes out equals what was recorded, byte for byte.
func Replay(r Record) error {
	if !r.Replayable {
		return &CutError{r.Cut}
	}
	plan := r.Plan.plan()
	facts := make([]verification.Fact, len(r.Evidence))
	for i, gathered := range r.Evidence {
		task := plan.Tasks[i]
		facts[i] = gathered.Fact
		if gathered.How != WorkedOut {
			continue
		}
		if !r.Altered { // a text that was cut where it is altered comes out otherwise
			if err := gathered.assessed(task, r.Time); err != nil {
				return err
			}
		}
		fact, err := gathered.followed(task, r.Time)
		if err == nil {
			err = same(fmt.Sprintf("the facts about %s", task.Ref), gathered.Fact, fact)
		}
		if err != nil {
			return err
		}
	}
	verdict := core.Decide(plan, facts, r.Time)
	if err := same("the verdict", r.Verdict, verdict); err != nil {
		return err
	}
	if err := same("the outcome", r.Outcome, OutcomeOf(verdict.Class)); err != nil {
		return err
	}
	return same("the list of patches", r.Patches, core.Patches(verdict))
}

// assessed holds the assessments of signatures against the reports that they were made of.
func (g Gathered) assessed(task verification.Task, now time.Time) error {
	for _, asked := range g.Asked {
		if asked.Report == nil || asked.Lookup.Kind != verification.Signature {
			continue
		}
		assessment := verification.Assess(task, asked.Report.Whole(), now)
		if err := same("the assessment of signature "+asked.Lookup.Subject, asked.Answer.Signature, assessment); err != nil {
			return err
		}
	}
	return nil
}

// followed takes the steps of a verification with the recorded answers.
func (g Gathered) followed(task verification.Task, now time.Time) (verification.Fact, error) {
	if g.How != WorkedOut {
		return g.Fact, nil
	}
	evidence := make(verification.Evidence, len(g.Asked))
	for _, asked := range g.Asked {
		evidence[asked.Lookup] = asked.Answer
	}
	step := verification.Next(task, evidence, now)
	if step.Outcome == nil {
		return verification.Fact{}, fmt.Errorf("the record has no answer to the lookup of the %s of %s@%s", step.Lookups[0].Kind, step.Lookups[0].Repository, step.Lookups[0].Subject)
	}
	return step.Outcome.Fact, nil
}

// same compares two values by their canonical JSON.
func same(what string, recorded, replayed any) error {
	texts := [2][]byte{}
	for i, value := range []any{recorded, replayed} {
		text, err := marshal(value)
		if err == nil {
			texts[i], err = canonicalValue(text)
		}
		if err != nil {
			return fmt.Errorf("%s has no form in JSON: %w", what, err)
		}
	}
	if bytes.Equal(texts[0], texts[1]) {
		return nil
	}
	return &DifferenceError{What: what, Recorded: string(texts[0]), Replayed: string(texts[1])}
}

// canonicalValue is the canonical form of any JSON value.
func canonicalValue(text []byte) ([]byte, error) {
	return Canonical(append(append([]byte("["), text...), ']'))
}
