// Package function wires the core and the shell, and answers requests over HTTP, from the command line, and as a Knative
// function. A request is authenticated, read and planned under the limits of the limiter, looked up by the gatherer,
// decided by the core, answered, logged in one line and counted.
package function

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/kube"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin"
	"github.com/nirmata/kyverno-notation-venafi/shell/tracing"
)

// TrustSource gives the trust policies and stores as they are now; false before they are loaded.
type TrustSource interface {
	Snapshot() (trust.Snapshot, bool)
}

// CallerReview authenticates a caller by its Authorization header. The error is kube.ErrUnauthenticated,
// kube.ErrForbidden, or another one when the review itself failed.
type CallerReview interface {
	Review(ctx context.Context, authorization string) (user string, err error)
}

// Function is the service with its parts wired. Make one with New, call Start, and Stop in the end.
type Function struct {
	settings Settings
	log      *slog.Logger
	trust    TrustSource
	callers  CallerReview // nil answers callers without authentication
	watches  []func(context.Context)
	synced   func() bool // see sources.synced
	closers  []func()
	engine
	limiter   *limiter
	shared    *shared // nil where replicas share nothing
	events    *events
	prewarm   *prewarm
	decisions *decisions
	serving   *serving // nil without TLS
	metrics   *metrics
	tracing   *tracing.Tracer // nil where nothing is traced
	denials   *kube.Denials   // nil where denials are not recorded as Events

	inspected chan struct{} // closed when the metadata of the plugins was read
	draining  atomic.Bool
	stop      context.CancelFunc
	running   sync.WaitGroup
}

// gcPercent is by how much the heap grows before it is collected (GOGC). The live heap is only some megabytes, so that
// with Go's default of 100 the collector would run all the time; GOMEMLIMIT bounds the memory.
const gcPercent = 200

// Start begins to watch the trust resources and to read the metadata of the plugins, and returns at once. Stop ends both.
// Start may be called once.
func (f *Function) Start(ctx context.Context) {
	if set := debug.SetGCPercent(gcPercent); set != 100 { // GOGC is set in the environment, and goes first
		debug.SetGCPercent(set)
	}
	ctx, f.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, watch := range f.watches {
		f.running.Go(func() { watch(ctx) })
	}
	f.running.Go(func() { f.inspectPlugins(ctx) })
	if f.shared != nil {
		f.running.Go(func() { f.shared.redis.Connect(ctx) })
	}
	if f.prewarm != nil {
		f.running.Go(func() { f.prewarm.run(ctx) })
	}
	if f.decisions.records() {
		f.running.Go(func() { f.decisions.recorder.Run(ctx) })
	}
}

// Stop ends what Start began, and waits for it.
func (f *Function) Stop() {
	if f.stop != nil {
		f.stop()
	}
	f.running.Wait()
	for _, done := range f.closers {
		done()
	}
}

func (f *Function) inspectPlugins(ctx context.Context) {
	defer close(f.inspected)
	if lacks := f.plugins.Unconfined(); lacks != "" {
		f.log.Warn("plugins are confined by less than a newer kernel offers", "lacks", lacks)
	}
	plugins, err := f.plugins.Inspect(ctx)
	if err != nil {
		f.log.Error("plugins cannot be listed; signatures that demand one are denied", "error", err)
		return
	}
	for _, p := range plugins {
		switch {
		case p.Err != nil:
			f.log.Error("plugin cannot be used", "plugin", p.Name, "error", p.Err)
		case !p.Capable:
			f.log.Error("plugin does not verify signatures; those that demand it are denied", "plugin", p.Name, "version", p.Version)
		default:
			f.log.Info("plugin found", "plugin", p.Name, "version", p.Version)
		}
	}
	if !slices.ContainsFunc(plugins, func(p plugin.Inspection) bool { return p.Name == "venafi-csp" }) {
		f.log.Warn("plugin venafi-csp is not installed; signatures that demand it are denied", "pluginDir", f.settings.PluginDir)
	}
}

// errNotLoaded and errDraining are why a request is answered with 503.
var (
	errNotLoaded = errors.New("the trust policies are not loaded yet; try again")
	errNotSynced = errors.New("credentials and plugin configuration are not read yet; try again")
	errDraining  = errors.New("the service is shutting down; try again")
)

// Ready is nil when requests can be answered; otherwise the error says why not.
func (f *Function) Ready() error {
	if f.draining.Load() {
		return errDraining
	}
	if _, loaded := f.trust.Snapshot(); !loaded {
		return errNotLoaded
	}
	if f.synced != nil && !f.synced() {
		return errNotSynced
	}
	select {
	case <-f.inspected:
		return f.serving.ready()
	default:
		return errors.New("the plugins are not inspected yet; try again")
	}
}

// Drain makes the service not ready, so that no new callers are sent to it. Requests are still answered.
func (f *Function) Drain() { f.draining.Store(true) }

// Check answers one request. Errors are about the request as a whole, such as a *core.RequestError; what is wrong with an
// image is in the verdict.
func (f *Function) Check(ctx context.Context, body []byte) (core.Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, f.settings.RequestTimeout)
	defer cancel()
	asked, err := f.parseAndPlan(body)
	if err != nil {
		return core.Verdict{}, err
	}
	made := decision{asked: asked}
	f.decideOn(ctx, &made)
	return made.verdict, nil
}

// planned is a request and its plan.
type planned struct {
	request core.Request
	plan    core.Plan
	body    askedBody // zero where nothing is recorded
}

// parseAndPlan parses a request and plans it under the trust policies as they are now.
func (f *Function) parseAndPlan(body []byte) (planned, error) {
	request, err := core.ParseRequest(body)
	if err != nil {
		return planned{}, err
	}
	plan, err := f.plan(request)
	return planned{request: request, plan: plan}, err
}

// decideOn gathers the outcomes of a plan and decides on them, both with one reading of the clock, in UTC as records have it. A
// scan of all that runs does not displace the images of admissions from those that are verified anew after a change of trust.
func (f *Function) decideOn(ctx context.Context, made *decision) {
	made.now = time.Now().UTC()
	gather := f.gatherer.GatherRecorded
	if made.background {
		gather = f.gatherer.GatherInBackground
	}
	made.facts = gather(ctx, made.asked.plan.Tasks, made.now, made.recording)
	made.verdict = decided(ctx, made.asked.plan, made.facts, made.now)
	if !made.background {
		f.prewarm.remember(made.asked.request, made.asked.plan.Policy, made.verdict)
	}
}

// plan plans a request under the trust policies as they are now.
func (f *Function) plan(request core.Request) (core.Plan, error) {
	snapshot, loaded := f.trust.Snapshot()
	if !loaded {
		return core.Plan{}, errNotLoaded
	}
	return core.NewPlan(request, snapshot, f.settings.DefaultTrustPolicy)
}

// warm gathers the outcomes for a request that nobody waits for, so that they are in the cache.
func (f *Function) warm(ctx context.Context, request core.Request) {
	plan, err := f.plan(request)
	if err != nil {
		return // the next caller gets the error
	}
	ctx, cancel := context.WithTimeout(ctx, f.settings.RequestTimeout)
	defer cancel()
	f.gatherer.Gather(ctx, plan.Tasks, time.Now())
}

// NewLogger makes the service's logger: JSON lines.
func NewLogger(settings Settings, to interface{ Write([]byte) (int, error) }) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(strings.ToUpper(settings.LogLevel))); err != nil {
		return nil, fmt.Errorf("logLevel: %w", err)
	}
	return slog.New(slog.NewJSONHandler(to, &slog.HandlerOptions{Level: level})), nil
}
