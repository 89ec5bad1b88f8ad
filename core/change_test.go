package core_test

import (
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core"
)

func TestWhatAChangeAffects(t *testing.T) {
	acme, other := core.StoreRef{Type: "ca", Name: "acme"}, core.StoreRef{Type: "ca", Name: "other"}
	snapshot := core.Snapshot{Policies: map[string]core.TrustPolicy{
		"a": {Name: "a", Statements: []core.Statement{{Name: "one"}, {Name: "two", TrustStores: []string{"tsa:acme", "ca:acme"}}}},
	}}
	tests := map[string]struct {
		change core.Change
		policy string
		want   bool
	}{
		"the policy itself":                        {core.Change{Policy: "a"}, "a", true},
		"another policy":                           {core.Change{Policy: "b"}, "a", false},
		"a store that a statement names":           {core.Change{Store: acme}, "a", true},
		"a store that none names":                  {core.Change{Store: other}, "a", false},
		"a store of the name, but of another type": {core.Change{Store: core.StoreRef{Type: "signingAuthority", Name: "acme"}}, "a", false},
		"a store, and a policy that is not known":  {core.Change{Store: other}, "gone", true},
		"anything": {core.Change{}, "a", true},
	}
	for sentence, test := range tests {
		if got := test.change.Affects(snapshot, test.policy); got != test.want {
			t.Errorf("%s: %t", sentence, got)
		}
	}
}
