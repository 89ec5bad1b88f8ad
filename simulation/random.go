package simulation

import (
	"math/rand/v2"
	"time"
)

// random is what a sequence draws from: the same seed draws the same.
type random struct{ *rand.Rand }

func newRandom(seed, stream uint64) random { return random{rand.New(rand.NewPCG(seed, stream))} }

// chance is true in so many of a hundred cases.
func (r random) chance(percent int) bool { return r.IntN(100) < percent }

// between draws a time. It has odd nanoseconds, so that two events hardly ever fall on the same moment, where their order would
// be that of the scheduler.
func (r random) between(least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)))
}

// span draws a time of any magnitude between two.
func (r random) span(least, most time.Duration) time.Duration {
	for least*10 < most && !r.chance(35) {
		least *= 10
	}
	return r.between(least, min(most, least*10))
}

// pick draws one of several.
func pick[T any](r random, of ...T) T { return of[r.IntN(len(of))] }
