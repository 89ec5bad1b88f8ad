// Package verify looks up what the core asks for about images: digests, lists, manifests, signatures, which notation-go
// verifies, and documents. See [verification.Next], which decides what to look up and what follows from it.
package verify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
	"github.com/nirmata/kyverno-notation-venafi/shell/egress"
	"github.com/nirmata/kyverno-notation-venafi/shell/fair"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry"
)

// Options of a Gatherer.
type Options struct {
	verification.Limits
	MaxParallel      int           // images, and lookups of an image, that are worked on at once
	StaleTags        bool          // a tag's last digest stands in, up to Keep, where its registry fails
	MaxVerifications int           // of images at once, for all requests
	MaxQueued        int           // of those, how many wait their turn
	Egress           egress.Rule   // for the addresses that certificates name
	PluginsEvery     time.Duration // how often the installed plugins are looked at; 0 for at every request
}

// Gatherer gathers facts. Any number of requests may use it at once.
type Gatherer struct {
	options    Options
	registry   *registry.Client
	plugins    *plugin.Manager
	outcomes   *cache.Cache
	looked     atomic.Pointer[pluginsAt]
	gate       *fair.Queue         // shares verifications between trust policies
	beside     *semaphore.Weighted // lookups that are made beside the first of each verification, of all together
	documents  documentRoom
	revocation revocationCheck
}

// New makes a gatherer. It keeps outcomes in the cache, which it closes with itself.
func New(client *registry.Client, plugins *plugin.Manager, outcomes *cache.Cache, options Options) (*Gatherer, error) {
	revocation, err := newRevocationCheck(options.Egress)
	if err != nil {
		return nil, err
	}
	return &Gatherer{
		options: options, registry: client, plugins: plugins, outcomes: outcomes,
		gate:       fair.NewQueue(options.MaxVerifications, options.MaxQueued),
		beside:     semaphore.NewWeighted(int64(options.MaxVerifications)),
		documents:  newDocumentRoom(),
		revocation: revocation,
	}, nil
}

// Turns tells how many verifications are under way, wait, and were refused.
func (g *Gatherer) Turns() fair.Stats { return g.gate.Stats() }

// Close ends idle connections.
func (g *Gatherer) Close() {
	g.outcomes.Close()
	g.registry.Close()
	g.revocation.close()
}

// Gather gives one fact per task, in the order of the tasks. It never fails: what could not be found out is in the fact.
// now is the time of the request.
func (g *Gatherer) Gather(ctx context.Context, tasks []verification.Task, now time.Time) []verification.Fact {
	facts := make([]verification.Fact, len(tasks))
	plugins := g.pluginsRevision()
	g.each(len(tasks), nil, func(i int) {
		task := tasks[i]
		task.Plugins, task.Limits = plugins, g.options.Limits
		facts[i] = g.guarded(ctx, course{Gatherer: g, task: task, now: now, repository: g.registry.Repository(task.Ref)})
	})
	return facts
}

// pluginsAt is the revision of the plugins at a moment.
type pluginsAt struct {
	revision string
	at       time.Time
}

// pluginsRevision is of now, or of a moment ago. What is verified by a newer plugin under an older revision is not
// found under the newer one.
func (g *Gatherer) pluginsRevision() string {
	now := time.Now()
	if last := g.looked.Load(); last != nil && now.Sub(last.at) < g.options.PluginsEvery {
		return last.revision
	}
	revision := g.plugins.Revision()
	g.looked.Store(&pluginsAt{revision, now})
	return revision
}

// guarded turns a panic, in a library that parses what strangers wrote, into a fact that denies.
func (g *Gatherer) guarded(ctx context.Context, c course) (fact verification.Fact) {
	defer func() {
		if r := recover(); r != nil {
			text := reason.Clip(fmt.Sprintf("an internal error occurred: %v", r), reason.MaxWords)
			fact = verification.Fact{Failure: &reason.Finding{Code: reason.NotGathered, Reason: text}}
		}
	}()
	return c.run(ctx, verification.Evidence{}, true).Fact
}

// course is the verification of one image.
type course struct {
	*Gatherer
	task       verification.Task
	now        time.Time
	repository *registry.Repository
	kept       map[verification.Lookup][]byte // documents that need not be fetched
	retained   *atomic.Int64                  // bytes of documents that stay until its end; nil where none may
}

// run looks up what the core asks for, until there is an outcome. With shared, the outcome for a digest is taken from the
// cache, or from someone who is working on it.
func (c course) run(ctx context.Context, evidence verification.Evidence, shared bool) verification.Outcome {
	for {
		step := verification.Next(c.task, evidence, c.now)
		switch {
		case step.Outcome != nil:
			return *step.Outcome
		case shared && step.Key != nil:
			evidence[*step.Key] = c.conclusion(ctx, *step.Key, evidence)
		default:
			answers := make([]verification.Answer, len(step.Lookups))
			c.each(len(step.Lookups), c.beside, func(i int) { answers[i] = c.answer(ctx, step.Lookups[i]) })
			for i, lookup := range step.Lookups {
				evidence[lookup] = answers[i]
			}
		}
	}
}

// each calls a function for every index, a bounded number at once: the caller works, and beside it as many others as there
// is room for among all. A nil beside is room for any number. A panic of one becomes one of the caller, whose guard would
// otherwise not see it.
func (g *Gatherer) each(n int, beside *semaphore.Weighted, do func(i int)) {
	var next atomic.Int64
	var panicked atomic.Pointer[any]
	work := func() {
		defer func() {
			if r := recover(); r != nil {
				panicked.Store(&r)
			}
		}()
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			do(i)
		}
	}
	var others sync.WaitGroup
	for range min(n, g.options.MaxParallel) - 1 {
		if beside == nil {
			others.Go(work)
			continue
		}
		if !beside.TryAcquire(1) {
			break
		}
		others.Go(func() {
			defer beside.Release(1)
			work()
		})
	}
	work()
	others.Wait()
	if r := panicked.Load(); r != nil {
		panic(*r)
	}
}

// failureOf reads the code that an error of the shell carries, and whose fault it is.
func failureOf(ctx context.Context, err error) *verification.Failure {
	return &verification.Failure{
		Finding:  findingOf(ctx, err),
		Unusable: errors.Is(err, registry.ErrUnusable),
		Absent:   errors.Is(err, registry.ErrAbsent),
	}
}

func findingOf(ctx context.Context, err error) reason.Finding {
	var fromRegistry *registry.Error
	var fromPlugin *plugin.Error
	switch {
	case errors.As(err, &fromRegistry):
		return reason.Finding{Code: fromRegistry.Code, Reason: fromRegistry.Text}
	case errors.As(err, &fromPlugin):
		return reason.Finding{Code: fromPlugin.Code, Reason: fromPlugin.Text}
	case ctx.Err() != nil:
		return timeout().Finding
	}
	return reason.Finding{Code: reason.NotGathered, Reason: sentence(err)}
}

// timeout is the failure of a caller whose own time ran out before the work did.
func timeout() *verification.Failure {
	return &verification.Failure{Finding: reason.Finding{Code: reason.Timeout, Reason: "time ran out"}}
}
