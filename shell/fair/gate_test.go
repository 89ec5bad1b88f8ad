package fair_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/fair"
)

// arrive lets a tenant enter in the background, and returns once it is in or waits. What it says on the channel is who
// got in.
func arrive(t *testing.T, g *fair.Gate, tenant string, in chan<- string) {
	t.Helper()
	before := g.Stats()
	go func() {
		if err := g.Enter(t.Context(), tenant); err == nil {
			in <- tenant
		}
	}()
	for deadline := time.Now().Add(20 * time.Second); g.Stats() == before; time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatal("it neither entered nor waits")
		}
	}
}

func TestTenantsTakeTurns(t *testing.T) {
	g, in := fair.New(1, 20), make(chan string, 20)
	for _, tenant := range []string{"a", "a", "a", "a", "b", "b", "c"} {
		arrive(t, g, tenant, in)
	}
	for i, want := range []string{"a", "a", "b", "c", "a", "b", "a"} {
		if got := <-in; got != want {
			t.Errorf("number %d is %s; want %s", i, got, want)
		}
		g.Leave(want)
	}
	if got := g.Stats(); got != (fair.Stats{}) {
		t.Errorf("left behind: %+v", got)
	}
}

func TestOneTenantLeavesRoom(t *testing.T) {
	g, in := fair.New(8, 20), make(chan string, 20)
	for range 16 {
		arrive(t, g, "greedy", in)
	}
	if got := g.Stats(); got.Inside != 6 || got.Queued != 10 {
		t.Errorf("%+v; want 6 inside, 10 waiting", got)
	}
	if err := g.Enter(t.Context(), "greedy"); !errors.Is(err, fair.ErrFull) {
		t.Errorf("one more of the greedy: %v", err)
	}
	arrive(t, g, "modest", in)
	if got := g.Stats(); got.Inside != 7 {
		t.Errorf("another tenant is not let in: %+v", got)
	}
}

func TestTheQueueHasAnEnd(t *testing.T) {
	for sentence, queue := range map[string]int{"no queue": 0, "a queue of one": 1} {
		g, in := fair.New(1, queue), make(chan string, 20)
		for range 1 + queue {
			arrive(t, g, "a", in)
		}
		if err := g.Enter(t.Context(), "b"); !errors.Is(err, fair.ErrFull) {
			t.Errorf("%s: %v", sentence, err)
		}
		if got := g.Stats().Refused; got != 1 {
			t.Errorf("%s: %d refused", sentence, got)
		}
	}
}

func TestGivingUpLeavesTheQueue(t *testing.T) {
	g, in := fair.New(1, 20), make(chan string, 20)
	arrive(t, g, "a", in)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() { gone <- g.Enter(ctx, "b") }()
	for g.Stats().Queued == 0 {
		time.Sleep(100 * time.Microsecond)
	}
	arrive(t, g, "c", in)
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("gave up with %v", err)
	}
	<-in
	g.Leave("a")
	if next := <-in; next != "c" {
		t.Errorf("next is %s", next)
	}
}

// TestManyAtOnce keeps the bounds, and loses nobody's place.
func TestManyAtOnce(t *testing.T) {
	g := fair.New(5, 1000)
	var inside, entered atomic.Int32
	var callers sync.WaitGroup
	for i := range 400 {
		callers.Go(func() {
			tenant := fmt.Sprint(i % 7)
			ctx := t.Context()
			if i%5 == 0 {
				soon, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(1000))*time.Microsecond)
				defer cancel()
				ctx = soon
			}
			if err := g.Enter(ctx, tenant); err != nil {
				return
			}
			defer g.Leave(tenant)
			entered.Add(1)
			if n := inside.Add(1); n > 5 {
				t.Errorf("%d inside", n)
			}
			time.Sleep(10 * time.Microsecond)
			inside.Add(-1)
		})
	}
	callers.Wait()
	if got := g.Stats(); got.Inside != 0 || got.Queued != 0 || entered.Load() < 320 {
		t.Errorf("left behind: %+v; entered: %d", got, entered.Load())
	}
}
