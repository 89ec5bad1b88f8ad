package function

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/auditor"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	shellauditor "github.com/nirmata/kyverno-notation-venafi/shell/auditor"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
)

// AuditorSettings are the settings of the auditor, which the certmanager command has.
type AuditorSettings struct {
	Audit            bool          `flag:"audit" for:"auditor" env:"AUDIT" default:"false" help:"Verify what runs in the cluster all the time, and write reports and Events about it; see config/auditor for the rights that it needs."`
	Interval         time.Duration `flag:"auditInterval" for:"auditor" env:"AUDIT_INTERVAL" default:"1h" help:"Time after which an image that runs is verified again; at once where a change of trust affects it."`
	RegistryRequests int           `flag:"auditRegistryRequests" for:"auditor" env:"AUDIT_REGISTRY_REQUESTS" default:"600" help:"Requests in a minute that the auditor sends to one registry at most; from 2."`
	TrustPolicy      string        `flag:"auditTrustPolicy" for:"auditor" env:"AUDIT_TRUST_POLICY" help:"Trust policy that what runs is held against, in which {{ namespace }} stands for the namespace; else those that select its namespace by spec.appliesTo, or else defaultTrustPolicy. Namespaces without any are not looked at."`
	ExceptNamespaces []string      `flag:"auditExceptNamespaces" for:"auditor" env:"AUDIT_EXCEPT_NAMESPACES" help:"Namespaces that the auditor does not look at, comma-separated."`
}

// AuditorFields lists the settings of the auditor, for documentation.
func AuditorFields() []*Field { return fieldsOf(&AuditorSettings{}) }

// validate checks the settings of the auditor.
func (s AuditorSettings) validate() error {
	switch {
	case s.Interval < time.Second:
		return fmt.Errorf("auditInterval is %s; it must be at least 1s", s.Interval)
	case s.RegistryRequests < 2:
		return fmt.Errorf("auditRegistryRequests is %d; it must be at least 2", s.RegistryRequests)
	}
	_, err := audit.Everywhere(s.TrustPolicy, nil)
	return err
}

// Bounds on the work of the auditor. A namespace gets half of the seats, and a registry a quarter, or fewer where its budget is small.
const (
	auditorKeep     = time.Minute // for which an outcome is shared by the checks that have it in common
	requestsOfImage = 20          // that verifying one may take, with attestations; for the time that waiting for the budget takes
)

// Auditor runs the auditor in the terms of a leader. Make one with NewAuditor.
type Auditor struct {
	settings CertmanagerSettings
	env      Environment
	instance string
	log      *slog.Logger
	pace     *shellauditor.Pace
	atOnce   int           // images of one registry
	perImage time.Duration // in which an image must be verified
	current  atomic.Pointer[term]
	past     counts // of terms that are over
}

// term is the time during which this process leads. Nothing of an earlier term is used but the budgets of registries.
type term struct {
	*Auditor
	from    sources
	engine  engine
	shell   *shellauditor.Auditor
	changed chan struct{} // holds a change of trust or of namespaces that was not taken over yet
}

// NewAuditor prepares; Run does the work. instance names this process. It fails when a file that the settings name cannot be used.
func NewAuditor(settings CertmanagerSettings, instance string, env Environment, log *slog.Logger) (*Auditor, error) {
	each := time.Minute / time.Duration(settings.Auditor.RegistryRequests)
	a := &Auditor{settings: settings, env: env, instance: instance, log: log, pace: shellauditor.NewPace(settings.Auditor.RegistryRequests)}
	a.atOnce = max(1, min(settings.MaxParallel/4, int(time.Second/each)))
	a.perImage = settings.RequestTimeout + requestsOfImage*time.Duration(a.atOnce)*each
	tried, err := a.newTerm()
	if err != nil {
		return nil, err
	}
	tried.close()
	return a, nil
}

// newTerm wires the parts: the trust, credentials, plugins and bounds that the service has, and the auditor.
func (a *Auditor) newTerm() (*term, error) {
	t := &term{Auditor: a, changed: make(chan struct{}, 1)}
	own := a.settings.Settings
	own.TrustDir, own.CallerSecret, own.ReviewKyvernoToken = "", "", new(bool) // nobody asks it anything
	own.CacheTTL = int(auditorKeep / time.Second)
	var err error
	if t.from, err = fromCluster(own, a.log, t.note); err != nil {
		return nil, err
	}
	outcomes := cache.New(cache.Options{Size: own.CacheMaxSize, Timeout: a.perImage})
	limits := verification.Limits{KeepTags: time.Duration(own.TagCacheTTL) * time.Second, Lifetimes: true}
	if t.engine, err = newEngine(own, t.from.credential, t.from.pluginConfig, a.env, outcomes, limits, a.pace, nil); err != nil {
		outcomes.Close()
		t.from.close()
		return nil, err
	}
	t.shell = shellauditor.New(t.from.client, shellauditor.Options{
		Options: auditor.Options{
			Interval: a.settings.Auditor.Interval, Except: a.settings.Auditor.ExceptNamespaces,
			MaxOfRegistry: a.atOnce, MaxOfOne: max(1, own.MaxParallel/2),
		},
		Parallel: own.MaxParallel, Instance: a.instance,
	}, a.pace, a.log)
	t.shell.OnNamespaces(t.note)
	return t, nil
}

// close ends idle connections.
func (t *term) close() {
	t.engine.gatherer.Close()
	t.from.close()
}

// note has a change of trust or of namespaces taken over.
func (t *term) note() {
	select {
	case t.changed <- struct{}{}:
	default: // one is noted already
	}
}

// Run audits for one term, until ctx ends.
func (a *Auditor) Run(ctx context.Context) {
	t, err := a.newTerm()
	if err != nil {
		a.log.Error("the auditor does not run", "error", err)
		return
	}
	defer t.close()
	a.current.Store(t)
	defer a.end(t)
	var parts sync.WaitGroup
	defer parts.Wait()
	for _, watch := range t.from.watches {
		parts.Go(func() { watch(ctx) })
	}
	parts.Go(func() { t.follow(ctx) })
	parts.Go(func() { t.shell.Run(ctx) })
}

// followEvery is how often plugins and their configuration are compared.
const followEvery = 2 * time.Second

// restFor is how many times as long as taking over a change took the next one waits, up to followEvery: who relabels a namespace
// all the time takes no more of the processor than that.
const restFor = 4

// follow takes over each change of trust, of namespaces and of plugins. Nothing is verified before credentials and plugin
// configuration are known.
func (t *term) follow(ctx context.Context) {
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	changed, plugins := false, ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.changed:
			changed = true
		case <-ticker.C:
		}
		snapshot, known := t.from.trust.Snapshot()
		namespaces, listed := t.shell.Namespaces()
		if !known || !listed || !t.from.synced() {
			continue
		}
		if now := t.engine.plugins.Revision(); changed || now != plugins {
			changed, plugins = false, now
			began := time.Now()
			t.shell.SetTrust(t.trust(snapshot, t.demands(namespaces), plugins))
			rest := time.NewTimer(min(restFor*time.Since(began), followEvery))
			select {
			case <-ctx.Done():
			case <-rest.C:
			}
		}
	}
}

// demands give what images are held against in each namespace.
func (t *term) demands(namespaces map[string]shellauditor.Namespace) audit.Demands {
	if t.settings.Auditor.TrustPolicy != "" {
		demands, _ := audit.Everywhere(t.settings.Auditor.TrustPolicy, nil) // it was validated
		return demands
	}
	labels := audit.Namespaces{}
	for name, namespace := range namespaces {
		labels[name] = namespace.Labels
	}
	var fallback *audit.Demand
	if t.settings.DefaultTrustPolicy != "" {
		fallback = &audit.Demand{TrustPolicy: t.settings.DefaultTrustPolicy}
	}
	return audit.ByNamespace(t.from.appliesTo(), labels, fallback)
}

// trust is what the auditor verifies under, and how, for one snapshot.
func (t *term) trust(snapshot trust.Snapshot, demands audit.Demands, plugins string) shellauditor.Trust {
	return shellauditor.Trust{
		Trust: auditor.Trust{
			Checks: func(use audit.Use) []audit.Check { return demands.Checks([]audit.Use{use}) },
			Findings: func(uses []audit.Use, verdicts audit.Verdicts) (findings []audit.Finding) {
				for _, finding := range (audit.Evaluation{Demands: demands, Verdicts: verdicts}).FindingsByPolicy(uses) {
					if finding.Code != reason.NoTrustPolicy { // nobody asked about the namespace
						findings = append(findings, finding)
					}
				}
				return findings
			},
			Revision: func(check audit.Check) (string, *audit.Verdict) {
				plan, err := demands.Plan(check, snapshot, t.settings.DefaultTrustPolicy)
				if err != nil {
					refused := audit.Refused(err.Error())
					return "refused: " + err.Error(), &refused
				}
				if len(plan.Tasks) == 1 {
					return plan.Tasks[0].Revision + " " + plugins, nil
				}
				decided := audit.Judge(plan, nil, time.Time{})
				return string(decided.Code) + ": " + decided.Reason, &decided
			},
		},
		Verify: func(ctx context.Context, check audit.Check) audit.Verdict {
			plan, err := demands.Plan(check, snapshot, t.settings.DefaultTrustPolicy)
			if err != nil {
				return audit.Refused(err.Error())
			}
			ctx, cancel := context.WithTimeout(ctx, t.perImage)
			defer cancel()
			now := time.Now()
			return audit.Judge(plan, t.engine.gatherer.Gather(ctx, plan.Tasks, now), now)
		},
	}
}
