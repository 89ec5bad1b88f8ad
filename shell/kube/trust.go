// Package kube takes from a Kubernetes API server what the serving replicas need: trust resources, registry credentials,
// plugin configuration, the serving certificate, the epoch, and who a caller is. What it watches it keeps, so that
// verification goes on while the API server is away. It writes nothing but the epoch.
package kube

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// Trust keeps a snapshot of the TrustPolicy and TrustStore resources of a cluster.
type Trust struct {
	*kubeclient.TrustResources
	log      *slog.Logger
	snapshot atomic.Pointer[trust.Snapshot]
	changed  func()
	problems []shelltrust.Problem // that were logged; used by the goroutine that runs Watch
}

// NewTrust prepares; Watch does the work. It calls changed after every new snapshot.
func NewTrust(client *kubeclient.Client, log *slog.Logger, changed func()) *Trust {
	return &Trust{log: log, changed: changed, TrustResources: kubeclient.NewTrustResources(client, log, "trust", kubeclient.DecodePolicy, kubeclient.DecodeStore)}
}

// Snapshot gives the current trust; false before policies and stores were listed for the first time. While the API server
// is away the last one stays.
func (t *Trust) Snapshot() (trust.Snapshot, bool) {
	if snapshot := t.snapshot.Load(); snapshot != nil {
		return *snapshot, true
	}
	return trust.Snapshot{}, false
}

// Watch follows the resources until ctx ends. Run it once.
func (t *Trust) Watch(ctx context.Context) {
	t.Follow(ctx, func() time.Duration {
		t.publish()
		return 0
	})
}

// publish compiles a new snapshot. A resource that cannot be used is logged once, not again with every change of another.
func (t *Trust) publish() {
	policies, stores, listed := t.All()
	if !listed {
		return
	}
	snapshot, problems := shelltrust.Compile(policies, stores)
	for _, p := range problems {
		if !slices.Contains(t.problems, p) {
			p.Log(t.log)
		}
	}
	t.problems = problems
	t.snapshot.Store(&snapshot)
	t.log.Info("trust loaded", "policies", len(snapshot.Policies), "stores", len(snapshot.Stores))
	t.changed()
}
