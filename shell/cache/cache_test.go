package cache_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a wall clock that tests move.
type clock struct{ now atomic.Pointer[time.Time] }

func newClock() *clock {
	c := &clock{}
	c.set(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	return c
}

func (c *clock) set(t time.Time)      { c.now.Store(&t) }
func (c *clock) jump(d time.Duration) { c.set(c.time().Add(d)) }
func (c *clock) time() time.Time      { return *c.now.Load() }

func open(t *testing.T, options cache.Options) *cache.Cache {
	t.Helper()
	c := cache.New(options)
	t.Cleanup(c.Close)
	return c
}

func key(subject string) cache.Key { return cache.Key{Kind: verification.Signature, Subject: subject} }

// ask asks for an answer that may be kept, and tells whether the work was done.
func ask(t *testing.T, c *cache.Cache, subject string, keep cache.Keep) (worked bool) {
	t.Helper()
	value, ok := cache.GetOrDo(t.Context(), c, key(subject), func(context.Context) (string, cache.Keep) {
		worked = true
		return "answer to " + subject, keep
	})
	if !ok || value != "answer to "+subject {
		t.Fatalf("%s: %q, %t", subject, value, ok)
	}
	return worked
}

func TestGetOrDoHonoursKeep(t *testing.T) {
	clock := newClock()
	hour, start := cache.Keep{For: time.Hour}, clock.time()
	tests := map[string]struct {
		options cache.Options
		keep    cache.Keep
		jump    time.Duration
		again   bool // the work is done again
	}{
		"within its time":                        {cache.Options{Size: 9}, hour, 59 * time.Minute, false},
		"past its time":                          {cache.Options{Size: 9}, hour, time.Hour, true},
		"before the end of what it relies on":    {cache.Options{Size: 9}, cache.Keep{For: time.Hour, Until: start.Add(time.Minute)}, 59 * time.Second, false},
		"past the end of what it relies on":      {cache.Options{Size: 9}, cache.Keep{For: time.Hour, Until: start.Add(time.Minute)}, time.Minute, true},
		"what it relies on had ended already":    {cache.Options{Size: 9}, cache.Keep{For: time.Hour, Until: start.Add(-time.Minute)}, 0, true},
		"the clock jumped to before it was made": {cache.Options{Size: 9}, hour, -time.Second, true},
		"not to be kept":                         {cache.Options{Size: 9}, cache.Keep{}, 0, true},
		"a time below zero":                      {cache.Options{Size: 9}, cache.Keep{For: -time.Hour}, 0, true},
		"too heavy":                              {cache.Options{Size: 9}, cache.Keep{For: time.Hour, Bytes: 5 << 20}, 0, true},
		"no cache":                               {cache.Options{}, hour, 0, true},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			clock.set(start)
			test.options.Now = clock.time
			c := open(t, test.options)
			if !ask(t, c, "x", test.keep) {
				t.Fatal("an empty cache had it")
			}
			clock.jump(test.jump)
			if again := ask(t, c, "x", test.keep); again != test.again {
				t.Errorf("worked out again: %t", again)
			}
		})
	}
}

// TestCacheIsBounded in answers and in bytes, and evicts those that were not used for longest.
// TestAClockThatIsSetBackKeepsNoAnswerLonger has the clock be set back while the work is done.
func TestAClockThatIsSetBackKeepsNoAnswerLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back atomic.Int64
		c := cache.New(cache.Options{Size: 10, Now: func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }})
		defer c.Close()
		asked := func() (worked bool) {
			cache.GetOrDo(t.Context(), c, key("a"), func(context.Context) (string, cache.Keep) {
				worked = true
				time.Sleep(time.Second)
				back.Store(int64(3 * time.Second))
				return "", cache.Keep{For: 10 * time.Second}
			})
			return worked
		}
		asked() // kept until 10 seconds after its work began, and once its clock has reached that time again
		for _, step := range []struct {
			after time.Duration
			works bool
		}{{8 * time.Second, false}, {1001 * time.Millisecond, true}} {
			time.Sleep(step.after)
			if got := asked(); got != step.works {
				t.Errorf("after %s more: worked is %t", step.after, got)
			}
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	c := open(t, cache.Options{Size: 10})
	keep := cache.Keep{For: time.Hour}
	for i := range 1000 {
		ask(t, c, "often", keep)
		ask(t, c, fmt.Sprint(i), keep)
		if size := c.Stats().Size; size > 10 {
			t.Fatalf("%d answers", size)
		}
	}
	if ask(t, c, "often", keep) {
		t.Error("the one in use was dropped")
	}
	heavy := open(t, cache.Options{Size: 1000})
	for i := range 100 {
		ask(t, heavy, fmt.Sprint(i), cache.Keep{For: time.Hour, Bytes: 4 << 20})
	}
	if size := heavy.Stats().Size; size != 16 {
		t.Errorf("%d answers of 4 MiB; want 64 MiB of them", size)
	}
}

// TestCacheMemoryStaysFlat sends many keys through a small cache.
func TestCacheMemoryStaysFlat(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n = 100_000
	}
	c := open(t, cache.Options{Size: 1000})
	put := func(i int) { cache.Put(c, key(fmt.Sprint("sha256:", i)), i, cache.Keep{For: time.Hour}) }
	for i := range 10_000 {
		put(i)
	}
	before := heap()
	for i := range n {
		put(i)
	}
	if grown := int64(heap()) - int64(before); grown > 4<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if size := c.Stats().Size; size != 1000 {
		t.Errorf("%d answers", size)
	}
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func TestCacheKeepsNoAnswerFromBeforeAFlush(t *testing.T) {
	c := open(t, cache.Options{Size: 10})
	keep := cache.Keep{For: time.Hour}
	ask(t, c, "kept", keep)
	begun, flushed, answered := make(chan struct{}), make(chan struct{}), make(chan string)
	go func() {
		value, _ := cache.GetOrDo(context.Background(), c, key("under way"), func(context.Context) (string, cache.Keep) {
			close(begun)
			<-flushed
			return "stale", keep
		})
		answered <- value
	}()
	<-begun
	c.Flush()
	if !ask(t, c, "kept", keep) {
		t.Error("what was kept is still there")
	}
	if !ask(t, c, "under way", keep) {
		t.Error("work that began before the flush was shared after it")
	}
	close(flushed)
	if value := <-answered; value != "stale" {
		t.Errorf("the one who began it got %q", value)
	}
	if value, _ := cache.Get[string](c, key("under way")); value != "answer to under way" {
		t.Errorf("kept is %q", value)
	}
}

func TestGetOrDoSharesConcurrentWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, cache.Options{})
		var worked atomic.Int32
		release := make(chan struct{})
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				value, ok := cache.GetOrDo(t.Context(), c, key("x"), func(context.Context) (int32, cache.Keep) {
					<-release
					return worked.Add(1), cache.Keep{}
				})
				if !ok || value != 1 {
					t.Errorf("got %d, %t", value, ok)
				}
			})
		}
		synctest.Wait()
		s := c.Stats()
		if misses, shared := s.Misses[verification.Signature], s.Shared[verification.Signature]; misses != 1 || shared != 99 {
			t.Errorf("%d misses, %d shared", misses, shared)
		}
		close(release)
		callers.Wait()
		if worked.Load() != 1 {
			t.Errorf("the work was done %d times", worked.Load())
		}
	})
}

// TestGetOrDoStartsNoWorkForAnEndedCaller, but gives it what the cache has.
func TestGetOrDoStartsNoWorkForAnEndedCaller(t *testing.T) {
	past, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	gone, giveUp := context.WithCancel(t.Context())
	giveUp()
	for sentence, ctx := range map[string]context.Context{"its time ran out": past, "it gave up": gone} {
		t.Run(sentence, func(t *testing.T) {
			c := open(t, cache.Options{Size: 10})
			ask(t, c, "kept", cache.Keep{For: time.Hour})
			for i := range 10 {
				_, ok := cache.GetOrDo(ctx, c, key(fmt.Sprint(i)), func(context.Context) (string, cache.Keep) { return "worked", cache.Keep{} })
				if ok {
					t.Error("it got an answer")
				}
			}
			if misses := c.Stats().Misses[verification.Signature]; misses != 1 { // that of the caller in time
				t.Errorf("work began %d times", misses)
			}
			if value, ok := cache.GetOrDo(ctx, c, key("kept"), func(context.Context) (string, cache.Keep) { return "anew", cache.Keep{} }); !ok || value != "answer to kept" {
				t.Errorf("of the kept answer it got %q, %t", value, ok)
			}
		})
	}
}

func TestGetOrDoRaisesAPanicAndKeepsNothing(t *testing.T) {
	c := open(t, cache.Options{Size: 10})
	func() {
		defer func() {
			if r := recover(); r != "out of order" {
				t.Errorf("recovered %v", r)
			}
		}()
		cache.GetOrDo(t.Context(), c, key("x"), func(context.Context) (string, cache.Keep) { panic("out of order") })
	}()
	if !ask(t, c, "x", cache.Keep{For: time.Hour}) {
		t.Error("an answer was kept")
	}
}

func TestGetOrDoKeepsNoAnswerOfWorkCutShort(t *testing.T) {
	c := open(t, cache.Options{Size: 10, Timeout: time.Millisecond})
	cache.GetOrDo(t.Context(), c, key("x"), func(ctx context.Context) (string, cache.Keep) {
		<-ctx.Done()
		return "half", cache.Keep{For: time.Hour}
	})
	if value, ok := cache.Get[string](c, key("x")); ok {
		t.Errorf("kept %q", value)
	}
}
