package kube

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

func trustPolicies() target {
	return target{resource: schema.GroupVersionResource{Group: "notation.nirmata.io", Version: "v1alpha1", Resource: "trustpolicies"}}
}

func trustStores() target {
	return target{resource: schema.GroupVersionResource{Group: "notation.nirmata.io", Version: "v1alpha1", Resource: "truststores"}}
}

// Trust keeps a snapshot of the TrustPolicy and TrustStore resources of a cluster.
type Trust struct {
	*trustResources
	log      *slog.Logger
	snapshot atomic.Pointer[trust.Snapshot]
	changed  func()
	problems []shelltrust.Problem // that were logged; of the goroutine that runs Watch
}

// NewTrust prepares; Watch does the work. It calls changed after every new snapshot.
func NewTrust(client *Client, log *slog.Logger, changed func()) *Trust {
	return &Trust{log: log, changed: changed, trustResources: newTrustResources(client, log, "trust", decodePolicy, decodeStore)}
}

// Snapshot gives the trust of this moment; false before policies and stores were listed for the first time. While
// the API server is away the last one stays.
func (t *Trust) Snapshot() (trust.Snapshot, bool) {
	if snapshot := t.snapshot.Load(); snapshot != nil {
		return *snapshot, true
	}
	return trust.Snapshot{}, false
}

// Connected tells whether changes of trust are being seen.
func (t *Trust) Connected() bool { return t.link.connected() }

// Watch follows the resources until ctx ends. Run it once.
func (t *Trust) Watch(ctx context.Context) {
	t.follow(ctx, func() time.Duration {
		t.publish()
		return 0
	})
}

// publish compiles what is there. A resource that cannot be used is logged when that becomes known, not again
// with every change of another.
func (t *Trust) publish() {
	policies, stores, listed := t.all()
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

// decodePolicy takes what the service knows of a policy. Fields that it does not know are passed over, as the
// resource definition may be newer than the service; one of another type makes the policy unusable, under its
// name where that can be read.
func decodePolicy(object *unstructured.Unstructured) shelltrust.PolicyResource {
	policy := shelltrust.PolicyResource{ObjectMeta: metav1.ObjectMeta{Name: object.GetName()}}
	if err := decodeSpec(object, &policy.Spec); err != nil {
		name, _, _ := unstructured.NestedString(object.Object, "spec", "trustPolicyName")
		policy.Spec = shelltrust.PolicySpec{TrustPolicyName: name}
		policy.Unreadable = err.Error()
	}
	return policy
}

func decodeStore(object *unstructured.Unstructured) shelltrust.StoreResource {
	store := shelltrust.StoreResource{ObjectMeta: metav1.ObjectMeta{Name: object.GetName()}}
	if err := decodeSpec(object, &store.Spec); err != nil {
		name, _, _ := unstructured.NestedString(object.Object, "spec", "trustStoreName")
		kind, _, _ := unstructured.NestedString(object.Object, "spec", "type")
		store.Spec = shelltrust.StoreSpec{TrustStoreName: name, Type: kind}
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
