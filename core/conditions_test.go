package core_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// decided gives the finding on an image whose attestation has a document.
func decided(plan core.Plan, document string, now time.Time, ended func() bool) (*reason.Finding, verification.Evaluation) {
	fact := attestedFact(plan, document, now, ended)
	return verification.Check(plan.Tasks[0], fact, now), *fact.Attestations[0].Candidates[0].Evaluation
}

func TestEvaluationDependsOnTheGivenTime(t *testing.T) {
	plan := planOf(t, withType(`"name":"scan","conditions":{"all":[{"key":"{{ time_since('', at, '') }}","operator":"DurationLessThan","value":"24h"}]}`))
	for after, met := range map[time.Duration]bool{0: true, time.Hour: true, 24 * time.Hour: false} {
		finding, evaluation := decided(plan, `{"at":"2026-03-01T00:00:00Z"}`, noon.Add(after), nil)
		if met != (finding == nil) || !evaluation.TimeDependent || !evaluation.At.Equal(noon.Add(after)) {
			t.Errorf("after %s: %+v, %+v", after, finding, evaluation)
		}
	}
	plan = planOf(t, withType(`"name":"scan","conditions":{"all":[{"key":"{{ at }}","operator":"Equals","value":"x"}]}`))
	if _, evaluation := decided(plan, `{"at":"x"}`, noon, nil); evaluation.TimeDependent {
		t.Error("a condition without a clock depends on the time")
	}
}

func TestEvaluationOfAnEndedRequestIsATimeout(t *testing.T) {
	for _, by := range []verification.Select{verification.SelectAll, verification.SelectLatest, verification.SelectAny} {
		for _, condition := range []string{
			`{"key":"{{ list }}","operator":"AllNotIn","value":["x"]}`,
			`{"key":"{{ list }}","operator":"AnyIn","value":["x"]}`,
		} {
			plan := planOf(t, withType(`"name":"scan","select":"`+string(by)+`","conditions":{"all":[`+condition+`]}`))
			finding, _ := decided(plan, `{"list":["x",`+strings.Repeat(`1,`, 10000)+`1]}`, noon, func() bool { return true })
			if finding == nil || finding.Code != reason.Timeout || !strings.Contains(finding.Reason, "time ran out while its conditions were evaluated; try again") {
				t.Errorf("select %s, %s: %+v", by, condition, finding)
			}
		}
	}
}

func TestEvaluationOverItsBudgetDenies(t *testing.T) {
	plan := planOf(t, withType(`"name":"scan","conditions":{"all":[{"key":"{{ list`+strings.Repeat(`|[@,@][]`, 40)+` }}","operator":"AllNotIn","value":["x"]}]}`))
	finding, _ := decided(plan, `{"list":["y","z"]}`, noon, nil)
	if finding == nil || finding.Code != reason.ConditionInvalid || !finding.Code.Definitive() || !strings.Contains(finding.Reason, "select a part of the document first") {
		t.Errorf("%+v", finding)
	}
}
