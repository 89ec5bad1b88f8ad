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

// take is what a tenant holds, or wants.
type take struct {
	tenant string
	bytes  int64
}

func TestRoom(t *testing.T) {
	tests := map[string]struct {
		held []take
		want take
		fits bool
	}{
		"an empty room":                              {nil, take{"a", 32}, true},
		"more than a share is a share":               {nil, take{"a", 1000}, true},
		"the rest of a share":                        {[]take{{"a", 30}}, take{"a", 2}, true},
		"more than the rest of a share":              {[]take{{"a", 30}}, take{"a", 3}, false},
		"another's share is not touched":             {[]take{{"a", 32}}, take{"b", 32}, true},
		"nothing is left where all have their share": {[]take{{"a", 32}, {"b", 32}, {"c", 32}}, take{"d", 1}, false},
		"nothing always fits":                        {[]take{{"a", 32}}, take{"b", 0}, true},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				room := NewRoom(96, 32)
				for _, held := range test.held {
					give, err := room.Take(t.Context(), held.tenant, held.bytes)
					if err != nil {
						t.Fatal(err)
					}
					defer give()
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				give, err := room.Take(ctx, test.want.tenant, test.want.bytes)
				if (err == nil) != test.fits {
					t.Errorf("it fits is %t: %v", err == nil, err)
				}
				if err == nil {
					give()
				}
			})
		})
	}
}

// TestRoomHoldsNoMore lets many tenants come and go, some of whom give up, and adds up what they have.
func TestRoomHoldsNoMore(t *testing.T) {
	const size, share = 96, 32
	room := NewRoom(size, share)
	var total atomic.Int64
	var tenants [5]atomic.Int64
	var running sync.WaitGroup
	for i := range 200 {
		running.Go(func() {
			mine, n := &tenants[i%5], int64(1+i%share)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%7 == 0 {
				go cancel()
			}
			give, err := room.Take(ctx, fmt.Sprint(i%5), n)
			if err != nil {
				return
			}
			if own, all := mine.Add(n), total.Add(n); own > share || all > size {
				t.Errorf("a tenant has %d, all have %d", own, all)
			}
			runtime.Gosched()
			mine.Add(-n)
			total.Add(-n)
			give()
		})
	}
	running.Wait()
	if len(room.lots) != 0 || !room.common.TryAcquire(size) {
		t.Errorf("%d lots are left behind", len(room.lots))
	}
}
