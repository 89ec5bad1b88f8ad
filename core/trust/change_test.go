package trust_test

import (
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

func TestChangeAffectsPoliciesThatUseIt(t *testing.T) {
	acme, other := trust.StoreRef{Type: "ca", Name: "acme"}, trust.StoreRef{Type: "ca", Name: "other"}
	snapshot := trust.Snapshot{Policies: map[string]trust.Policy{
		"a": {Name: "a", Statements: []trust.Statement{{Name: "one"}, {Name: "two", TrustStores: []string{"tsa:acme", "ca:acme"}}}},
	}}
	tests := map[string]struct {
		change trust.Change
		policy string
		want   bool
	}{
		"the policy itself":                        {trust.Change{Policy: "a"}, "a", true},
		"another policy":                           {trust.Change{Policy: "b"}, "a", false},
		"a store that a statement names":           {trust.Change{Store: acme}, "a", true},
		"a store that none names":                  {trust.Change{Store: other}, "a", false},
		"a store of the name, but of another type": {trust.Change{Store: trust.StoreRef{Type: "signingAuthority", Name: "acme"}}, "a", false},
		"a store, and a policy that is not known":  {trust.Change{Store: other}, "gone", true},
		"anything": {trust.Change{}, "a", true},
	}
	for sentence, test := range tests {
		if got := test.change.Affects(snapshot, test.policy); got != test.want {
			t.Errorf("%s: %t", sentence, got)
		}
	}
}
