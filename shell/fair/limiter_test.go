package fair_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/nirmata/kyverno-notation-venafi/shell/fair"
)

// TestLimiterServesTenantsInTurns has one tenant come with many callers, before another one comes with few.
func TestLimiterServesTenantsInTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := fair.NewLimiter(1)
		if err := limiter.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var served []string
		var all sync.WaitGroup
		come := func(tenant string, n int) {
			for i := range n {
				all.Go(func() {
					if limiter.Acquire(fair.WithTenant(context.Background(), tenant)) == nil {
						mu.Lock()
						served = append(served, fmt.Sprint(tenant, i))
						mu.Unlock()
						limiter.Release()
					}
				})
				synctest.Wait()
			}
		}
		come("a", 4)
		come("b", 2)
		if limiter.Waiting() != 6 || limiter.InUse() != 1 {
			t.Errorf("%d wait, %d work", limiter.Waiting(), limiter.InUse())
		}
		limiter.Release()
		all.Wait()
		if got := strings.Join(served, " "); got != "a0 b0 a1 b1 a2 a3" {
			t.Errorf("served are %s", got)
		}
		if limiter.Waiting() != 0 || limiter.InUse() != 0 {
			t.Errorf("%d wait, %d work in the end", limiter.Waiting(), limiter.InUse())
		}
	})
}

func TestLimiterForgetsWhoGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := fair.NewLimiter(1)
		_ = limiter.Acquire(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error)
		go func() { gaveUp <- limiter.Acquire(fair.WithTenant(ctx, "a")) }()
		synctest.Wait()
		cancel()
		if err := <-gaveUp; err == nil {
			t.Error("it got a seat that is taken")
		}
		limiter.Release()
		if err := limiter.Acquire(t.Context()); err != nil || limiter.InUse() != 1 {
			t.Errorf("%v, %d in use", err, limiter.InUse())
		}
	})
}
