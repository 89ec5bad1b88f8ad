// Package sharedcache decides what replicas share through a server that nobody trusts, under which names and in which form, and when
// what comes back counts. It is pure; shell/sharedcache talks to the server.
//
// Two kinds of answers are shared: what a tag resolves to, and the facts of a task whose digest is known ([Sharable]). Both are shared
// only where they are definitive, do not depend on the time, and have a bound:
//
//	keyring, err := sharedcache.NewKeyring([]string{secret}, surroundings)
//	slot := keyring.Slots(verification.Key(task, resolved))[0]
//	sealed, ok := slot.Seal(sharedcache.Entry{Fact: &fact, From: began, Until: until}, nonce)
//	...
//	entry, err := slot.Open(sealed, now)
//	until, ok := entry.Counts(task, lookup, now)
//
// Whoever controls the server can withhold an entry, which has it worked out anew, and learns how many entries there are, their sizes
// in steps of 256 bytes, when they end and who reads them. It cannot do more:
//
//   - A [Slot.Name] is a keyed hash (HMAC-SHA-256) of the lookup, which holds the trust revision, and of the version of the format. The
//     key is derived (HKDF) from the secret and from the surroundings: all beside the lookup that an answer depends on, such as the
//     build and the settings. So nothing tells which repository a name stands for, and replicas that verify in different ways share nothing.
//   - A value is sealed (AES-256-GCM) with a key of its own for each name. It does not open under another name, in another version of
//     the format, or with other bounds: all three are authenticated with it.
//   - A value counts from when its work began until its bound, and no longer than the reader itself would keep it, by the reader's
//     clock. An older value can be shown in place of a newer one until then, which is what a replica that kept it would do as well.
//
// Where the clock of the replica that made an entry is ahead of the reader's by d, the entry counts up to d longer; where it is behind,
// that much shorter. An entry whose work began more than [MaxSkew] in the reader's future does not count, so that replicas whose
// clocks differ by more share nothing until the entry is old enough. Certificates and signatures end by the reader's clock in any case.
package sharedcache
