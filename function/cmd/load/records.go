package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
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
	recordTurns   = 10
	recordCallers = 16
	recordRate    = 2000 // requests per second, of all callers
	moreForThem   = 64 << 20
)

// records measures what it costs to record every decision about a kept image: n requests to a service that writes a record of each,
// in turns with as many to one that writes none. It is an error when a record is missing that no metric counts, when memory grows
// past a bound, or when the p99 of the one that records is over that of the other, in the median of the turns, by more than a half.
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
	var with, without, ratios []time.Duration
	for turn := range recordTurns {
		tails := map[*process]time.Duration{}
		order := []*process{fx.warm, recording}
		if turn%2 == 1 {
			slices.Reverse(order)
		}
		for _, p := range order {
			took, err := paced(ctx, p, body, n/recordTurns)
			if err != nil {
				return err
			}
			tails[p] = percentile(took, 99)
			fmt.Printf("turn %2d, recording %-5t: p50 %s ms, p99 %s ms\n", turn, p == recording, millis(percentile(took, 50)), millis(tails[p]))
		}
		without, with = append(without, tails[fx.warm]), append(with, tails[recording])
		ratios = append(ratios, 1000*tails[recording]/tails[fx.warm])
	}
	after, err := recording.state()
	if err != nil {
		return err
	}
	ratio := float64(percentile(ratios, 50)) / 1000
	fmt.Printf("p99 %s ms with records and %s ms without, %.2f times as much (medians of %d turns); memory %.0f MiB before, %.0f MiB after\n",
		millis(percentile(with, 50)), millis(percentile(without, 50)), ratio, recordTurns, before.resident/(1<<20), after.resident/(1<<20))
	if err := fx.recorded(recording, file, n/recordTurns*recordTurns+1); err != nil {
		return err
	}
	switch {
	case after.resident > before.resident+moreForThem:
		return errors.New("memory is not bounded")
	case ratio > 1.5:
		return errors.New("the admissions are slower")
	}
	return nil
}

// paced sends n requests at a rate, and gives the duration of each.
func paced(ctx context.Context, to *process, body string, n int) ([]time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	took := make([]time.Duration, n)
	var next atomic.Int64
	began := time.Now()
	var callers sync.WaitGroup
	for range recordCallers {
		callers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / recordRate)))
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
		for lines = 0; scanner.Scan(); lines++ {
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
