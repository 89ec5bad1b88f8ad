package core_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// TestCoreGivesSameBytesForSameInput runs every golden case repeatedly.
func TestCoreGivesSameBytesForSameInput(t *testing.T) {
	for _, path := range goldenPaths(t) {
		first := string(txtar.Format(readGolden(t, path).answered()))
		c := readGolden(t, path)
		for range 50 {
			if got := string(txtar.Format(c.answered())); got != first {
				t.Fatalf("%s: got\n%s\nand before\n%s", path, got, first)
			}
		}
	}
}

// TestCoreLeavesItsInputUnchanged checks that facts and trust, which others read meanwhile, are not written to.
func TestCoreLeavesItsInputUnchanged(t *testing.T) {
	for _, path := range goldenPaths(t) {
		c := readGolden(t, path)
		before := fmt.Sprintf("%#v", c.facts) + indented(c.facts) + indented(c.trust.Policies) + string(c.request)
		c.answered()
		if after := fmt.Sprintf("%#v", c.facts) + indented(c.facts) + indented(c.trust.Policies) + string(c.request); after != before {
			t.Errorf("%s: its input is\n%s\nand was\n%s", path, after, before)
		}
	}
}

// TestCoreSharesNothingBetweenRequests evaluates one condition on many documents at once: each evaluation must see its
// own document, even in its reason.
func TestCoreSharesNothingBetweenRequests(t *testing.T) {
	plan := planOf(t, withType(`"name":"scan","conditions":{"all":[{"key":"{{ secret }}{{ time_since('', '{{ at }}', '') }}","operator":"Equals","value":"x"}]}`))
	var wait sync.WaitGroup
	for i := range 64 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			now := time.Date(2026, 3, 1, 0, 0, i, 0, time.UTC)
			document := fmt.Sprintf(`{"secret":"of-%d-","at":"2026-03-01T00:00:00Z"}`, i)
			want := fmt.Sprintf(`found "of-%d-%s"`, i, time.Duration(i)*time.Second)
			for range 20 {
				fact := attestedFact(plan, document, now, nil)
				if verdict := core.Decide(plan, []verification.Fact{fact}, now); !strings.Contains(verdict.Message, want) {
					t.Errorf("document %d: %s, want %s", i, verdict.Message, want)
				}
			}
		}()
	}
	wait.Wait()
}

// TestCoreSharesNothingBetweenGoldenCases runs different golden cases at once.
func TestCoreSharesNothingBetweenGoldenCases(t *testing.T) {
	var wait sync.WaitGroup
	for _, path := range goldenPaths(t) {
		c := readGolden(t, path)
		want := string(txtar.Format(c.archive))
		wait.Add(1)
		go func() {
			defer wait.Done()
			if got := string(txtar.Format(c.answered())); got != want {
				t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
			}
		}()
	}
	wait.Wait()
}

// everything is trust under which each image is verified, by the policy that requests without one get.
func everything() trust.Snapshot {
	return trust.Snapshot{Policies: map[string]trust.Policy{"default": {
		Name:       "default",
		Statements: []trust.Statement{{Name: "all", RegistryScopes: []string{"*"}, Level: "strict"}},
	}}}
}

func planOf(t testing.TB, body string) core.Plan {
	t.Helper()
	request, err := core.ParseRequest([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := core.NewPlan(request, everything(), "default")
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// attestedFact is the fact of a signed image with one trusted attestation, whose document is held against the first demand
// of a plan.
func attestedFact(plan core.Plan, document string, now time.Time, ended func() bool) verification.Fact {
	signed := verification.SignatureFact{Verified: true, Signer: "CN=build"}
	evaluation := verification.Evaluate(plan.Tasks[0].Attestations[0], []byte(document), now, ended)
	return verification.Fact{
		Digest:    "sha256:" + strings.Repeat("a", 64),
		Signature: signed,
		Attestations: []verification.AttestationsFact{{Candidates: []verification.AttestationFact{
			{Digest: "sha256:" + strings.Repeat("b", 64), Signature: signed, Evaluation: &evaluation},
		}}},
	}
}
