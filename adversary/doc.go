// Package adversary holds the service against those who want it to admit what it should not.
//
// A seed makes a world (package world): a registry's content, the conduct of that registry, trust resources and the
// requests that are sent. The service answers them over real HTTP, and a slow, simple verifier that shares no code
// with it (package oracle) says from the registry's true content what may be admitted. Whatever the service admits
// the oracle must admit, pinned to the same digest; where nobody misbehaves, the reverse holds too.
//
//	go test ./adversary -run Worlds -worlds 100000         # many worlds
//	go test ./adversary -run Worlds -worlds 1 -seed 4711   # one world again
//
// Nothing of it is part of the service's binary.
package adversary
