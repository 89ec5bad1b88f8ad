package trust

import "slices"

// Change is a report that a trust resource was added, updated or deleted. It is not trusted: it only causes outcomes to be
// worked out again. The zero value stands for any resource.
type Change struct {
	Policy string   // name of the trust policy; "" for a store, or when it is not known
	Store  StoreRef // the trust store; zero for a policy, or when it is not known
}

// Affects tells whether a change may alter outcomes under a trust policy, according to a snapshot from before or after it.
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
