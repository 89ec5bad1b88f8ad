// Package auditor runs the auditor that package core/auditor decides for: [Auditor.Run] watches pods, their owners, namespaces and
// the reports that exist, verifies images, each registry at its pace, and writes reports and Events.
//
// Everything is decided under one lock, in short steps; what takes time is done outside of it. Nothing is kept beyond a term of the
// leader but the reports themselves.
package auditor

import (
	"context"
	"log/slog"
	"maps"
	"reflect"
	"sync"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/auditor"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

// Options of an Auditor.
type Options struct {
	auditor.Options
	Parallel int    // images that are verified at once
	Instance string // this process, in Events
}

// settleEvery is how often what waits is looked at again.
const settleEvery = 2 * time.Second

// Trust is what is verified under, and how.
type Trust struct {
	auditor.Trust
	Verify func(context.Context, audit.Check) audit.Verdict
}

// Auditor verifies what runs and reports on it. Make one with New, for each term of the leader.
type Auditor struct {
	client  *kubeclient.Client
	options Options
	pace    *Pace
	log     *slog.Logger
	health  *kubeclient.Health
	watches []watch

	mu     sync.Mutex
	state  *auditor.State
	trust  Trust
	known  map[string]Namespace // by name; nil before the first list
	relist func()               // is called after a change of namespaces; see OnNamespaces
	counts Counts

	verify, write chan struct{} // hold a change that was not looked at yet

	reports reports
	events  events
}

// Counts are since the auditor was made.
type Counts struct {
	Verified map[auditor.Cause]uint64
	Reports  map[string]uint64 // by outcome: written, deleted, conflict, failed
	Events   map[string]uint64 // by outcome: recorded, dropped, failed
}

// New prepares; Run does the work. Nothing is verified before SetTrust.
func New(client *kubeclient.Client, options Options, pace *Pace, log *slog.Logger) *Auditor {
	a := &Auditor{
		client: client, options: options, pace: pace, log: log, state: auditor.New(options.Options),
		counts: Counts{Verified: map[auditor.Cause]uint64{}, Reports: map[string]uint64{}, Events: map[string]uint64{}},
		verify: make(chan struct{}, 1), write: make(chan struct{}, 1), relist: func() {},
	}
	a.reports, a.events = newReports(a), newEvents(a)
	a.watches = []watch{a.podWatch(), a.namespaceWatch()}
	for _, kind := range auditor.Kinds() {
		a.watches = append(a.watches, a.ownerWatch(kind))
	}
	targets := make([]kubeclient.Target, len(a.watches))
	for i, w := range a.watches {
		targets[i] = w.Target
	}
	a.health = kubeclient.NewHealth(log, "what runs, for the auditor", targets...)
	return a
}

// SetTrust has images verified under another trust from now on: those that it affects, at once.
func (a *Auditor) SetTrust(trust Trust) {
	a.tell(func(now time.Time) {
		a.trust = trust
		a.state.Trust(trust.Trust, now)
	})
}

// OnNamespaces has a function called after each change of the namespaces and their labels. Call it before Run.
func (a *Auditor) OnNamespaces(changed func()) { a.relist = changed }

// Namespaces gives the namespaces, by name; false before they were listed for the first time.
func (a *Auditor) Namespaces() (map[string]Namespace, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.known), a.known != nil
}

// namespaces applies a change of the namespaces.
func (a *Auditor) namespaces(apply func()) {
	different := false
	a.tell(func(now time.Time) {
		before := maps.Clone(a.known)
		apply()
		for name := range before {
			if _, exists := a.known[name]; !exists {
				a.state.NamespaceGone(name, now)
			}
		}
		for name, n := range a.known {
			a.state.Namespace(name, n.Ends, now)
		}
		different = before == nil || !reflect.DeepEqual(before, a.known)
	})
	if different {
		a.relist()
	}
}

// tell changes the state, and has the consequences looked at.
func (a *Auditor) tell(change func(now time.Time)) {
	a.mu.Lock()
	change(time.Now())
	a.mu.Unlock()
	wake(a.verify)
	wake(a.write)
}

// wake leaves a value in a channel with room for one, unless there is one already.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run audits until ctx ends. Run it once.
func (a *Auditor) Run(ctx context.Context) {
	var parts sync.WaitGroup
	defer parts.Wait()
	for _, w := range a.watches {
		parts.Go(func() { a.client.WatchReduced(ctx, w.Target, w.store, a.health, w.reduce) })
	}
	parts.Go(func() { a.verifyAll(ctx) })
	parts.Go(func() { a.settle(ctx) })
	for _, w := range a.watches { // a report is deleted where there is no workload: all workloads must be known before
		select {
		case <-ctx.Done():
			return
		case <-w.listed:
		}
	}
	parts.Go(func() { a.reports.watch(ctx) })
	parts.Go(func() { a.writeAll(ctx) })
}

func (a *Auditor) settle(ctx context.Context) {
	ticker := time.NewTicker(settleEvery)
	defer ticker.Stop()
	leftOut := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		a.tell(a.state.Settle)
		if sizes := a.Sizes(); sizes.LeftOut != leftOut {
			leftOut = sizes.LeftOut
			a.log.Warn("there are more images than are kept; of some pods images are not looked at", "pods", leftOut, "images", sizes.Images)
		}
	}
}

// verifyAll verifies what is due, several images at once.
func (a *Auditor) verifyAll(ctx context.Context) {
	a.each(ctx, a.verify, a.options.Parallel, func(now time.Time) (func(), time.Duration) {
		task, wait := a.state.Next(now, a.pace.Ready)
		if task == nil {
			return nil, wait
		}
		verify := a.trust.Verify
		a.counts.Verified[task.Cause]++
		return func() {
			verdict := verify(ctx, task.Check)
			if ctx.Err() != nil {
				verdict = audit.Verdict{} // the term is over, and says nothing of the image
			}
			a.tell(func(now time.Time) { a.state.Verified(task, verdict, now) })
		}, 0
	})
}

// writers is how many reports are written at once.
const writers = 4

// writeAll writes what is due.
func (a *Auditor) writeAll(ctx context.Context) {
	a.each(ctx, a.write, writers, func(now time.Time) (func(), time.Duration) {
		write, wait := a.state.NextWrite(now)
		if write == nil {
			return nil, wait
		}
		return func() { a.reports.do(ctx, write) }, 0
	})
}

// restFor is how many times as long as looking took nothing is looked at after nothing was found: in a large cluster something changes
// all the time, and what else this process does needs the processor too.
const restFor = 4

// each does what next gives under the lock, so many at once, until ctx ends. Where there is nothing it rests, and waits for a change, or
// for the time that next gives.
func (a *Auditor) each(ctx context.Context, changed <-chan struct{}, parallel int, next func(time.Time) (func(), time.Duration)) {
	seats := make(chan struct{}, parallel)
	var running sync.WaitGroup
	defer running.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case seats <- struct{}{}:
		}
		a.mu.Lock()
		began := time.Now()
		do, wait := next(began)
		took := time.Since(began)
		a.mu.Unlock()
		if do != nil {
			running.Go(func() {
				do()
				<-seats
			})
			continue
		}
		<-seats
		pause(ctx, restFor*took)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(wait):
		}
	}
}

// Stats is what the auditor knows now.
type Stats struct {
	Images  map[string]map[auditor.Result]int // by namespace
	Oldest  time.Time                         // when the oldest verdict was made; zero for none
	Changes []time.Duration                   // that changes of trust took since the last call
	Sizes   auditor.Sizes
	Counts  Counts
}

// Stats gives what the auditor knows now.
func (a *Auditor) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Stats{a.state.Images(), a.state.Oldest(), a.state.Changes(), a.state.Sizes(), Counts{
		maps.Clone(a.counts.Verified), maps.Clone(a.counts.Reports), maps.Clone(a.counts.Events),
	}}
}

// Sizes counts what is kept.
func (a *Auditor) Sizes() auditor.Sizes {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state.Sizes()
}

// count counts an outcome.
func (a *Auditor) count(of map[string]uint64, outcome string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	of[outcome]++
}
