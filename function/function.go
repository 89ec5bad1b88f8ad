// Package function wires the core and the shell and answers requests: over HTTP, from the command line, and as
// a Knative function.
package function

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry"
	"github.com/nirmata/kyverno-notation-venafi/shell/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify"
)

// trustInterval is how often the trust directory is looked at.
const trustInterval = 500 * time.Millisecond

// TrustSource gives the trust of this moment; false before it is loaded.
type TrustSource interface {
	Snapshot() (core.Snapshot, bool)
}

// Function is the service: its parts, wired. Make one with New, call Start, and Stop in the end.
type Function struct {
	settings Settings
	log      *slog.Logger
	trust    TrustSource
	watch    []func(context.Context) // run until Stop
	gatherer *verify.Gatherer
	plugins  *plugin.Manager

	inspected atomic.Bool // the plugins were asked what they are
	draining  atomic.Bool
	stop      context.CancelFunc
	running   sync.WaitGroup
}

// New wires the parts that settings ask for. It fails when a file that they name cannot be used.
func New(settings Settings, env Environment, log *slog.Logger) (*Function, error) {
	f := &Function{settings: settings, log: log}
	if settings.TrustDir == "" {
		return nil, errors.New("no trust: name a directory in --trustDir")
	}
	files, err := trust.OpenFiles(settings.TrustDir, log)
	if err != nil {
		return nil, err
	}
	f.trust = files
	f.watch = append(f.watch, func(ctx context.Context) { files.Watch(ctx, trustInterval) })
	client, err := registry.New(registry.Options{
		Credential:    registry.DockerConfig(settings.DockerConfig),
		CAFile:        settings.RegistryCAFile,
		InsecureHosts: settings.InsecureRegistries,
		AllowInsecure: settings.AllowInsecureRegistry,
		MaxReferrers:  settings.MaxReferrers,
		UserAgent:     "kyverno-notation-venafi",
	})
	if err != nil {
		return nil, err
	}
	f.plugins = plugin.NewManager(plugin.Options{
		Dir:     settings.PluginDir,
		Config:  func() map[string]string { return settings.PluginConfig },
		Timeout: settings.PluginTimeout,
		Env:     pluginEnvironment(env),
	})
	f.gatherer, err = verify.New(client, f.plugins, verify.Options{
		MaxParallel:          settings.MaxParallel,
		MaxSignatureAttempts: settings.MaxSignatureAttempts,
	})
	return f, err
}

// pluginEnvironment is what a plugin gets to see of the service's environment: where certificates and proxies
// are, and nothing that may be secret.
func pluginEnvironment(env Environment) []string {
	var passed []string
	for _, name := range []string{
		"PATH", "HOME", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	} {
		if value, ok := env(name); ok {
			passed = append(passed, name+"="+value)
		}
	}
	return passed
}

// Start begins to watch trust and asks the plugins what they are. It returns when that is done or under way;
// what it began ends with Stop.
func (f *Function) Start(ctx context.Context) {
	ctx, f.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, watch := range f.watch {
		f.running.Go(func() { watch(ctx) })
	}
	f.running.Go(func() { f.inspectPlugins(ctx) })
}

// Stop ends what Start began, and waits for it.
func (f *Function) Stop() {
	if f.stop != nil {
		f.stop()
	}
	f.running.Wait()
	f.gatherer.Close()
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
	if !f.inspected.Load() {
		return errors.New("the plugins are not inspected yet; try again")
	}
	return nil
}

// Drain makes the service not ready, so that no new callers are sent to it. Requests are still answered.
func (f *Function) Drain() { f.draining.Store(true) }

// Check judges one request. Errors are about the request as a whole, a *core.RequestError among them; what is
// wrong with an image is in the verdict.
func (f *Function) Check(ctx context.Context, body []byte) (core.Verdict, error) {
	request, err := core.ParseRequest(body)
	if err != nil {
		return core.Verdict{}, err
	}
	snapshot, loaded := f.trust.Snapshot()
	if !loaded {
		return core.Verdict{}, errNotLoaded
	}
	plan, err := core.NewPlan(request, snapshot, f.settings.DefaultTrustPolicy)
	if err != nil {
		return core.Verdict{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, f.settings.RequestTimeout)
	defer cancel()
	facts := f.gatherer.Gather(ctx, plan.Tasks, snapshot)
	return core.Decide(plan, facts, time.Now()), nil
}

// NewLogger makes the service's logger: JSON lines.
func NewLogger(settings Settings, to interface{ Write([]byte) (int, error) }) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(strings.ToUpper(settings.LogLevel))); err != nil {
		return nil, fmt.Errorf("logLevel: %w", err)
	}
	return slog.New(slog.NewJSONHandler(to, &slog.HandlerOptions{Level: level})), nil
}
