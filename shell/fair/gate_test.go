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
		if err := g.Enter(t.Context(), tenant, ""); err == nil {
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
	g, in := fair.New(6, 20), make(chan string, 20)
	for _, tenant := range []string{"a", "a", "b", "b", "c", "c"} { // one is left when one leaves, so that they wait for more
		arrive(t, g, tenant, in)
		<-in
	}
	for _, tenant := range []string{"a", "a", "a", "b", "b", "c"} {
		arrive(t, g, tenant, in)
	}
	leaves := "a"
	for i, want := range []string{"a", "b", "c", "a", "b", "a"} {
		g.Leave(leaves, "")
		if got := <-in; got != want {
			t.Errorf("number %d is %s; want %s", i, got, want)
		}
		leaves = want
	}
	for _, tenant := range []string{"a", "a", "b", "b", "c", "c"} {
		g.Leave(tenant, "")
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
	if err := g.Enter(t.Context(), "greedy", ""); !errors.Is(err, fair.ErrFull) {
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
		if err := g.Enter(t.Context(), "a", ""); !errors.Is(err, fair.ErrFull) {
			t.Errorf("%s: %v", sentence, err)
		}
		if got := g.Stats().Refused; got != 1 {
			t.Errorf("%s: %d refused", sentence, got)
		}
	}
}

// TestColludingTenants take what they can get, and stay. Up to as many as there are places do not hold up another one.
func TestColludingTenants(t *testing.T) {
	const places, queue = 8, 64
	for _, colluding := range []int{1, 2, 3, places - 1, places} {
		t.Run(fmt.Sprint(colluding), func(t *testing.T) {
			g, in := fair.New(places, queue), make(chan string, 1000)
			for range 2 * (places + queue) {
				for i := range colluding {
					if tenant := fmt.Sprint("colluding ", i); g.Stats().Inside < places || g.Stats().Queued < queue {
						arrive(t, g, tenant, in)
					}
				}
			}
			for len(in) > 0 {
				<-in
			}
			arrive(t, g, "modest", in)
			if got := <-in; got != "modest" {
				t.Errorf("%s is let in", got)
			}
			arrive(t, g, "modest", in) // waits, though the queue is full
			g.Leave("modest", "")
			if got := <-in; got != "modest" {
				t.Errorf("%s is let in after that", got)
			}
			if got := g.Stats(); got.Inside > 2*places || got.Queued > 2*queue {
				t.Errorf("%+v; want at most %d inside and %d waiting", got, 2*places, 2*queue)
			}
		})
	}
}

// TestOnePartLeavesRoom for others of its tenant, also for those who came later.
func TestOnePartLeavesRoom(t *testing.T) {
	g := fair.New(16, 20) // 12 of one tenant, 9 of one part
	ctx, cancel := context.WithCancel(t.Context())
	var stalled sync.WaitGroup
	for range 12 {
		stalled.Go(func() { _ = g.Enter(ctx, "a", "tarpit") })
	}
	for g.Stats().Inside+g.Stats().Queued < 12 {
		time.Sleep(100 * time.Microsecond)
	}
	if got := g.Stats(); got.Inside != 9 || got.Queued != 3 {
		t.Errorf("%+v; want 9 inside, 3 waiting", got)
	}
	for range 3 {
		if err := g.Enter(t.Context(), "a", "another"); err != nil || g.Stats().Queued != 3 {
			t.Errorf("another part: %v, %+v", err, g.Stats())
		}
	}
	cancel()
	stalled.Wait()
}

func TestGivingUpLeavesTheQueue(t *testing.T) {
	g, in := fair.New(2, 20), make(chan string, 20)
	for _, tenant := range []string{"a", "b"} {
		arrive(t, g, tenant, in)
		<-in
	}
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() { gone <- g.Enter(ctx, "b", "") }()
	for g.Stats().Queued == 0 {
		time.Sleep(100 * time.Microsecond)
	}
	arrive(t, g, "a", in)
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("gave up with %v", err)
	}
	g.Leave("b", "")
	if next := <-in; next != "a" {
		t.Errorf("next is %s", next)
	}
}

// TestManyAtOnce keeps the bounds, twice the places in all, and loses nobody's place.
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
			if err := g.Enter(ctx, tenant, ""); err != nil {
				return
			}
			defer g.Leave(tenant, "")
			entered.Add(1)
			if n := inside.Add(1); n > 10 {
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
