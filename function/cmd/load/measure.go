package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/samber/lo"
)

// load is a kind of request, sent by a number of callers.
type load struct {
	name    string
	to      *process
	callers int
	body    func(i int) string // body of the i-th request
	most    int                // requests; 0 for as many as fit into the time
}

// figures are the measurements of a load.
type figures struct {
	requests           int
	p50, p99           time.Duration
	rate               float64 // per second
	lookups, processes float64 // registry requests and plugin processes per request
	mallocs            float64 // per request
	resident           float64 // bytes, after the load
}

// measure sends a load and measures it, after a few requests for warming up.
func (fx *fixture) measure(ctx context.Context, l load) (figures, error) {
	if l.most == 0 {
		for i := range 3 {
			if status, text, err := l.to.post(ctx, l.body(i)); err != nil || status != http.StatusOK {
				return figures{}, fmt.Errorf("%s: answer %d %s %w", l.name, status, text, err)
			}
		}
	}
	before, err := l.to.state()
	if err != nil {
		return figures{}, err
	}
	fx.registry.Reset()
	began := time.Now()
	took, err := l.send(ctx, fx.options.each)
	if err != nil {
		return figures{}, fmt.Errorf("%s: %w", l.name, err)
	}
	elapsed := time.Since(began)
	asked := len(fx.registry.Requests())
	after, err := l.to.state()
	if err != nil {
		return figures{}, err
	}
	n := float64(len(took))
	return figures{
		requests: len(took), p50: percentile(took, 50), p99: percentile(took, 99), rate: n / elapsed.Seconds(),
		lookups: float64(asked) / n, processes: (after.processes - before.processes) / n,
		mallocs: (after.mallocs - before.mallocs) / n, resident: after.resident,
	}, nil
}

// send has all callers send requests for the given time. It returns the duration of each request, and the first error.
func (l load) send(ctx context.Context, each time.Duration) ([]time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	took := make([][]time.Duration, l.callers)
	until := time.Now().Add(each)
	var callers sync.WaitGroup
	for caller := range l.callers {
		callers.Go(func() {
			for {
				i := int(next.Add(1) - 1)
				if l.most > 0 && i >= l.most || l.most == 0 && time.Now().After(until) || ctx.Err() != nil {
					return
				}
				began := time.Now()
				status, text, err := l.to.post(ctx, l.body(i))
				if err != nil || status != http.StatusOK {
					cancel(fmt.Errorf("answer %d %s %w", status, text, err))
					return
				}
				took[caller] = append(took[caller], time.Since(began))
			}
		})
	}
	callers.Wait()
	return slices.Concat(took...), context.Cause(ctx)
}

func percentile(took []time.Duration, p int) time.Duration {
	if len(took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(took))
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

// pod is the request for a pod with these images.
func pod(images ...string) string {
	containers := lo.Map(images, func(image string, i int) string { return fmt.Sprintf(`{"name":"c%d","image":%q}`, i, image) })
	return fmt.Sprintf(`{"object":{"kind":"Pod","spec":{"containers":[%s]}}}`, strings.Join(containers, ","))
}

func always(body string) func(int) string { return func(int) string { return body } }

// row prints one line of a table.
func (f figures) row(name string) {
	fmt.Printf("| %s | %s | %s | %.0f | %.2f | %.2f | %.0f | %.0f |\n", name, millis(f.p50), millis(f.p99), f.rate, f.lookups, f.processes, f.mallocs, f.resident/(1<<20))
}

func heading(title string) {
	fmt.Printf("\n%s\n\n| load | p50 ms | p99 ms | per s | registry requests | plugin processes | allocations | memory MiB |\n|---|---|---|---|---|---|---|---|\n", title)
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d.Microseconds())/1000) }
