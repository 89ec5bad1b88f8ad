package function

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
	"github.com/nirmata/kyverno-notation-venafi/shell/inventory"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// Audit verifies what runs, once. It reads from a cluster only what it is asked for, and writes nothing. Close it in the end.
type Audit struct {
	settings Settings
	engine   engine
	now      time.Time // of all verdicts
	until    time.Time // to which they foresee; zero for not at all

	mu     sync.Mutex
	client *kubeclient.Client // nil before the first connection
}

// Bounds on what an audit keeps of registries, so that it asks for nothing twice.
const (
	auditKeep    = 24 * time.Hour
	auditAnswers = 100_000
)

// NewAudit wires what an audit needs. It connects to nothing.
func NewAudit(settings Settings, env Environment) (*Audit, error) {
	outcomes := cache.New(cache.Options{Size: max(settings.CacheMaxSize, auditAnswers), Timeout: settings.RequestTimeout})
	limits := verification.Limits{KeepTags: auditKeep, KeepContent: auditKeep, Lifetimes: true}
	config := func() map[string]string { return settings.PluginConfig }
	made, err := newEngine(settings, registry.DockerConfig(settings.DockerConfig), config, env, outcomes, limits, nil, nil)
	if err != nil {
		outcomes.Close()
		return nil, err
	}
	return &Audit{settings: settings, engine: made, now: time.Now()}, nil
}

// Close ends idle connections.
func (a *Audit) Close() {
	a.engine.gatherer.Close()
	if a.client != nil {
		a.client.Close()
	}
}

// Now is the time for which the verdicts hold.
func (a *Audit) Now() time.Time { return a.now }

// Foresee has verdicts say which conditions, of those that read the clock, are not met at a later time. Call it before Verify.
func (a *Audit) Foresee(until time.Time) { a.until = until }

// Trust reads the trust resources in force: those of trustDir, or of the cluster. The problems are of files that could not be
// read.
func (a *Audit) Trust(ctx context.Context) (shelltrust.Resources, []shelltrust.Problem, error) {
	if a.settings.TrustDir != "" {
		return shelltrust.ReadDir(a.settings.TrustDir)
	}
	client, err := a.connect()
	if err != nil {
		return shelltrust.Resources{}, nil, fmt.Errorf("no trust: name a directory in --trustDir, or a cluster in --kubeconfig: %w", err)
	}
	resources, err := inventory.Trust(ctx, client)
	return resources, nil, err
}

// Bundles reads what proposed trust stores name by caBundleFrom and no manifest holds, as the trust in force is read.
func (a *Audit) Bundles(ctx context.Context, proposed shelltrust.Resources) shelltrust.Resources {
	return proposed.Read(func(ref shelltrust.BundleRef) shelltrust.Bundle {
		if a.settings.TrustDir != "" {
			return shelltrust.NotAmongManifests(ref)
		}
		client, err := a.connect()
		if err != nil {
			return kubeclient.Unread(err)
		}
		return inventory.Bundle(ctx, client, ref)
	})
}

// Uses lists the images of what runs in the cluster.
func (a *Audit) Uses(ctx context.Context, options inventory.Options) ([]audit.Use, error) {
	client, err := a.connect()
	if err != nil {
		return nil, fmt.Errorf("no workloads: name a manifest with -f, a list with --images, or a cluster in --kubeconfig: %w", err)
	}
	return inventory.Uses(ctx, client, options)
}

// Namespaces reads the labels of namespaces of the cluster: of those that are named, or of all.
func (a *Audit) Namespaces(ctx context.Context, named []string) (audit.Namespaces, error) {
	client, err := a.connect()
	if err != nil {
		return nil, err
	}
	return inventory.Namespaces(ctx, client, named)
}

// DefaultTrustPolicy is that of the settings; "" for none.
func (a *Audit) DefaultTrustPolicy() string { return a.settings.DefaultTrustPolicy }

// TrustsFiles tells whether trust is read from a directory, and not from a cluster.
func (a *Audit) TrustsFiles() bool { return a.settings.TrustDir != "" }

func (a *Audit) connect() (*kubeclient.Client, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var err error
	if a.client == nil {
		a.client, err = a.settings.Connect()
	}
	return a.client, err
}

// Side is a trust, and what is demanded under it.
type Side struct {
	Trust   trust.Snapshot
	Demands audit.Demands
}

// Verify holds uses against one side or several. Each distinct check is made once, and what registries hold is read once for all
// of them. It calls progress after each image, one call at a time. What was not verified before the deadline of ctx could not be
// told; the error says that ctx was cancelled.
func (a *Audit) Verify(ctx context.Context, uses []audit.Use, progress func(done, all int), sides ...Side) ([]audit.Evaluation, error) {
	evaluations := make([]audit.Evaluation, len(sides))
	var checks []sideCheck
	for i, side := range sides {
		evaluations[i] = audit.Evaluation{Demands: side.Demands, Verdicts: audit.Verdicts{}}
		for _, check := range side.Demands.Checks(uses) {
			checks = append(checks, sideCheck{check, i})
		}
	}
	images := chunkByImage(checks)
	var mu sync.Mutex
	done := 0
	var group errgroup.Group // for its limit
	group.SetLimit(a.settings.MaxParallel)
	for _, same := range images {
		group.Go(func() error {
			for _, check := range same {
				verdict := a.verify(ctx, check.Check, sides[check.side])
				mu.Lock()
				evaluations[check.side].Verdicts[check.Check] = verdict
				mu.Unlock()
			}
			mu.Lock()
			defer mu.Unlock()
			done++
			progress(done, len(images))
			return nil
		})
	}
	_ = group.Wait() // there is no error
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, errors.New("the audit was ended before it was complete")
	}
	return evaluations, nil
}

// sideCheck is a check under one of several sides.
type sideCheck struct {
	audit.Check
	side int
}

// chunkByImage splits checks into those of one image each, in their order.
func chunkByImage(checks []sideCheck) (chunks [][]sideCheck) {
	slices.SortStableFunc(checks, func(a, b sideCheck) int { return a.Compare(b.Check) })
	for i, check := range checks {
		if i == 0 || checks[i-1].Image != check.Image {
			chunks = append(chunks, nil)
		}
		last := len(chunks) - 1
		chunks[last] = append(chunks[last], check)
	}
	return chunks
}

// verify makes one check under one trust, as a request for it would be answered.
func (a *Audit) verify(ctx context.Context, check audit.Check, side Side) audit.Verdict {
	if ctx.Err() != nil {
		return audit.Verdict{Code: reason.Timeout, Reason: "the time for the whole audit ran out before it was verified; raise --timeout"}
	}
	plan, err := side.Demands.Plan(check, side.Trust, a.settings.DefaultTrustPolicy)
	if err != nil {
		return audit.Refused(err.Error())
	}
	facts := a.gather(ctx, plan, a.now)
	verdict := audit.Judge(plan, facts, a.now)
	if a.until.IsZero() || !slices.ContainsFunc(facts, verification.Fact.TimeDependent) {
		return verdict
	}
	return verdict.Foreseen(audit.Judge(plan, a.gather(ctx, plan, a.until), a.until), a.until)
}

func (a *Audit) gather(ctx context.Context, plan core.Plan, now time.Time) []verification.Fact {
	ctx, cancel := context.WithTimeout(ctx, a.settings.RequestTimeout)
	defer cancel()
	return a.engine.gatherer.Gather(ctx, plan.Tasks, now)
}
