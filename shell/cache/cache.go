// Package cache keeps answers under keys that are values. Whatever an answer depends on is part of its key, so a change of
// trust makes older answers unreachable, and an answer worked out before the change is never taken for one made after it.
//
// [GetOrDo] looks for an unexpired answer. Where there is none it does the work, once for all callers that ask for the key
// at the same time, and keeps the answer for as long as the work says:
//
//	answer, ok := cache.GetOrDo(ctx, c, key, func(ctx context.Context) (verification.Answer, cache.Keep) {
//		answer := lookUp(ctx)
//		return answer, cache.Keep{For: time.Hour, Until: validUntil}
//	})
//
// An answer is not kept when its work was cut short, or when [Cache.Flush] came while it was under way.
package cache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jellydator/ttlcache/v3"

	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/flight"
)

// Key says what was looked up, and so what the answer depends on.
type Key = verification.Lookup

// Keep says how long an answer may be kept. The zero value does not keep it.
type Keep struct {
	For   time.Duration // at most, from the moment at which its work began
	Until time.Time     // the moment from which it counts no more; zero for no such moment
	Bytes int           // its size in memory, without its key
}

// Bounds on what is kept; bytes. A larger answer is not kept, since it would evict many others.
const (
	maxBytes  = 64 << 20
	maxAnswer = 4 << 20
)

// Options of a Cache. The zero value keeps nothing; concurrent work is shared all the same.
type Options struct {
	Size    int              // of answers that are kept at most; 0 keeps none
	Timeout time.Duration    // of work, whoever waits for it; 0 for none
	Now     func() time.Time // nil is time.Now

	// Began and Joined are told when work for a key begins, and when a caller waits for such work; nil for nobody.
	Began, Joined func(Key)
}

// Cache keeps answers. Close it in the end.
type Cache struct {
	options  Options
	cached   *ttlcache.Cache[Key, answer] // nil keeps nothing
	flights  flight.Group[Key, any]
	closed   chan struct{}
	sweeping sync.WaitGroup

	mu      sync.Mutex
	flushes uint64 // an answer whose work began before a flush is not kept after it

	counts [verification.Kinds]counts
}

// answer is what is kept. It counts only while the wall clock, which may jump, is between its two times.
type answer struct {
	value       any
	from, until time.Time
	bytes       int
}

// counts are those of one kind.
type counts struct{ hits, misses, shared atomic.Int64 }

// Stats are counts since the start, by kind, and the number of answers now.
type Stats struct {
	Hits, Misses, Shared map[verification.Kind]int64 // answered from the cache; by new work; by work that was under way
	Size                 int                         // answers that are kept now
	Evicted              int64                       // answers that expired or made room for others
}

// grace is how long the caller that started work waits past its own deadline: the work ran out of the same time, and its
// answer says where.
const grace = 80 * time.Millisecond

// New makes a cache.
func New(options Options) *Cache {
	if options.Now == nil {
		options.Now = time.Now
	}
	for _, told := range []*func(Key){&options.Began, &options.Joined} {
		if *told == nil {
			*told = func(Key) {}
		}
	}
	c := &Cache{options: options, closed: make(chan struct{})}
	c.flights = flight.Group[Key, any]{Timeout: options.Timeout, Grace: grace, Joined: func(key Key) {
		c.counts[key.Kind].shared.Add(1)
		c.options.Joined(key)
	}}
	if options.Size > 0 {
		c.cached = ttlcache.New(
			ttlcache.WithCapacity[Key, answer](uint64(options.Size)),
			ttlcache.WithMaxCost(maxBytes, func(item ttlcache.CostItem[Key, answer]) uint64 { return uint64(item.Value.bytes) }),
			ttlcache.WithDisableTouchOnHit[Key, answer](),
		)
		c.sweeping.Go(c.sweep)
	}
	return c
}

// Close ends the goroutine that New started. Call it once.
func (c *Cache) Close() {
	close(c.closed)
	c.sweeping.Wait()
}

// sweepEvery is how often expired answers are removed. Full caches evict them sooner.
const sweepEvery = time.Minute

// sweep removes expired answers until Close. It stands in for ttlcache's Start, whose Stop is lost when it comes first.
func (c *Cache) sweep() {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-c.closed:
			return
		case <-ticker.C:
			c.cached.DeleteExpired()
		}
	}
}

// Drop forgets the answers whose keys are chosen. Work under way for them is not shared with callers that come later. No
// answer of work under way is kept, whatever its key.
func (c *Cache) Drop(chosen func(Key) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushes++
	c.flights.Forget(chosen)
	if c.cached == nil {
		return
	}
	for _, key := range c.cached.Keys() {
		if chosen(key) {
			c.cached.Delete(key)
		}
	}
}

// Forget forgets one answer.
func (c *Cache) Forget(key Key) {
	if c.cached != nil {
		c.cached.Delete(key)
	}
}

// Flush forgets everything. Work under way is finished for the callers that wait for it, but its answer is not kept and
// not shared with callers that come later.
func (c *Cache) Flush() { c.Drop(func(Key) bool { return true }) }

// Stats gives counts.
func (c *Cache) Stats() Stats {
	stats := Stats{Hits: map[verification.Kind]int64{}, Misses: map[verification.Kind]int64{}, Shared: map[verification.Kind]int64{}}
	for kind := range verification.Kinds {
		n := &c.counts[kind]
		stats.Hits[kind], stats.Misses[kind], stats.Shared[kind] = n.hits.Load(), n.misses.Load(), n.shared.Load()
	}
	if c.cached != nil {
		stats.Size, stats.Evicted = c.cached.Len(), int64(c.cached.Metrics().Evictions)
	}
	return stats
}

// GetOrDo gives the answer for a key: from the cache, from work under way, or by doing the work. The work goes on when
// its caller gives up, for as long as anyone waits for it; not ok means that ctx ended first. A caller whose ctx has ended
// starts no work. A panic of the work is raised in every caller.
func GetOrDo[T any](ctx context.Context, c *Cache, key Key, work func(context.Context) (T, Keep)) (value T, ok bool) {
	if found, hit := c.lookup(key); hit {
		return found.(T), true
	}
	if ctx.Err() != nil {
		return value, false
	}
	found, ok := c.flights.Do(ctx, key, func(ctx context.Context) any {
		return c.fill(ctx, key, func(ctx context.Context) (any, Keep) { return work(ctx) })
	})
	if !ok {
		return value, false
	}
	return found.(T), true
}

// fill does the work for a key and keeps its answer, unless the work was cut short or there was a flush meanwhile.
func (c *Cache) fill(ctx context.Context, key Key, work func(context.Context) (any, Keep)) any {
	if found, hit := c.lookup(key); hit { // other work kept it after the caller had looked
		return found
	}
	c.counts[key.Kind].misses.Add(1)
	c.options.Began(key)
	c.mu.Lock()
	flushes, began, started := c.flushes, c.options.Now(), time.Now()
	c.mu.Unlock()
	value, keep := work(ctx)
	if ctx.Err() != nil {
		return value
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if flushes == c.flushes {
		c.put(key, value, keep, began, time.Since(started))
	}
	return value
}

// Get gives the answer for a key from the cache.
func Get[T any](c *Cache, key Key) (value T, ok bool) {
	found, ok := c.lookup(key)
	if !ok {
		return value, false
	}
	return found.(T), true
}

func (c *Cache) lookup(key Key) (any, bool) {
	if c.cached == nil {
		return nil, false
	}
	item := c.cached.Get(key)
	if item == nil {
		return nil, false
	}
	a, now := item.Value(), c.options.Now()
	if now.Before(a.from) || !now.Before(a.until) {
		return nil, false
	}
	c.counts[key.Kind].hits.Add(1)
	return a.value, true
}

// Put keeps an answer that was worked out elsewhere.
func Put[T any](c *Cache, key Key, value T, keep Keep) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(key, value, keep, c.options.Now(), 0)
}

// put keeps an answer. Its time runs from when its work began, since that is when the facts were as it says. took is how long the work was:
// the clock by which it began may have been set back meanwhile, which must not make its time longer.
func (c *Cache) put(key Key, value any, keep Keep, began time.Time, took time.Duration) {
	if c.cached == nil || keep.For <= 0 || keep.Bytes > maxAnswer {
		return
	}
	began = began.Round(0) // without the monotonic clock, which stands still while a machine sleeps
	until := began.Add(keep.For)
	if !keep.Until.IsZero() && keep.Until.Before(until) {
		until = keep.Until
	}
	if left := min(until.Sub(c.options.Now().Round(0)), keep.For-took); left > 0 {
		c.cached.Set(key, answer{value, began, until, keep.Bytes}, left)
	}
}
