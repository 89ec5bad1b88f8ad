// Package verify carries out the verification of images, which the core decides on step by step.
//
// [Gatherer.Gather] works on the tasks of a request in parallel. For each it asks [verification.Next] for the next lookups,
// makes them in parallel, adds the answers to the evidence, and asks again until there is an outcome. Lookups and outcomes go
// through the cache, where concurrent requests share them. A verification that is not cached waits for a seat in the queue of
// its trust policy, and one of [Gatherer.GatherInBackground] behind all that wait there. Signatures are verified by notation-go,
// within the bounds and rules of this package and the core.
package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
	"github.com/nirmata/kyverno-notation-venafi/shell/egress"
	"github.com/nirmata/kyverno-notation-venafi/shell/fair"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry"
	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/shell/tracing"
)

// Options of a Gatherer.
type Options struct {
	verification.Limits
	MaxParallel      int           // images of a request, and lookups of an image, at once
	StaleTags        bool          // use a tag's last digest, up to Keep, while its registry fails
	MaxVerifications int           // of images at once, for all requests
	MaxQueued        int           // verifications that wait for a seat
	Egress           egress.Rule   // for the addresses that certificates name
	PluginsEvery     time.Duration // how often the installed plugins are checked for changes; 0 for at every request
	Simulated        *Simulated    // nil in the service
	Shared           SharedCache   // what replicas share; nil for nothing
}

// Gatherer gathers facts. Any number of requests may use it at once.
type Gatherer struct {
	options    Options
	registry   Registry
	plugins    *plugin.Manager
	revision   func() string // of the plugins
	verify     func(context.Context, course, verification.Lookup, []byte) verification.Report
	outcomes   *cache.Cache
	looked     atomic.Pointer[pluginsAt]
	queue      *fair.Queue         // of verifications, with trust policies as tenants
	beside     *semaphore.Weighted // parallel lookups beside the first of each verification, for all verifications
	documents  documentMemory
	revocation revocationCheck
}

// New makes a gatherer. Close closes the cache too.
func New(client *registry.Client, plugins *plugin.Manager, outcomes *cache.Cache, options Options) (*Gatherer, error) {
	revocation, err := newRevocationCheck(options.Egress)
	if err != nil {
		return nil, err
	}
	g := &Gatherer{
		options: options, registry: registryOf{client}, plugins: plugins, outcomes: outcomes,
		revision: plugins.Revision, verify: func(ctx context.Context, c course, lookup verification.Lookup, envelope []byte) verification.Report {
			return c.report(ctx, lookup, envelope)
		},
		queue:      fair.NewQueue(options.MaxVerifications, options.MaxQueued),
		beside:     semaphore.NewWeighted(int64(options.MaxVerifications)),
		documents:  newDocumentMemory(),
		revocation: revocation,
	}
	options.Simulated.into(g)
	return g, nil
}

// Turns counts the verifications under way, those that wait, and those that were refused.
func (g *Gatherer) Turns() fair.Stats { return g.queue.Stats() }

// Close ends idle connections.
func (g *Gatherer) Close() {
	g.outcomes.Close()
	g.registry.Close()
	g.revocation.close()
}

// Gather gives one fact per task, in the order of the tasks. It never fails: a fact says what could not be found out. now is
// the time of the request.
func (g *Gatherer) Gather(ctx context.Context, tasks []verification.Task, now time.Time) []verification.Fact {
	return g.GatherRecorded(ctx, tasks, now, nil)
}

// GatherRecorded is Gather, and says in a recording where the facts come from.
func (g *Gatherer) GatherRecorded(ctx context.Context, tasks []verification.Task, now time.Time, recording *Recording) []verification.Fact {
	facts := make([]verification.Fact, len(tasks))
	plugins := g.pluginsRevision(now)
	recording.begin(len(tasks), plugins, g.options.Limits)
	if len(tasks) == 1 { // the usual case, which needs no goroutines
		facts[0] = g.guarded(ctx, course{Gatherer: g, task: g.completed(tasks[0], plugins), now: now, recording: recording, budget: g.budget()})
		return facts
	}
	g.each(len(tasks), nil, func(i int) {
		facts[i] = g.guarded(ctx, course{Gatherer: g, task: g.completed(tasks[i], plugins), now: now, recording: recording, index: i, budget: g.budget()})
	})
	return facts
}

// GatherInBackground is Gather for a request whose answer nobody waits for: it verifies one image at a time, and begins each
// only while a seat is free that no other verification waits for. recording may be nil.
func (g *Gatherer) GatherInBackground(ctx context.Context, tasks []verification.Task, now time.Time, recording *Recording) []verification.Fact {
	facts := make([]verification.Fact, len(tasks))
	plugins := g.pluginsRevision(now)
	recording.begin(len(tasks), plugins, g.options.Limits)
	for i, task := range tasks {
		facts[i] = g.guarded(ctx, course{Gatherer: g, task: g.completed(task, plugins), now: now, background: true, recording: recording, index: i, budget: g.budget()})
	}
	return facts
}

// completed adds to a task what is the same for all.
func (g *Gatherer) completed(task verification.Task, plugins string) verification.Task {
	task.Plugins, task.Limits = plugins, g.options.Limits
	return task
}

// pluginsAt is the revision of the plugins at a moment.
type pluginsAt struct {
	revision string
	at       time.Time
}

// pluginsRevision is the plugins' revision, looked up at most PluginsEvery before now, or after it: now may be a time to come. An
// outcome that a newer plugin gave under an older revision is not found under the newer revision.
func (g *Gatherer) pluginsRevision(now time.Time) string {
	if last := g.looked.Load(); last != nil && now.Sub(last.at).Abs() < g.options.PluginsEvery {
		return last.revision
	}
	revision := g.revision()
	g.looked.Store(&pluginsAt{revision, now})
	return revision
}

// guarded turns a panic, such as that of a library on untrusted input, into a fact that denies.
func (g *Gatherer) guarded(ctx context.Context, c course) (fact verification.Fact) {
	ctx, span := tracing.Start(ctx, "image", "")
	defer func() { endImage(span, &c, &fact) }()
	defer func() {
		if r := recover(); r != nil {
			text := reason.Clip(fmt.Sprintf("an internal error occurred: %v", r), reason.MaxWords)
			fact = verification.Fact{Failure: &reason.Finding{Code: reason.NotGathered, Reason: text}}
		}
	}()
	return c.fact(ctx)
}

// course is the verification of one image.
type course struct {
	*Gatherer
	task       verification.Task
	now        time.Time
	background bool                           // see GatherInBackground
	cached     map[verification.Lookup][]byte // documents from cached evidence, which are not fetched again
	retained   *atomic.Int64                  // bytes of documents that stay in memory until the verification ends; nil if none may stay

	budget *sharedcache.Budget // of waiting for what replicas share

	recording *Recording // where this verification is recorded, at index; nil for nowhere
	index     int
	log       *lookups // of the work under way; nil where nobody records it
}

// repository is the one that a lookup is made in: the image's, or that of its signatures.
func (c course) repository(lookup verification.Lookup) Repository {
	host, path, _ := strings.Cut(lookup.Repository, "/")
	return c.registry.Repository(image.Reference{Registry: host, Repository: path})
}

// fact resolves the tag. The facts for the digest then come from the cache, from a concurrent request for them, or from
// further lookups.
func (c course) fact(ctx context.Context) verification.Fact {
	resolution, byTag := verification.Resolution(c.task)
	var resolved verification.Answer
	var first Asked
	if byTag {
		resolved, first = c.timed(ctx, resolution)
	}
	key, known := verification.Key(c.task, resolved)
	if known {
		if fact, ok := c.cachedFact(ctx, key); ok {
			fact.Warnings = resolved.Warnings
			return fact
		}
	}
	evidence := verification.Evidence{}
	if byTag {
		evidence[resolution] = resolved
	}
	if !known {
		c.log = c.recording.lookups(byTag, first)
		fact := c.run(ctx, evidence).Fact
		c.recording.workedOut(c.index, c.log)
		return fact
	}
	fact := c.concluded(ctx, key, evidence, c.recording.lookups(byTag, first))
	fact.Warnings = resolved.Warnings
	return fact
}

// run takes steps until there is an outcome.
func (c course) run(ctx context.Context, evidence verification.Evidence) verification.Outcome {
	for {
		if outcome := c.step(ctx, evidence); outcome != nil {
			return *outcome
		}
	}
}

// step makes the next lookups and adds their answers to the evidence, or returns the outcome if the core has reached one.
func (c course) step(ctx context.Context, evidence verification.Evidence) *verification.Outcome {
	step := verification.Next(c.task, evidence, c.now)
	if step.Outcome != nil {
		return step.Outcome
	}
	if len(step.Lookups) == 1 {
		evidence[step.Lookups[0]] = c.answer(ctx, step.Lookups[0])
	} else {
		c.sideBySide(ctx, step.Lookups, evidence)
	}
	return nil
}

// sideBySide makes several lookups in parallel and adds their answers to the evidence.
func (c course) sideBySide(ctx context.Context, lookups []verification.Lookup, evidence verification.Evidence) {
	answers := make([]verification.Answer, len(lookups))
	c.each(len(lookups), c.beside, func(i int) { answers[i] = c.answer(ctx, lookups[i]) })
	for i, lookup := range lookups {
		evidence[lookup] = answers[i]
	}
}

// each calls do for every index below n, up to MaxParallel calls in parallel: one in the calling goroutine, and the others in
// goroutines that each take one unit of beside, if it has some; a nil beside does not limit them. A panic in do is raised
// again in the calling goroutine, where guarded recovers it.
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

// failureOf gives the code of an error of the shell, and whose fault it is.
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

// timeout is the failure of a request whose time ran out.
func timeout() *verification.Failure {
	return &verification.Failure{Finding: reason.Finding{Code: reason.Timeout, Reason: "time ran out"}}
}
