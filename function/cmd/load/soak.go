package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
)

// Bounds of a soak. Those named more... are on the growth between the first minute and the end.
const (
	soakCallers   = 16
	mostMemory    = 256 << 20 // bytes, at any time
	moreMemory    = 32 << 20
	moreFiles     = 64
	moreRoutines  = 200
	settleForSoak = 20 * time.Second // for idle connections to be closed before the last measurement
)

// soak sends mixed load, for images that are cached, new, unsigned and missing, while the registry fails from time to time.
// It is an error when memory, open files or goroutines exceed their bounds.
func (fx *fixture) soak(ctx context.Context, lasts time.Duration) error {
	images, err := fx.pushMany(ctx, "soak", 1500, false)
	if err != nil {
		return err
	}
	plugged, err := fx.pushMany(ctx, "plugged", 200, true)
	if err != nil {
		return err
	}
	images = append(append(images, plugged...), fx.scenario.Reference("missing"))
	ctx, cancel := context.WithTimeout(ctx, lasts)
	defer cancel()
	var answers [600]atomic.Int64
	var callers sync.WaitGroup
	for range soakCallers {
		callers.Go(func() {
			for ctx.Err() == nil {
				status, _, err := fx.warm.post(ctx, pod(images[rand.IntN(len(images))], images[rand.IntN(20)]))
				if err == nil {
					answers[status].Add(1)
				}
			}
		})
	}
	callers.Go(func() { fx.disturb(ctx) })
	first, err := fx.watch(ctx, &answers)
	cancel()
	callers.Wait()
	if err != nil {
		return err
	}
	fx.registry.SetFault(nil)
	time.Sleep(settleForSoak)
	last, err := fx.warm.state()
	if err != nil {
		return err
	}
	return grown(first, last)
}

// disturb changes the fault of the registry every three seconds.
func (fx *fixture) disturb(ctx context.Context) {
	faults := []registrytest.Fault{nil, registrytest.Delay(50 * time.Millisecond), registrytest.Down, nil, registrytest.Truncate, registrytest.FailTimes(100, http.StatusTooManyRequests, nil), nil}
	for i := 0; ctx.Err() == nil; i++ {
		fx.registry.SetFault(faults[i%len(faults)])
		fx.registry.Reset() // the registry records every request
		select {
		case <-ctx.Done():
		case <-time.After(3 * time.Second):
		}
	}
}

// watch prints a line every ten seconds, and returns the state after the first minute, or after half of a shorter soak.
func (fx *fixture) watch(ctx context.Context, answers *[600]atomic.Int64) (first state, err error) {
	began := time.Now()
	deadline, _ := ctx.Deadline()
	warmUp := min(time.Minute, time.Until(deadline)/2)
	for {
		select {
		case <-ctx.Done():
			return first, nil
		case <-time.After(min(10*time.Second, warmUp)):
		}
		now, err := fx.warm.state()
		if err != nil {
			return first, err
		}
		if first == (state{}) && time.Since(began) >= warmUp {
			first = now
		}
		fmt.Printf("%4.0f s: %3.0f MiB, %4.0f files, %4.0f goroutines, %4.0f kept; answers", time.Since(began).Seconds(), now.resident/(1<<20), now.files, now.goroutines, now.entries)
		for status := range answers {
			if n := answers[status].Load(); n > 0 {
				fmt.Printf(" %d: %d", status, n)
			}
		}
		fmt.Println()
		if now.resident > mostMemory {
			return first, fmt.Errorf("it takes %.0f MiB", now.resident/(1<<20))
		}
	}
}

func grown(first, last state) error {
	for _, bound := range []struct {
		of                 string
		first, last, bound float64
	}{
		{"bytes of memory", first.resident, last.resident, moreMemory},
		{"open files", first.files, last.files, moreFiles},
		{"goroutines", first.goroutines, last.goroutines, moreRoutines},
	} {
		if bound.last > bound.first+bound.bound {
			return fmt.Errorf("%s grew from %.0f to %.0f", bound.of, bound.first, bound.last)
		}
	}
	fmt.Println("bounded")
	return nil
}
