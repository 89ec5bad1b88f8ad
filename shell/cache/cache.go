// Package cache keeps outcomes of verifications under keys that are values: whatever an outcome depends on is part of
// its key, so that a change of trust makes what was found out before unreachable, and an outcome that was begun
// before the change cannot be taken for one of after it. Concurrent requests for one key do the work once.
//
//	fact := cache.Do(ctx, c, key, func(ctx context.Context) (verification.SignatureFact, cache.Keep) {
//		fact := verify(ctx)
//		return fact, cache.Keep{For: time.Hour, Until: fact.ValidUntil}
//	})
package cache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jellydator/ttlcache/v3"

	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// Key says what was looked up, and with that on what the answer depends.
type Key = verification.Lookup

// Keep says how long an outcome may be kept. The zero value does not keep it.
type Keep struct {
	For   time.Duration // at most so long
	Until time.Time     // and not from this moment on; zero for no such bound
	Bytes int           // what it weighs beside its key
}

// maxWeight bounds what is kept by its weight in bytes, and maxOutcome a single outcome, so that one does not drive out
// all others.
const (
	maxWeight  = 64 << 20
	maxOutcome = 4 << 20
)

// Options of a Cache. The zero value keeps nothing, and lets concurrent work be shared all the same.
type Options struct {
	Size    int              // outcomes that are kept at most; 0 keeps none
	Timeout time.Duration    // for work, whoever waits for it; 0 for none but the caller's
	Now     func() time.Time // nil is time.Now
}

// Cache keeps outcomes. Close it in the end.
type Cache struct {
	options  Options
	kept     *ttlcache.Cache[Key, outcome] // nil keeps nothing
	closed   chan struct{}
	sweeping sync.WaitGroup

	mu      sync.Mutex
	flights map[Key]*flight
	flushes uint64 // work that was begun before a flush is not kept after it

	counts [verification.Kinds]counts
}

// outcome is what is kept. Its times are read from the wall clock, which may jump: outside of them it does not count.
type outcome struct {
	value       any
	from, until time.Time
	bytes       int
}

// counts are of one kind.
type counts struct{ hits, misses, shared atomic.Int64 }

// Stats are counts since the start, by kind, and what is kept now.
type Stats struct {
	Hits, Misses, Shared map[verification.Kind]int64 // answered from the cache; by work; by work that was under way already
	Size                 int                         // outcomes that are kept
	Evicted              int64                       // outcomes that are kept no more: for want of room, or because they expired
}

// New makes a cache.
func New(options Options) *Cache {
	if options.Now == nil {
		options.Now = time.Now
	}
	c := &Cache{options: options, flights: map[Key]*flight{}, closed: make(chan struct{})}
	if options.Size > 0 {
		c.kept = ttlcache.New(
			ttlcache.WithCapacity[Key, outcome](uint64(options.Size)),
			ttlcache.WithMaxCost(maxWeight, func(item ttlcache.CostItem[Key, outcome]) uint64 { return uint64(item.Value.bytes) }),
			ttlcache.WithDisableTouchOnHit[Key, outcome](),
		)
		c.sweeping.Go(c.sweep)
	}
	return c
}

// Close ends what New began, and waits for it. Close it once.
func (c *Cache) Close() {
	close(c.closed)
	c.sweeping.Wait()
}

// sweepEvery is how long what has expired may take room that nobody else wants.
const sweepEvery = time.Minute

// sweep drops what has expired. ttlcache's own Start would do so too, but a Stop that comes before it is lost.
func (c *Cache) sweep() {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-c.closed:
			return
		case <-ticker.C:
			c.kept.DeleteExpired()
		}
	}
}

// Drop forgets the outcomes whose keys are chosen. Work that is under way for them is not shared with those who come
// later; none that is under way is kept, for other keys neither, which costs them little.
func (c *Cache) Drop(chosen func(Key) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushes++
	for key := range c.flights {
		if chosen(key) {
			delete(c.flights, key)
		}
	}
	if c.kept == nil {
		return
	}
	for _, key := range c.kept.Keys() {
		if chosen(key) {
			c.kept.Delete(key)
		}
	}
}

// Forget forgets one outcome that has turned out wrong.
func (c *Cache) Forget(key Key) {
	if c.kept != nil {
		c.kept.Delete(key)
	}
}

// Flush forgets everything. What is under way is finished for those who wait for it, but not kept, and not shared with
// those who come later.
func (c *Cache) Flush() { c.Drop(func(Key) bool { return true }) }

// Stats gives counts.
func (c *Cache) Stats() Stats {
	stats := Stats{Hits: map[verification.Kind]int64{}, Misses: map[verification.Kind]int64{}, Shared: map[verification.Kind]int64{}}
	for kind := range verification.Kinds {
		n := &c.counts[kind]
		stats.Hits[kind], stats.Misses[kind], stats.Shared[kind] = n.hits.Load(), n.misses.Load(), n.shared.Load()
	}
	if c.kept != nil {
		stats.Size, stats.Evicted = c.kept.Len(), int64(c.kept.Metrics().Evictions)
	}
	return stats
}

// Do gives the outcome for a key: kept, or from work that someone is doing, or by doing it. The work goes on when its
// caller gives up, for as long as anyone waits for it; ok is false when ctx ended first. None begins for a caller whose
// ctx has ended. A panic of the work is one of every caller.
func Do[T any](ctx context.Context, c *Cache, key Key, work func(context.Context) (T, Keep)) (value T, ok bool) {
	if found, hit := c.lookup(key); hit {
		return found.(T), true
	}
	if ctx.Err() != nil {
		return value, false
	}
	for {
		f, started := c.join(ctx, key, func(ctx context.Context) (any, Keep) { return work(ctx) })
		found, ok := c.wait(ctx, key, f, started)
		if !ok {
			return value, false
		}
		if f.late && !started && ctx.Err() == nil {
			continue // it ran out of the time of another, who began it; this caller has some left
		}
		return found.(T), true
	}
}

// Peek gives a kept outcome.
func Peek[T any](c *Cache, key Key) (value T, ok bool) {
	found, ok := c.lookup(key)
	if !ok {
		return value, false
	}
	return found.(T), true
}

func (c *Cache) lookup(key Key) (any, bool) {
	if c.kept == nil {
		return nil, false
	}
	item := c.kept.Get(key)
	if item == nil {
		return nil, false
	}
	o, now := item.Value(), c.options.Now()
	if now.Before(o.from) || !now.Before(o.until) {
		return nil, false
	}
	c.counts[key.Kind].hits.Add(1)
	return o.value, true
}

// Put keeps an outcome that nobody waits for.
func Put[T any](c *Cache, key Key, value T, keep Keep) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(key, value, keep, c.options.Now())
}

// put keeps an outcome as of the moment at which work on it began: that is when its times were looked at.
func (c *Cache) put(key Key, value any, keep Keep, began time.Time) {
	if c.kept == nil || keep.For <= 0 || keep.Bytes > maxOutcome {
		return
	}
	// Without the monotonic clock, which stands still while a machine sleeps.
	began = began.Round(0)
	until := began.Add(keep.For)
	if !keep.Until.IsZero() && keep.Until.Before(until) {
		until = keep.Until
	}
	if left := until.Sub(c.options.Now().Round(0)); left > 0 {
		c.kept.Set(key, outcome{value, began, until, keep.Bytes}, left)
	}
}
