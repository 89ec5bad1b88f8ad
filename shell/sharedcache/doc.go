// Package sharedcache is the second level of the cache, which replicas share: a server of the Redis protocol (Valkey, Redis, services of
// clouds) holds what one replica worked out, so that the others need not ask registries for it. Nobody trusts the server: names are
// hashed and values sealed as core/sharedcache says.
//
// [Cache.Look] goes like this, for a lookup that this replica neither keeps nor works on already:
//
//  1. It asks for the entry. One that counts is the answer.
//  2. Else it claims the work by a lease. While another replica holds that, it looks again every few milliseconds, for at most [Patience].
//  3. Else this replica works, and shares what came of it in the background.
//
// The server makes nothing fail and delays nothing by more than the time of a [Budget], or Patience where another replica works. After
// some failures in a row it is left alone for some time. A lease is sealed too: a server that says somebody works, and cannot show that,
// is not waited for, and one that withholds what was worked out is waited for a few times only.
package sharedcache
