// Package redistest has servers of the Redis protocol for tests: a real one, where the machine has it, and a hostile one ([Hostile]),
// which is also a plain server in memory.
package redistest
