package records

import (
	"math/rand/v2"
	"time"
)

// crockford is the alphabet of a ULID.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// NewID makes the id of a decision: a ULID, whose first ten characters are the time in milliseconds and whose other sixteen are
// random. It is no secret.
func NewID(now time.Time) string {
	var id [26]byte
	fill := func(part []byte, bits uint64) {
		for i := len(part) - 1; i >= 0; i-- {
			part[i] = crockford[bits&31]
			bits >>= 5
		}
	}
	fill(id[:10], uint64(now.UnixMilli()))
	fill(id[10:18], rand.Uint64())
	fill(id[18:], rand.Uint64())
	return string(id[:])
}
