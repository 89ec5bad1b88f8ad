package function

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/condition"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// TestPrewarmBoundsItsMemory holds that old requests are forgotten when the remembered ones take too much memory.
func TestPrewarmBoundsItsMemory(t *testing.T) {
	p := newPrewarm(1000, nil)
	long, err := json.Marshal(strings.Repeat("x", 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	const asked = 40
	for i := range asked {
		p.remember(core.Request{Attestations: []core.AttestationRule{{ImageReference: "nobody/*", Types: []verification.AttestationType{{
			Name: "sbom", Conditions: condition.Conditions{All: []condition.Condition{{Key: long, Operator: "Equals", Value: long}}},
		}}}}}, "acme", core.Verdict{Results: []core.Result{{Code: reason.Verified, Image: fmt.Sprintf("ghcr.io/acme/app%d:v1", i)}}})
	}
	bytes := 0
	for _, item := range p.recent.Items() {
		for _, rule := range item.Value().request.Attestations {
			bytes += len(rule.Types[0].Conditions.All[0].Key)
		}
	}
	if n := p.recent.Len(); n == 0 || bytes > prewarmBytes {
		t.Errorf("%d of %d are remembered, of %d bytes; want at most %d", n, asked, bytes, prewarmBytes)
	}
}
