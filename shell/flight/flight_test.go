package flight_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/flight"
)

// result is what Do gave.
type result struct {
	value string
	ok    bool
}

func do(ctx context.Context, g *flight.Group[string, string], work func(context.Context) string) <-chan result {
	got := make(chan result, 1)
	go func() {
		value, ok := g.Do(ctx, "key", work)
		got <- result{value, ok}
	}()
	return got
}

func TestDoGoesOnForTheOthersWhenTheStarterGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g flight.Group[string, string]
		release := make(chan struct{})
		work := func(ctx context.Context) string {
			select {
			case <-release:
				return "done"
			case <-ctx.Done():
				return "canceled"
			}
		}
		starter, giveUp := context.WithCancel(t.Context())
		first := do(starter, &g, work)
		synctest.Wait()
		second := do(t.Context(), &g, work)
		synctest.Wait()
		giveUp()
		if got := <-first; got.ok {
			t.Errorf("the caller that gave up got %q", got.value)
		}
		close(release)
		if got := <-second; got.value != "done" {
			t.Errorf("the other got %q", got.value)
		}
	})
}

func TestDoCancelsTheWorkWhenTheLastCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g flight.Group[string, string]
		var ended error
		ctx, giveUp := context.WithCancel(t.Context())
		got := do(ctx, &g, func(ctx context.Context) string {
			<-ctx.Done()
			ended = ctx.Err()
			return ""
		})
		synctest.Wait()
		giveUp()
		if r := <-got; r.ok {
			t.Error("a caller that gave up got a result")
		}
		synctest.Wait()
		if ended != context.Canceled {
			t.Errorf("the work ended with %v", ended)
		}
	})
}

func TestDoGoesOnForTheNextWhereTheGroupSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.Group[string, string]{Timeout: time.Minute, GoesOn: true}
		release := make(chan struct{})
		ctx, giveUp := context.WithCancel(t.Context())
		first := do(ctx, &g, func(ctx context.Context) string {
			select {
			case <-release:
				return "the first flight"
			case <-ctx.Done():
				return "canceled"
			}
		})
		synctest.Wait()
		giveUp()
		if got := <-first; got.ok {
			t.Errorf("the caller that gave up got %q", got.value)
		}
		next := do(t.Context(), &g, func(context.Context) string { return "a second flight" })
		synctest.Wait()
		close(release)
		if got := <-next; got.value != "the first flight" {
			t.Errorf("the next got %q", got.value)
		}
	})
}

func TestDoStartsAnewForACallerWhoseFlightRanOutOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.Group[string, string]{Timeout: time.Second}
		var times atomic.Int32
		work := func(ctx context.Context) string {
			if times.Add(1) == 1 {
				<-ctx.Done()
				return "late"
			}
			return "in time"
		}
		first := do(t.Context(), &g, work)
		synctest.Wait()
		second := do(t.Context(), &g, work)
		if got := <-second; got.value != "in time" {
			t.Errorf("the caller that joined got %q", got.value)
		}
		if got := <-first; got.value != "late" {
			t.Errorf("the caller that started got %q", got.value)
		}
	})
}

func TestDoWaitsItsGraceForWhatALateFlightSays(t *testing.T) {
	for sentence, test := range map[string]struct {
		grace time.Duration
		ok    bool
	}{
		"within its grace": {time.Second, true},
		"without grace":    {0, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := flight.Group[string, string]{Timeout: 1500 * time.Millisecond, Grace: test.grace}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				got := <-do(ctx, &g, func(ctx context.Context) string { <-ctx.Done(); return "late" })
				if got.ok != test.ok {
					t.Errorf("got %q, %t", got.value, got.ok)
				}
			})
		})
	}
}

func TestForgetStartsAnewForLaterCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g flight.Group[string, string]
		release := make(chan struct{})
		first := do(t.Context(), &g, func(context.Context) string { <-release; return "old" })
		synctest.Wait()
		g.Forget(func(key string) bool { return key == "key" })
		if got := <-do(t.Context(), &g, func(context.Context) string { return "new" }); got.value != "new" {
			t.Errorf("the later caller got %q", got.value)
		}
		close(release)
		if got := <-first; got.value != "old" {
			t.Errorf("the caller from before got %q", got.value)
		}
	})
}

func TestDoRaisesAPanicInEveryCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g flight.Group[string, string]
		release := make(chan struct{})
		raised := make(chan any, 2)
		for range 2 {
			go func() {
				defer func() { raised <- recover() }()
				g.Do(t.Context(), "key", func(context.Context) string { <-release; panic("out of order") })
			}()
			synctest.Wait()
		}
		close(release)
		for range 2 {
			if r := <-raised; r != "out of order" {
				t.Errorf("recovered %v", r)
			}
		}
	})
}
