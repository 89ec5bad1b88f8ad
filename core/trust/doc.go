// Package trust has whom a cluster trusts: trust policies with their statements and trust stores, as one immutable
// [Snapshot], and the rules by which a signer, a certificate or an address is held against them.
package trust
