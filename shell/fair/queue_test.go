package fair_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/fair"
)

// acquire has a tenant acquire a seat in the background, and returns once it has one or waits. The channel gets the
// tenant's name when it has its seat.
func acquire(t *testing.T, q *fair.Queue, tenant string, seated chan<- string) {
	t.Helper()
	go func() {
		if err := q.Acquire(t.Context(), tenant, ""); err == nil {
			seated <- tenant
		}
	}()
	synctest.Wait()
}

func TestQueueLetsTenantsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, seated := fair.NewQueue(6, 20), make(chan string, 20)
		for _, tenant := range []string{"a", "a", "b", "b", "c", "c"} { // each keeps a seat when it releases one, so none gets a reserve seat
			acquire(t, q, tenant, seated)
			<-seated
		}
		for _, tenant := range []string{"a", "a", "a", "b", "b", "c"} {
			acquire(t, q, tenant, seated)
		}
		released := "a"
		for i, want := range []string{"a", "b", "c", "a", "b", "a"} {
			q.Release(released, "")
			if got := <-seated; got != want {
				t.Errorf("number %d is %s; want %s", i, got, want)
			}
			released = want
		}
		for _, tenant := range []string{"a", "a", "b", "b", "c", "c"} {
			q.Release(tenant, "")
		}
		if got := q.Stats(); got != (fair.Stats{}) {
			t.Errorf("left behind: %+v", got)
		}
	})
}

func TestQueueLeavesSeatsForOtherTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, seated := fair.NewQueue(8, 20), make(chan string, 20)
		for range 16 {
			acquire(t, q, "greedy", seated)
		}
		if got := q.Stats(); got.InUse != 6 || got.Queued != 10 {
			t.Errorf("%+v; want 6 in use, 10 queued", got)
		}
		if err := q.Acquire(t.Context(), "greedy", ""); !errors.Is(err, fair.ErrFull) {
			t.Errorf("one more of the greedy: %v", err)
		}
		acquire(t, q, "modest", seated)
		if got := q.Stats(); got.InUse != 7 {
			t.Errorf("another tenant gets no seat: %+v", got)
		}
	})
}

func TestQueueRefusesWhenFull(t *testing.T) {
	for sentence, length := range map[string]int{"no queue": 0, "a queue of one": 1} {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, seated := fair.NewQueue(1, length), make(chan string, 20)
				for range 1 + length {
					acquire(t, q, "a", seated)
				}
				if err := q.Acquire(t.Context(), "a", ""); !errors.Is(err, fair.ErrFull) {
					t.Error(err)
				}
				if got := q.Stats().Refused; got != 1 {
					t.Errorf("%d refused", got)
				}
			})
		})
	}
}

// TestQueueServesATenantBesideColludingOnes has up to as many tenants as there are seats take all that they can get, and
// never release it.
func TestQueueServesATenantBesideColludingOnes(t *testing.T) {
	const seats, length = 8, 64
	for _, colluding := range []int{1, 2, 3, seats - 1, seats} {
		t.Run(fmt.Sprint(colluding), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, seated := fair.NewQueue(seats, length), make(chan string, 1000)
				for range 2 * (seats + length) {
					for i := range colluding {
						if tenant := fmt.Sprint("colluding ", i); q.Stats().InUse < seats || q.Stats().Queued < length {
							acquire(t, q, tenant, seated)
						}
					}
				}
				for len(seated) > 0 {
					<-seated
				}
				acquire(t, q, "modest", seated)
				if got := <-seated; got != "modest" {
					t.Errorf("%s gets the seat", got)
				}
				acquire(t, q, "modest", seated) // waits, though the queue is full
				q.Release("modest", "")
				if got := <-seated; got != "modest" {
					t.Errorf("%s gets the seat after that", got)
				}
				if got := q.Stats(); got.InUse > 2*seats || got.Queued > 2*length {
					t.Errorf("%+v; want at most %d in use and %d queued", got, 2*seats, 2*length)
				}
			})
		})
	}
}

// TestQueueLeavesSeatsForOtherPartsOfATenant also where callers of the greedy part came first.
func TestQueueLeavesSeatsForOtherPartsOfATenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := fair.NewQueue(16, 20) // 12 of one tenant, 9 of one part
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for range 12 {
			go func() { _ = q.Acquire(ctx, "a", "tarpit") }()
		}
		synctest.Wait()
		if got := q.Stats(); got.InUse != 9 || got.Queued != 3 {
			t.Errorf("%+v; want 9 in use, 3 queued", got)
		}
		for range 3 {
			if err := q.Acquire(t.Context(), "a", "another"); err != nil || q.Stats().Queued != 3 {
				t.Errorf("another part: %v, %+v", err, q.Stats())
			}
		}
	})
}

// TestQueueHoldsItsSharesWhereThereAreFewSeats: a share that was rounded up would leave nothing for others.
func TestQueueHoldsItsSharesWhereThereAreFewSeats(t *testing.T) {
	for seats := 2; seats <= 9; seats++ {
		synctest.Test(t, func(t *testing.T) {
			const length = 9
			q, seated := fair.NewQueue(seats, length), make(chan string, 20)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for range seats + length {
				go func() { _ = q.Acquire(ctx, "a", "tarpit") }()
			}
			synctest.Wait()
			ofTenant := max(1, 3*seats/4)
			if got := q.Stats(); got.InUse != max(1, 3*ofTenant/4) || got.Queued != length/2 {
				t.Errorf("%d seats: %+v of one part", seats, got)
			}
			for q.Stats().InUse < ofTenant {
				before := q.Stats()
				go func() { _ = q.Acquire(ctx, "a", "another") }()
				if synctest.Wait(); q.Stats().InUse != before.InUse+1 {
					t.Fatalf("%d seats: another part of the tenant gets none of its %d: %+v", seats, ofTenant, q.Stats())
				}
			}
			if acquire(t, q, "b", seated); len(seated) == 0 || ofTenant >= seats {
				t.Errorf("%d seats: another tenant gets none: %+v", seats, q.Stats())
			}
		})
	}
}

// TestQueueSparesASeat tells when work that comes after all other may begin, in a queue with 4 seats: 3 for a tenant.
func TestQueueSparesASeat(t *testing.T) {
	tests := map[string]struct {
		seated, then []string // tenants that acquire a seat, and tenants that wait for one after them
		tenant       string
		spare        bool
	}{
		"an empty queue":                                 {nil, nil, "a", true},
		"one seat left":                                  {[]string{"a", "b", "c"}, nil, "a", true},
		"no seat left":                                   {[]string{"a", "a", "b", "c"}, nil, "a", false},
		"none but a reserve seat":                        {[]string{"b", "b", "c", "c"}, nil, "a", false},
		"all the seats that the tenant may have":         {[]string{"a", "a", "a"}, nil, "a", false},
		"a seat that others who wait may not have":       {[]string{"b", "b", "b"}, []string{"b"}, "a", true},
		"a seat, but another of the tenant waits for it": {[]string{"a", "a", "a"}, []string{"a"}, "a", false},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, seated := fair.NewQueue(4, 20), make(chan string, 20)
				for _, tenant := range append(slices.Clone(test.seated), test.then...) {
					acquire(t, q, tenant, seated)
				}
				if got := len(seated); got != len(test.seated) {
					t.Fatalf("%d are seated", got)
				}
				before := q.Stats()
				spared := make(chan error, 1)
				ctx, cancel := context.WithCancel(t.Context())
				go func() { spared <- q.AwaitSpare(ctx, test.tenant, "") }()
				synctest.Wait()
				if got := len(spared) == 1; got != test.spare {
					t.Errorf("spare is %t", got)
				}
				if q.Stats() != before {
					t.Errorf("%+v became %+v", before, q.Stats())
				}
				cancel()
				if err := <-spared; (err == nil) != test.spare {
					t.Error(err)
				}
			})
		})
	}
}

// TestQueueSparesASeatAfterAllWhoWait also where the last of them gives up.
func TestQueueSparesASeatAfterAllWhoWait(t *testing.T) {
	const seats, ofOnePart = 8, 4
	for sentence, leave := range map[string]func(q *fair.Queue, giveUp func()){
		"it gets a seat and releases it": func(q *fair.Queue, _ func()) { q.Release("a", "tarpit"); q.Release("a", "tarpit") },
		"it gives up":                    func(_ *fair.Queue, giveUp func()) { giveUp() },
	} {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := fair.NewQueue(seats, 20)
				ctx, giveUp := context.WithCancel(t.Context())
				defer giveUp()
				for range ofOnePart + 1 {
					go func() { _ = q.Acquire(ctx, "a", "tarpit") }()
				}
				synctest.Wait()
				spared := make(chan error, 2)
				for range 2 {
					go func() { spared <- q.AwaitSpare(t.Context(), "a", "another") }()
				}
				synctest.Wait()
				if got := q.Stats(); got.InUse != ofOnePart || got.Queued != 1 || len(spared) != 0 {
					t.Fatalf("%+v, %d are spared a seat", got, len(spared))
				}
				leave(q, giveUp)
				synctest.Wait()
				if len(spared) != 2 {
					t.Errorf("%d are spared a seat", len(spared))
				}
			})
		})
	}
}

func TestQueueForgetsACallerThatGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, seated := fair.NewQueue(3, 20), make(chan string, 20)
		for _, tenant := range []string{"a", "b", "c"} {
			acquire(t, q, tenant, seated)
			<-seated
		}
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() { gone <- q.Acquire(ctx, "b", "") }()
		synctest.Wait()
		acquire(t, q, "a", seated)
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("gave up with %v", err)
		}
		q.Release("c", "")
		if next := <-seated; next != "a" {
			t.Errorf("next is %s", next)
		}
	})
}

// TestQueueKeepsItsBoundsUnderLoad has many callers come and go, some of which give up.
func TestQueueKeepsItsBoundsUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := fair.NewQueue(5, 1000)
		var mu sync.Mutex
		inUse, served := 0, 0
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
				if err := q.Acquire(ctx, tenant, ""); err != nil {
					return
				}
				defer q.Release(tenant, "")
				mu.Lock()
				served++
				if inUse++; inUse > 10 {
					t.Errorf("%d in use", inUse)
				}
				mu.Unlock()
				<-time.After(10 * time.Microsecond) // of the bubble's clock
				mu.Lock()
				inUse--
				mu.Unlock()
			})
		}
		callers.Wait()
		if got := q.Stats(); got.InUse != 0 || got.Queued != 0 || served < 320 {
			t.Errorf("left behind: %+v; served: %d", got, served)
		}
	})
}
