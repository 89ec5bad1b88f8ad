package core_test

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// settled is a case's facts with its attestations settled, and how many were.
func (c goldenCase) settled(plan core.Plan) (facts []core.Fact, n int) {
	for i, fact := range c.facts {
		if i >= len(plan.Tasks) {
			break
		}
		var found []core.AttestationsFact
		for j, demand := range plan.Tasks[i].Attestations {
			if j >= len(fact.Attestations) {
				break
			}
			settled := core.Settle(plan.Tasks[i], demand, fact.Attestations[j], fact.Digest, c.clock, nil)
			if !settled.Settled.Clocked {
				n++
			}
			found = append(found, settled)
		}
		fact.Attestations = found
		facts = append(facts, fact)
	}
	return facts, n
}

// TestSettlingChangesNoVerdict holds every golden case against itself with what was settled beforehand.
func TestSettlingChangesNoVerdict(t *testing.T) {
	settled := 0
	for _, path := range goldenPaths(t) {
		c := readGolden(t, path)
		plan, want, err := c.run()
		if err != nil {
			continue
		}
		facts, n := c.settled(plan)
		settled += n
		if got := core.Decide(plan, facts, c.clock); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v\nwant %+v", path, got, want)
		}
	}
	if settled < 10 {
		t.Errorf("only %d attestations were settled", settled)
	}
}

// TestJudgingChangesNoVerdict holds every golden case against itself with its payloads judged beforehand, and gone.
func TestJudgingChangesNoVerdict(t *testing.T) {
	judged := 0
	for _, path := range goldenPaths(t) {
		c := readGolden(t, path)
		plan, want, err := c.run()
		if err != nil {
			continue
		}
		for i, fact := range c.facts {
			for j, found := range fact.Attestations {
				for k, candidate := range found.Candidates {
					if i >= len(plan.Tasks) || j >= len(plan.Tasks[i].Attestations) || candidate.Payload == nil {
						continue
					}
					judgement := core.Judge(plan.Tasks[i].Attestations[j], candidate.Payload, c.clock, nil)
					candidate.Payload, candidate.Judged = nil, &judgement
					found.Candidates[k] = candidate
					judged++
				}
			}
		}
		if got := core.Decide(plan, c.facts, c.clock); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v\nwant %+v", path, got, want)
		}
	}
	if judged < 20 {
		t.Errorf("only %d payloads were judged", judged)
	}
}

// TestWhatIsNotSettled is what another moment may judge otherwise.
func TestWhatIsNotSettled(t *testing.T) {
	for _, path := range goldenPaths(t) {
		name := filepath.Base(path)
		if !strings.HasPrefix(name, "condition-time-now") && !strings.HasPrefix(name, "condition-time-since") {
			continue
		}
		c := readGolden(t, path)
		plan, _, err := c.run()
		if err != nil {
			t.Fatal(err)
		}
		if _, n := c.settled(plan); n != 0 {
			t.Errorf("%s: its condition reads the clock, and was settled", name)
		}
	}
}

func TestKeepUntil(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	signature := func(valid, fresh time.Duration) core.SignatureFact {
		at := func(d time.Duration) (when time.Time) {
			if d != 0 {
				when = noon.Add(d)
			}
			return when
		}
		return core.SignatureFact{Verified: true, ValidUntil: at(valid), FreshUntil: at(fresh)}
	}
	tests := map[string]struct {
		signatures []core.SignatureFact
		want       time.Duration // from noon; 0 for never
	}{
		"nothing ends":                   {[]core.SignatureFact{signature(0, 0)}, 0},
		"the signature ends":             {[]core.SignatureFact{signature(time.Hour, 0)}, time.Hour},
		"a list ends":                    {[]core.SignatureFact{signature(0, time.Hour)}, time.Hour},
		"both end":                       {[]core.SignatureFact{signature(time.Hour, time.Minute)}, time.Minute},
		"of several, the first one ends": {[]core.SignatureFact{signature(0, 0), signature(time.Hour, 0), signature(time.Minute, 0)}, time.Minute},
	}
	for sentence, test := range tests {
		var found core.AttestationsFact
		for _, s := range test.signatures {
			found.Candidates = append(found.Candidates, core.AttestationFact{Signature: s})
		}
		var want time.Time
		if test.want != 0 {
			want = noon.Add(test.want)
		}
		if got := found.KeepUntil(); !got.Equal(want) {
			t.Errorf("%s: %s; want %s", sentence, got, want)
		}
	}
}

func TestWhatLasts(t *testing.T) {
	rejected := func(codes ...reason.Code) core.SignatureFact {
		var s core.SignatureFact
		for _, code := range codes {
			s.Rejected = append(s.Rejected, reason.Finding{Code: code})
		}
		return s
	}
	tests := map[string]struct {
		signature core.SignatureFact
		want      bool
	}{
		"a good signature":                      {core.SignatureFact{Verified: true}, true},
		"a good one of open revocation":         {core.SignatureFact{Verified: true, RevocationOpen: true}, false},
		"no signature":                          {core.SignatureFact{}, true},
		"a foreign signature":                   {rejected(reason.SignatureUntrusted), true},
		"one that could not be fetched":         {rejected(reason.SignatureUntrusted, reason.RegistryUnavailable), false},
		"one whose revocation is unknown":       {rejected(reason.RevocationUnknown), false},
		"one such beside a foreign one":         {rejected(reason.SignatureUntrusted, reason.RevocationUnknown), false},
		"one that a plugin had no time for":     {rejected(reason.PluginTimeout), false},
		"none that was looked at":               {core.SignatureFact{Skipped: true}, false},
		"a good one beside one out of reach":    {core.SignatureFact{Verified: true, Rejected: rejected(reason.Timeout).Rejected}, true},
		"one that the service had no place for": {rejected(reason.Overloaded), false},
	}
	for sentence, test := range tests {
		if got := test.signature.Lasting(); got != test.want {
			t.Errorf("%s: lasting is %t", sentence, got)
		}
		attested := core.AttestationsFact{Candidates: []core.AttestationFact{{Signature: test.signature}}}
		if got := core.Settle(core.Task{}, core.AttestationType{}, attested, "", time.Time{}, nil).Lasting(); got != test.want && !test.signature.Skipped {
			t.Errorf("%s, of an attestation: lasting is %t", sentence, got)
		}
	}
}

// TestWhatIsMetLater settles a condition on the clock again and again.
func TestWhatIsMetLater(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	plan := planOf(t, withType(`"name":"scan","conditions":{"all":[{"key":"{{ time_since('', at, '') }}","operator":"DurationLessThan","value":"24h"}]}`))
	fact := attestedFact(`{"at":"2026-03-01T00:00:00Z"}`)
	demand, found := plan.Tasks[0].Attestations[0], fact.Attestations[0]
	for _, test := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {24 * time.Hour, false}, {time.Hour, true}} {
		found = core.Settle(plan.Tasks[0], demand, found, fact.Digest, noon.Add(test.after), nil)
		if found.Met() != test.want || !found.Settled.Clocked || !found.Lasting() {
			t.Errorf("after %s: %+v", test.after, found.Settled)
		}
		fact.Attestations[0] = found
		if got := core.Decide(plan, []core.Fact{fact}, noon.Add(test.after)).Verified; got != test.want {
			t.Errorf("after %s: verified is %t", test.after, got)
		}
	}
}

// TestAnEndedRequestIsATimeout settles conditions whose evaluation the request's end cuts off: neither an admission, nor a
// denial that lasts, whichever attestations count.
func TestAnEndedRequestIsATimeout(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ended := func() bool { return true }
	for _, by := range []core.Select{core.SelectAll, core.SelectLatest, core.SelectAny} {
		for _, condition := range []string{
			`{"key":"{{ list }}","operator":"AllNotIn","value":["x"]}`,
			`{"key":"{{ list }}","operator":"AnyIn","value":["x"]}`,
		} {
			plan := planOf(t, withType(`"name":"scan","select":"`+string(by)+`","conditions":{"all":[`+condition+`]}`))
			fact := attestedFact(`{"list":["x",` + strings.Repeat(`1,`, 10000) + `1]}`)
			found := core.Settle(plan.Tasks[0], plan.Tasks[0].Attestations[0], fact.Attestations[0], fact.Digest, noon, ended)
			if found.Met() || found.Lasting() || found.Settled.Finding.Code != reason.Timeout || !strings.Contains(found.Settled.Finding.Reason, "time ran out while its conditions were evaluated; try again") {
				t.Errorf("select %s, %s: %+v", by, condition, found.Settled.Finding)
			}
			judged := core.Judge(plan.Tasks[0].Attestations[0], fact.Attestations[0].Candidates[0].Payload, noon, ended)
			if judged.Finding == nil || judged.Finding.Code.Class() != reason.TimedOut {
				t.Errorf("select %s, %s: %+v", by, condition, judged.Finding)
			}
		}
	}
}

// TestABudgetThatIsSpentDenies settles conditions that take more than their document is given: that lasts.
func TestABudgetThatIsSpentDenies(t *testing.T) {
	plan := planOf(t, withType(`"name":"scan","conditions":{"all":[{"key":"{{ list`+strings.Repeat(`|[@,@][]`, 40)+` }}","operator":"AllNotIn","value":["x"]}]}`))
	fact := attestedFact(`{"list":["y","z"]}`)
	found := core.Settle(plan.Tasks[0], plan.Tasks[0].Attestations[0], fact.Attestations[0], fact.Digest, time.Time{}, nil)
	if finding := found.Settled.Finding; !found.Lasting() || finding == nil || finding.Code != reason.ConditionInvalid || !strings.Contains(finding.Reason, "select a part of the document first") {
		t.Errorf("%+v", finding)
	}
}
