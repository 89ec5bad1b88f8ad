package auditor

import "time"

// longestPause bounds how long a registry can ask to be left alone.
const longestPause = time.Hour

// Budget bounds what is sent to one receiver, such as a registry. Make one with NewBudget, of which no minute has more than a number, or
// NewBurst.
type Budget struct {
	every  time.Duration // between two requests, once the burst is used up
	burst  int
	next   time.Time // when the bucket would be full; in the past for a full one
	paused time.Time // until when the registry wants no requests
}

// NewBudget makes a budget of requests a minute, at least 2. A tenth of them may come at once; in any minute that leaves room for
// the rest at an even rate.
func NewBudget(perMinute int) Budget {
	burst := max(1, perMinute/10)
	return NewBurst(burst, time.Minute/time.Duration(max(1, perMinute-burst)))
}

// NewBurst makes a budget of so many at once, which grows by one in each of a time.
func NewBurst(burst int, every time.Duration) Budget { return Budget{every: every, burst: burst} }

// Wait gives the time until a request may be sent; 0 for at once.
func (b *Budget) Wait(now time.Time) time.Duration {
	free := b.next.Add(-time.Duration(b.burst-1) * b.every) // when the bucket holds one request
	return max(0, free.Sub(now), b.paused.Sub(now))
}

// Reserve takes one request off the budget and gives the time after which it may be sent.
func (b *Budget) Reserve(now time.Time) time.Duration {
	wait := b.Wait(now)
	if from := now; b.next.Before(from) {
		b.next = from
	}
	b.next = b.next.Add(b.every)
	return wait
}

// Pause keeps requests back, for as long as a registry asks, up to an hour. A shorter pause does not end a longer one.
func (b *Budget) Pause(now time.Time, pause time.Duration) {
	if until := now.Add(min(pause, longestPause)); until.After(b.paused) {
		b.paused = until
	}
}

// Idle tells whether a new budget would be no different, so that this one can be forgotten.
func (b *Budget) Idle(now time.Time) bool { return !b.next.After(now) && !b.paused.After(now) }
