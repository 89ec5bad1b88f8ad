// Package trust holds the trust policies and trust stores of a cluster, as an immutable [Snapshot], and the rules by which
// they trust a signer, a certificate or an address.
//
// A request uses it in this order: [Snapshot.Usable] gives the trust policy by name, [Policy.StatementFor] the statement
// that covers an image's repository, and [Snapshot.Revision] a hash of all on which a verification under that statement
// depends. [Stores.Trust] and [CheckIdentity] then say whether the statement trusts a signer.
package trust
