package fair

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// demand is what a tenant holds, or wants.
type demand struct {
	tenant string
	bytes  int64
}

func TestByteBudgetAcquire(t *testing.T) {
	tests := map[string]struct {
		held []demand
		want demand
		fits bool
	}{
		"an empty budget": {nil, demand{"a", 32}, true},
		"more than the tenant's budget gets that budget": {nil, demand{"a", 1000}, true},
		"the rest of the tenant's budget":                {[]demand{{"a", 30}}, demand{"a", 2}, true},
		"more than the rest of the tenant's budget":      {[]demand{{"a", 30}}, demand{"a", 3}, false},
		"another tenant's budget is not touched":         {[]demand{{"a", 32}}, demand{"b", 32}, true},
		"nothing is left where all hold their budgets":   {[]demand{{"a", 32}, {"b", 32}, {"c", 32}}, demand{"d", 1}, false},
		"0 bytes always fit":                             {[]demand{{"a", 32}}, demand{"b", 0}, true},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				budget := NewByteBudget(96, 32)
				for _, held := range test.held {
					release, err := budget.Acquire(t.Context(), held.tenant, held.bytes)
					if err != nil {
						t.Fatal(err)
					}
					defer release()
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				release, err := budget.Acquire(ctx, test.want.tenant, test.want.bytes)
				if (err == nil) != test.fits {
					t.Errorf("it fits is %t: %v", err == nil, err)
				}
				if err == nil {
					release()
				}
			})
		})
	}
}

// TestByteBudgetKeepsItsBoundsUnderLoad lets many tenants come and go, some of which give up, and adds up what they hold.
func TestByteBudgetKeepsItsBoundsUnderLoad(t *testing.T) {
	const size, perTenant = 96, 32
	budget := NewByteBudget(size, perTenant)
	var total atomic.Int64
	var tenants [5]atomic.Int64
	var running sync.WaitGroup
	for i := range 200 {
		running.Go(func() {
			mine, n := &tenants[i%5], int64(1+i%perTenant)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%7 == 0 {
				go cancel()
			}
			release, err := budget.Acquire(ctx, fmt.Sprint(i%5), n)
			if err != nil {
				return
			}
			if own, all := mine.Add(n), total.Add(n); own > perTenant || all > size {
				t.Errorf("a tenant has %d, all have %d", own, all)
			}
			runtime.Gosched()
			mine.Add(-n)
			total.Add(-n)
			release()
		})
	}
	running.Wait()
	if !budget.common.TryAcquire(size) {
		t.Error("some bytes were not given back")
	}
}

// TestByteBudgetForgetsTenants so that tenants of the past do not fill the memory.
func TestByteBudgetForgetsTenants(t *testing.T) {
	budget := NewByteBudget(96, 32)
	release, ok := budget.TryAcquire("holds", 32)
	if !ok {
		t.Fatal("there is no room")
	}
	for i := range 10 * idleTenants {
		for range 2 {
			release, ok := budget.TryAcquire(fmt.Sprint(i), 64)
			if !ok {
				t.Fatalf("tenant %d gets nothing", i)
			}
			release()
		}
	}
	if n := len(budget.tenants); n > idleTenants {
		t.Errorf("%d tenants are remembered; want at most %d", n, idleTenants)
	}
	if _, ok := budget.TryAcquire("holds", 1); ok {
		t.Error("a tenant that holds all that it may was forgotten")
	}
	release()
}
