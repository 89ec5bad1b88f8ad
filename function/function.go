// Package function wires the core and the shell and answers requests: over HTTP, from the command line, and as
// a Knative function.
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
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify"
)

// TrustSource gives the trust of this moment; false before it is loaded.
type TrustSource interface {
	Snapshot() (trust.Snapshot, bool)
}

// CallerReview tells who a caller is by its Authorization header. The error is kube.ErrUnauthenticated,
// kube.ErrForbidden, or another when that could not be found out.
type CallerReview interface {
	Review(ctx context.Context, authorization string) (user string, err error)
}

// Function is the service: its parts, wired. Make one with New, call Start, and Stop in the end.
type Function struct {
	settings Settings
	log      *slog.Logger
	trust    TrustSource
	callers  CallerReview // nil lets everyone ask
	watches  []func(context.Context)
	synced   func() bool // see sources
	closers  []func()
	gatherer *verify.Gatherer
	plugins  *plugin.Manager
	door     *door
	events   *events
	prewarm  *prewarm
	serving  *serving // nil without TLS
	metrics  *metrics

	inspected atomic.Bool // the plugins were asked what they are
	draining  atomic.Bool
	stop      context.CancelFunc
	running   sync.WaitGroup
}

// gcPercent is by how much the heap grows before it is collected. What stays of a request is little, so that at 100 a
// service of some megabytes would collect all the time; GOMEMLIMIT bounds what it may take.
const gcPercent = 200

// Start begins to watch trust and asks the plugins what they are. It returns when that is done or under way;
// what it began ends with Stop.
func (f *Function) Start(ctx context.Context) {
	if set := debug.SetGCPercent(gcPercent); set != 100 { // which is what it is where GOGC does not set it
		debug.SetGCPercent(set)
	}
	ctx, f.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, watch := range f.watches {
		f.running.Go(func() { watch(ctx) })
	}
	f.running.Go(func() { f.inspectPlugins(ctx) })
	if f.prewarm != nil {
		f.running.Go(func() { f.prewarm.run(ctx) })
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
	defer f.inspected.Store(true)
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

// Ready tells whether requests can be answered; the error says why not.
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
	if !f.inspected.Load() {
		return errors.New("the plugins are not inspected yet; try again")
	}
	return f.serving.ready()
}

// Drain makes the service not ready, so that no new callers are sent to it. Requests are still answered.
func (f *Function) Drain() { f.draining.Store(true) }

// Check judges one request. Errors are about the request as a whole, a *core.RequestError among them; what is
// wrong with an image is in the verdict.
func (f *Function) Check(ctx context.Context, body []byte) (core.Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, f.settings.RequestTimeout)
	defer cancel()
	asked, err := f.understand(body)
	if err != nil {
		return core.Verdict{}, err
	}
	return f.verdict(ctx, asked), nil
}

// planned is a request with what has to be found out for it, under the trust of a moment.
type planned struct {
	request core.Request
	plan    core.Plan
}

func (f *Function) understand(body []byte) (planned, error) {
	request, err := core.ParseRequest(body)
	if err != nil {
		return planned{}, err
	}
	plan, err := f.plan(request)
	return planned{request, plan}, err
}

// verdict gathers the facts for a request and decides, both as of this moment.
func (f *Function) verdict(ctx context.Context, asked planned) core.Verdict {
	now := time.Now()
	verdict := core.Decide(asked.plan, f.gatherer.Gather(ctx, asked.plan.Tasks, now), now)
	f.prewarm.remember(asked.request, asked.plan.Policy, verdict)
	return verdict
}

// plan plans a request under the trust of this moment.
func (f *Function) plan(request core.Request) (core.Plan, error) {
	snapshot, loaded := f.trust.Snapshot()
	if !loaded {
		return core.Plan{}, errNotLoaded
	}
	return core.NewPlan(request, snapshot, f.settings.DefaultTrustPolicy)
}

// warm gathers the facts for a request that nobody waits for: they are kept.
func (f *Function) warm(ctx context.Context, request core.Request) {
	plan, err := f.plan(request)
	if err != nil {
		return // whoever asks will be told
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
