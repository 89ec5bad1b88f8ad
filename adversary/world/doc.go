// Package world makes worlds for the service to be wrong in: hostile signers under a trusted CA, hostile registries,
// pods, references, policies and trust resources. A seed gives one world, always the same but for keys and the random
// part of signatures.
package world
