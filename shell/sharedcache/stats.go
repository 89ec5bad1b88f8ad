package sharedcache

import (
	"errors"

	"github.com/sony/gobreaker/v2"
)

// Result is what became of a look or of a write.
type Result int

// The results. Of a look: Hit, Awaited, Missed or Vain if the server answered, else Failed, LeftAlone or Spent; Unkeyed if there is no
// key. False and Over are values beside that.
const (
	Hit       Result = iota // an entry that another replica had shared
	Awaited                 // one that another replica shared meanwhile
	Missed                  // none, and nobody works on it
	Vain                    // none, although another replica was waited for
	False                   // a value that no replica wrote for its place
	Over                    // an entry that does not count any more, or not yet
	Failed                  // the server was too slow, or did not answer, or nothing that can be read
	LeftAlone               // it was not asked, since it had failed
	Spent                   // it was not asked, since the verification had waited long enough
	Unkeyed                 // it was not asked, since there is no key
	Written                 // an entry that was shared, or a lease that was given up
	Refused                 // a write that the server did not take
	Dropped                 // one that was left out, since too many were under way
	Unfit                   // what was worked out has too much text, or is over already
	results
)

// String is the result as a label of metrics.
func (r Result) String() string {
	return [results]string{"hit", "awaited", "missed", "vain", "false", "over", "failed", "left_alone", "spent", "unkeyed", "written", "refused", "dropped", "unfit"}[r]
}

// Results lists them.
func Results() (all []Result) {
	for r := range results {
		all = append(all, r)
	}
	return all
}

// Count gives how often a result came since the start.
func (c *Cache) Count(r Result) uint64 { return c.counts[r].Load() }

// Answers tells whether the server is asked, and not left alone until a try succeeds.
func (c *Cache) Answers() bool { return c.breaker.State() == gobreaker.StateClosed }

func (c *Cache) count(r Result) { c.counts[r].Add(1) }

func (c *Cache) countFailure(err error) {
	switch {
	case errors.Is(err, errGaveUp):
	case errors.Is(err, errSpent):
		c.count(Spent)
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		c.count(LeftAlone)
	default:
		c.options.Log.Debug("the shared cache failed", "error", err)
		c.count(Failed)
	}
}
