package core_test

import (
	"errors"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// TestGoldenDecisionsReplay records the decision of every golden case, reads the record, and decides again on it. A record that
// says otherwise is found.
func TestGoldenDecisionsReplay(t *testing.T) {
	replayed := 0
	for _, path := range goldenPaths(t) {
		c := readGolden(t, path)
		plan, verdict, err := c.run()
		if err != nil || len(plan.Tasks) != len(c.facts) {
			continue // no verdict, or facts of none
		}
		made := record.Record{ID: "01J0000000000000000000000A", Time: c.clock, Plan: record.NewPlan(plan, "", verification.Limits{}, func(int) bool { return false }), Evidence: []record.Gathered{}, Verdict: verdict, Patches: core.Patches(verdict)}
		for i, fact := range c.facts {
			made.Evidence = append(made.Evidence, record.Gathered{How: record.Kept, Fact: fact.fact(plan.Tasks[i], c.clock)})
		}
		_, line, err := record.Encode(made)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		read, err := record.Decode(line)
		if err == nil {
			err = record.Replay(read)
		}
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		replayed++
		if len(read.Verdict.Results) == 0 {
			continue
		}
		mended := read
		mended.Verdict.Results = append([]core.Result{}, read.Verdict.Results...)
		mended.Verdict.Results[0].Reason += "."
		var differs *record.DifferenceError
		if err := record.Replay(mended); !errors.As(err, &differs) {
			t.Errorf("%s: the replay of another verdict gives %v", path, err)
		}
	}
	if replayed < 100 {
		t.Errorf("only %d golden cases were replayed", replayed)
	}
}
