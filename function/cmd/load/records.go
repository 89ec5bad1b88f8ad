package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// How decisions are recorded under load.
const (
	recordTurns   = 40 // at each rate
	recordCallers = 16
	moreForThem   = 64 << 20
)

// recordRates are those at which is sent, how many of 100 requests are sent at each, and how many times the p99 may be that without
// records. A cluster sends less than the lower one; the higher one keeps the cores busy that service and callers share.
var recordRates = []struct {
	perSecond, share int
	most             float64
}{{500, 20, 1.05}, {2000, 80, 1.1}}

// records measures what it costs to record every decision about a kept image: n requests to a service that writes a record of each,
// in turns with as many to one that writes none. It is an error when a record is missing that no metric counts, when memory grows
// past a bound, or when the p99 of the one that records is proven to be over that of the other by more than recordRates allows: when
// all of the interval, in which the median of the turns' ratios is with 95 % confidence, is above.
func (fx *fixture) records(ctx context.Context, n int) error {
	file := filepath.Join(fx.dir, "decisions.jsonl")
	recording, err := fx.serve(ctx, "--recordKept=1", "--decisionLogMaxBytes=0", "--decisionLog", file)
	if err != nil {
		return err
	}
	defer recording.stop()
	image, err := fx.push(ctx, "recorded", false)
	if err != nil {
		return err
	}
	body := pod(image)
	for _, p := range []*process{fx.warm, recording} {
		if status, text, err := p.post(ctx, body); err != nil || status != http.StatusOK {
			return fmt.Errorf("answer %d %s %w", status, text, err)
		}
	}
	before, err := recording.state()
	if err != nil {
		return err
	}
	sent, slower := 1, false
	for _, rate := range recordRates {
		each := n * rate.share / 100 / recordTurns
		least, err := fx.compareAt(ctx, recording, body, rate.perSecond, each)
		if err != nil {
			return err
		}
		sent, slower = sent+each*recordTurns, slower || least > rate.most
	}
	after, err := recording.state()
	if err != nil {
		return err
	}
	fmt.Printf("memory %.0f MiB before, %.0f MiB after\n", before.resident/(1<<20), after.resident/(1<<20))
	if err := fx.recorded(recording, file, sent); err != nil {
		return err
	}
	switch {
	case after.resident > before.resident+moreForThem:
		return errors.New("memory is not bounded")
	case slower:
		return errors.New("the admissions are slower")
	}
	return nil
}

// compareAt sends at a rate, in turns to the service that records and to the one that does not, each as many requests. It gives
// how many times the p99 of the one that records is that of the other at least, with 95 % confidence in the median of the turns.
func (fx *fixture) compareAt(ctx context.Context, recording *process, body string, rate, each int) (float64, error) {
	tails, middles := map[*process][]time.Duration{}, map[*process][]time.Duration{}
	var ratios []float64
	used := map[*process]float64{}
	order := []*process{fx.warm, recording}
	for turn := range recordTurns {
		for _, p := range order {
			before, err := p.state()
			if err != nil {
				return 0, err
			}
			took, err := paced(ctx, p, body, rate, each)
			if err != nil {
				return 0, err
			}
			after, err := p.state()
			if err != nil {
				return 0, err
			}
			used[p] += 1e6 * (after.processor - before.processor) / float64(each*recordTurns)
			tails[p], middles[p] = append(tails[p], percentile(took, 99)), append(middles[p], percentile(took, 50))
		}
		ratios = append(ratios, float64(tails[recording][turn])/float64(tails[fx.warm][turn]))
		slices.Reverse(order)
	}
	middle := func(times []time.Duration) string { return millis(percentile(times, 50)) }
	least, ratio, most := medianWithin(ratios)
	fmt.Printf("%d per second: p50 %s ms with records and %s ms without; p99 %s ms with and %s ms without, %.2f times as much (medians of %d turns; 95 %% confidence: %.2f to %.2f); processor time %.0f us a request with and %.0f us without, so %.0f us a record\n",
		rate, middle(middles[recording]), middle(middles[fx.warm]), middle(tails[recording]), middle(tails[fx.warm]), ratio, recordTurns, least, most, used[recording], used[fx.warm], used[recording]-used[fx.warm])
	return least, nil
}

// medianWithin gives the median of values, and an interval in which the median of what they are drawn from is with 95 % confidence. It
// assumes nothing of their distribution: how many values are below that median is binomial.
func medianWithin(values []float64) (least, median, most float64) {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	const sided = 0.025
	cut, chance, below := 0, math.Pow(0.5, float64(n)), 0.0
	for k := 0; k < n/2; k++ {
		if below += chance; below > sided {
			break
		}
		cut, chance = k, chance*float64(n-k)/float64(k+1)
	}
	return sorted[cut], sorted[n/2], sorted[n-1-cut]
}

// paced sends n requests at a rate per second, and gives the duration of each.
func paced(ctx context.Context, to *process, body string, rate, n int) ([]time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	took := make([]time.Duration, n)
	var next atomic.Int64
	began := time.Now()
	var callers sync.WaitGroup
	for range recordCallers {
		callers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate))))
				sent := time.Now()
				status, text, err := to.post(ctx, body)
				if err != nil || status != http.StatusOK {
					cancel(fmt.Errorf("answer %d %s %w", status, text, err))
					return
				}
				took[i] = time.Since(sent)
			}
		})
	}
	callers.Wait()
	return took, context.Cause(ctx)
}

var lostRecords = regexp.MustCompile(`(?m)^kyverno_notation_venafi_decision(?:_sink)?_records_total\{outcome="(?:dropped|failed)"[^}]*\} ([0-9]+)$`)

// recorded counts the lines of the log, and holds that those which are missing are counted as lost.
func (fx *fixture) recorded(recording *process, file string, n int) error {
	var lines, lost int
	for range 100 { // the last ones are under way
		from, err := os.Open(file)
		if err != nil {
			return err
		}
		scanner := bufio.NewScanner(from)
		scanner.Buffer(nil, 1<<20)
		lines = 0
		for scanner.Scan() {
			if bytes.Contains(scanner.Bytes(), []byte(`"record":{`)) { // others are of the chain itself
				lines++
			}
		}
		if err := errors.Join(scanner.Err(), from.Close()); err != nil {
			return err
		}
		_, text, err := recording.get("/metrics")
		if err != nil {
			return err
		}
		lost = 0
		for _, match := range lostRecords.FindAllStringSubmatch(text, -1) {
			some, err := strconv.Atoi(match[1])
			if err != nil {
				return err
			}
			lost += some
		}
		if lines+lost == n {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	fmt.Printf("%d decisions: %d records of %d bytes each, %d counted as lost\n", n, lines, info.Size()/int64(max(1, lines)), lost)
	if lines+lost != n {
		return errors.New("records are missing that nothing counts")
	}
	return nil
}
