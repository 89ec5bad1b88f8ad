package kube

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// settle is how long a change waits for others that come with it, so that a burst is compiled once.
const settle = 30 * time.Millisecond

func trustPolicies() target {
	return target{resource: schema.GroupVersionResource{Group: "notation.nirmata.io", Version: "v1alpha1", Resource: "trustpolicies"}}
}

func trustStores() target {
	return target{resource: schema.GroupVersionResource{Group: "notation.nirmata.io", Version: "v1alpha1", Resource: "truststores"}}
}

// Trust keeps a snapshot of the TrustPolicy and TrustStore resources of a cluster.
type Trust struct {
	client   *Client
	log      *slog.Logger
	link     *link
	policies *mirror[trust.PolicyResource]
	stores   *mirror[trust.StoreResource]
	changed  chan struct{} // holds a change that is not compiled yet
	snapshot atomic.Pointer[core.Snapshot]
	problems []trust.Problem // that were logged; of the goroutine that runs Watch
}

// NewTrust prepares; Watch does the work.
func NewTrust(client *Client, log *slog.Logger) *Trust {
	t := &Trust{
		client: client, log: log, changed: make(chan struct{}, 1),
		link: newLink(log, "trust", trustPolicies(), trustStores()),
	}
	t.policies = &mirror[trust.PolicyResource]{decode: decodePolicy, changed: t.note}
	t.stores = &mirror[trust.StoreResource]{decode: decodeStore, changed: t.note}
	return t
}

// Snapshot gives the trust of this moment; false before policies and stores were listed for the first time. While
// the API server is away the last one stays.
func (t *Trust) Snapshot() (core.Snapshot, bool) {
	if snapshot := t.snapshot.Load(); snapshot != nil {
		return *snapshot, true
	}
	return core.Snapshot{}, false
}

// Connected tells whether changes of trust are being seen.
func (t *Trust) Connected() bool { return t.link.connected() }

// Watch follows the resources until ctx ends. Run it once.
func (t *Trust) Watch(ctx context.Context) {
	var watches sync.WaitGroup
	watches.Go(func() { t.client.watch(ctx, trustPolicies(), t.policies, t.link.report) })
	watches.Go(func() { t.client.watch(ctx, trustStores(), t.stores, t.link.report) })
	defer watches.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.changed:
		}
		time.Sleep(settle)
		select {
		case <-t.changed: // came in the meantime and is seen now
		default:
		}
		t.publish()
	}
}

func (t *Trust) note() {
	select {
	case t.changed <- struct{}{}:
	default: // one is noted already
	}
}

// publish compiles what is there. A resource that cannot be used is logged when that becomes known, not again
// with every change of another.
func (t *Trust) publish() {
	policies, listed := t.policies.all()
	stores, storesListed := t.stores.all()
	if !listed || !storesListed {
		return
	}
	snapshot, problems := trust.Compile(policies, stores)
	for _, p := range problems {
		if !slices.Contains(t.problems, p) {
			t.log.Error("trust resource cannot be used", "kind", p.Kind, "resource", p.Name, "reason", p.Reason)
		}
	}
	t.problems = problems
	t.snapshot.Store(&snapshot)
	t.log.Info("trust loaded", "policies", len(snapshot.Policies), "stores", len(snapshot.Stores))
}

// decodePolicy takes what the service knows of a policy. Fields that it does not know are passed over, as the
// resource definition may be newer than the service; one of another type makes the policy unusable, under its
// name where that can be read.
func decodePolicy(object *unstructured.Unstructured) trust.PolicyResource {
	policy := trust.PolicyResource{ObjectMeta: metav1.ObjectMeta{Name: object.GetName()}}
	if err := decodeSpec(object, &policy.Spec); err != nil {
		name, _, _ := unstructured.NestedString(object.Object, "spec", "trustPolicyName")
		policy.Spec = trust.PolicySpec{TrustPolicyName: name}
		policy.Unreadable = err.Error()
	}
	return policy
}

func decodeStore(object *unstructured.Unstructured) trust.StoreResource {
	store := trust.StoreResource{ObjectMeta: metav1.ObjectMeta{Name: object.GetName()}}
	if err := decodeSpec(object, &store.Spec); err != nil {
		name, _, _ := unstructured.NestedString(object.Object, "spec", "trustStoreName")
		kind, _, _ := unstructured.NestedString(object.Object, "spec", "type")
		store.Spec = trust.StoreSpec{TrustStoreName: name, Type: kind}
		store.Unreadable = err.Error()
	}
	return store
}

func decodeSpec(object *unstructured.Unstructured, into any) error {
	spec, _, err := unstructured.NestedMap(object.Object, "spec")
	if err != nil {
		return err
	}
	return runtime.DefaultUnstructuredConverter.FromUnstructured(spec, into)
}
