package simulation

import (
	"fmt"
	"hash/fnv"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache"
)

// Result is what came of a sequence.
type Result struct {
	Seed       uint64
	Violations []string
	Counts     Counts
	Trace      uint64 // equal for equal courses
	story      []string
}

// Sequence draws a sequence from a seed and runs it.
func Sequence(t *testing.T, seed uint64) Result { return run(t, seed, drawActions(newRandom(seed, 1))) }

// run runs a sequence in a bubble of its own, in which time passes when everybody waits.
func run(t *testing.T, seed uint64, actions []action) (result Result) {
	t.Helper()
	people()
	parsed()
	//lint:ignore SA1019 client-go draws from this source, and a sequence must be the same each time
	rand.Seed(int64(seed))
	running := true
	defer func() {
		if running {
			fmt.Printf("the sequence of seed %d ended early\n", seed)
		}
	}()
	synctest.Test(t, func(*testing.T) { result = play(seed, actions) })
	running = false
	return result
}

// play runs a sequence, and judges its answers.
func play(seed uint64, actions []action) Result {
	start := time.Now()
	w := newWorld(newRandom(seed, 2), newRandom(seed, 3), newRandom(seed, 7), newRandom(seed, 8))
	drawn := newRandom(seed, 4)
	for range w.settings.replicas {
		w.running = append(w.running, w.start(drawAhead(drawn)))
	}
	time.Sleep(300 * time.Millisecond)
	result := Result{Seed: seed}
	for _, a := range actions {
		result.story = append(result.story, fmt.Sprintf("%12s %s", time.Since(start), a))
		deeds[a.kind].do(w, newRandom(a.seed, 5))
	}
	w.cease()
	for _, replica := range w.running {
		replica.stop()
	}
	w.work.Wait()
	for _, replica := range w.replicas {
		if replica.shared != nil {
			w.Counts.Shared += int(replica.shared.Count(sharedcache.Hit) + replica.shared.Count(sharedcache.Awaited))
			w.Counts.False += int(replica.shared.Count(sharedcache.False))
		}
	}
	w.Counts.Virtual = time.Since(start)
	result.judge(w)
	return result
}

// cease ends all faults, waits until nothing is kept that was true before, and asks every replica.
func (w *World) cease() {
	for _, f := range slices.Clone(w.faults) {
		w.end(f)
	}
	for _, replica := range w.running {
		replica.link.cut() // no connection is deaf any longer
	}
	w.work.Wait()
	time.Sleep(w.settings.keep + time.Minute)
	for _, replica := range w.running {
		for _, what := range w.menu[:min(3, len(w.menu))] {
			w.ask(replica, what, true)
		}
	}
}

func (result *Result) judge(w *World) {
	trace := fnv.New64a()
	slices.SortStableFunc(w.asked, func(a, b *asked) int { return a.begin.Compare(b.begin) })
	for _, a := range w.asked {
		text := fmt.Sprintf("%12s replica %d: %v: %s", a.begin.Sub(begin), a.replica.id, a.request, a.result.Code)
		fmt.Fprintln(trace, text, a.end.Sub(begin))
		result.story = append(result.story, text)
		w.count(a)
		if wrong := w.judge(a); wrong != "" {
			result.Violations = append(result.Violations, fmt.Sprintf("%s: %s (%s)", text, wrong, a.result.Reason))
		}
	}
	result.Counts, result.Trace = w.Counts, trace.Sum64()
}

func (w *World) count(a *asked) {
	c := &w.Counts
	c.Asked++
	switch code := a.result.Code; {
	case a.gone:
		c.Gone++
	case a.notReady:
		c.NotReady++
	case a.result.Verified:
		c.Admitted++
	case code.Class() == 0:
		c.Denied++
	default:
		c.Failed++
	}
}

// Shortened leaves out of a sequence whatever its first violation does not need.
func Shortened(t *testing.T, seed uint64) Result {
	actions := drawActions(newRandom(seed, 1))
	best := run(t, seed, actions)
	for size := len(actions) / 2; size > 0 && len(best.Violations) > 0; {
		shorter := false
		for i := 0; i+size <= len(actions); {
			without := slices.Delete(slices.Clone(actions), i, i+size)
			if tried := run(t, seed, without); len(tried.Violations) > 0 {
				actions, best, shorter = without, tried, true
				continue
			}
			i += size
		}
		if !shorter {
			size /= 2
		}
	}
	return best
}

// String tells a sequence for a person.
func (result Result) String() string {
	return fmt.Sprintf("seed %d:\n%s\nviolations:\n%s", result.Seed, strings.Join(result.story, "\n"), strings.Join(result.Violations, "\n"))
}
