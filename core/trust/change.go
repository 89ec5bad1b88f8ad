package trust

import "slices"

// Change is what someone says of a trust resource: that it was added, updated or deleted. It is not believed, only
// taken as a reason to look again. The zero value may mean any resource.
type Change struct {
	Policy string   // the trust policy that a TrustPolicy gives; "" for a store, or when that was not said
	Store  StoreRef // the trust store that a TrustStore gives; zero for a policy, or when that was not said
}

// Affects tells whether outcomes under a trust policy may be others after a change, as far as a snapshot of before
// or after it shows.
func (c Change) Affects(snapshot Snapshot, policy string) bool {
	if c.Policy != "" {
		return policy == c.Policy
	}
	known, ok := snapshot.Policies[policy]
	if c.Store == (StoreRef{}) || !ok {
		return true
	}
	return slices.ContainsFunc(known.Statements, func(s Statement) bool { return slices.Contains(s.TrustStores, c.Store.String()) })
}
