package kubeclient

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// TrustPolicies are all TrustPolicy resources of a cluster.
func TrustPolicies() Target {
	return Target{Resource: schema.GroupVersionResource{Group: "notation.nirmata.io", Version: "v1alpha1", Resource: "trustpolicies"}}
}

// TrustStores are all TrustStore resources of a cluster.
func TrustStores() Target {
	return Target{Resource: schema.GroupVersionResource{Group: "notation.nirmata.io", Version: "v1alpha1", Resource: "truststores"}}
}

const (
	// debounce is how long a change waits for others, so that a burst of changes is handled once.
	debounce = 30 * time.Millisecond
	// renewEvery is the least time between two lists that Renew asked for.
	renewEvery = 200 * time.Millisecond
)

// TrustResources watches the TrustPolicy and TrustStore resources of a cluster, and the bundles of certificates that the stores name.
type TrustResources struct {
	client   *Client
	health   *Health
	bundles  *bundles
	policies *Store[shelltrust.PolicyResource]
	stores   *Store[shelltrust.StoreResource]
	changed  chan struct{} // holds a change that was not handled yet
	renew    chan struct{} // holds a request for new lists
}

// NewTrustResources prepares; Follow does the work. Changes of what the decoders leave out are not noticed.
func NewTrustResources(client *Client, log *slog.Logger, subject string,
	policy func(*unstructured.Unstructured) shelltrust.PolicyResource, store func(*unstructured.Unstructured) shelltrust.StoreResource) *TrustResources {
	r := &TrustResources{client: client, changed: make(chan struct{}, 1), renew: make(chan struct{}, 1), health: NewHealth(log, subject, TrustPolicies(), TrustStores())}
	noteChange := func() { signal(r.changed) }
	r.policies, r.stores = NewStore(policy, noteChange), NewStore(store, noteChange)
	r.bundles = &bundles{client: client, log: log, changed: noteChange, watched: map[shelltrust.BundleRef]*bundle{}}
	return r
}

// signal leaves a value in a channel with room for one, unless there is one already.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Connected reports whether changes are being seen. A bundle that the API server refuses to give is its store's problem.
func (r *TrustResources) Connected() bool { return r.health.Connected() && r.bundles.connected() }

// All gives the resources, stores with the bundles that they name; false before both kinds were listed for the first time.
func (r *TrustResources) All() ([]shelltrust.PolicyResource, []shelltrust.StoreResource, bool) {
	policies, listed := r.policies.All()
	stores, storesListed := r.stores.All()
	return policies, shelltrust.Resolved(stores, r.bundles.get), listed && storesListed
}

// Follow watches the resources until ctx ends. It calls handle after every change, and again when the time is over that
// handle returned; 0 waits for a change. Run it once.
func (r *TrustResources) Follow(ctx context.Context, handle func() time.Duration) {
	var watches sync.WaitGroup
	watches.Go(func() { r.watch(ctx) })
	defer watches.Wait()
	defer r.bundles.running.Wait()
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-due:
		case <-r.changed:
		}
		time.Sleep(debounce)
		r.settle(ctx)
		due = nil
		if wait := handle(); wait > 0 {
			due = time.After(wait)
		}
	}
}

// settle follows the bundles that stores name now, and waits for a first answer on those that are new, up to bundleWait. Changes that
// came meanwhile are handled with the one before.
func (r *TrustResources) settle(ctx context.Context) {
	enough := time.After(bundleWait)
	for {
		select {
		case <-r.changed:
		default:
		}
		stores, _ := r.stores.All()
		r.bundles.follow(ctx, shelltrust.BundleRefs(stores))
		if !r.bundles.pending() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-enough:
			return
		case <-r.changed:
		}
	}
}

// watch watches policies and stores until ctx ends, and begins again with new lists each time Renew is called: a watch whose
// connection broke unnoticed sees no changes.
func (r *TrustResources) watch(ctx context.Context) {
	for ctx.Err() == nil {
		round, end := context.WithCancel(ctx)
		var watches sync.WaitGroup
		watches.Go(func() { r.client.Watch(round, TrustPolicies(), r.policies, r.health) })
		watches.Go(func() { r.client.Watch(round, TrustStores(), r.stores, r.health) })
		select {
		case <-ctx.Done():
		case <-time.After(renewEvery):
			select {
			case <-ctx.Done():
			case <-r.renew:
				r.bundles.renewAll()
			}
		}
		end()
		watches.Wait()
	}
}

// Renew has the resources listed anew, soon. Many calls in a short time cause one list.
func (r *TrustResources) Renew() { signal(r.renew) }

// DecodePolicy reads a policy's specification. Unknown fields are ignored, as the resource definition may be newer than the
// service. A field of another type makes the policy unusable; it keeps its name, and what it applies to, where these can
// be read.
func DecodePolicy(object *unstructured.Unstructured) shelltrust.PolicyResource {
	policy := shelltrust.PolicyResource{ObjectMeta: metav1.ObjectMeta{Name: object.GetName()}}
	if err := decodeSpec(object, &policy.Spec); err != nil {
		name, _, _ := unstructured.NestedString(object.Object, "spec", "trustPolicyName")
		policy.Spec = shelltrust.PolicySpec{TrustPolicyName: name}
		if applied, ok, _ := unstructured.NestedFieldNoCopy(object.Object, "spec", "appliesTo"); ok {
			policy.Spec.AppliesTo, _ = json.Marshal(applied)
		}
		policy.Unreadable = err.Error()
	}
	return policy
}

// DecodeStore reads a trust store's specification, as DecodePolicy does a policy's.
func DecodeStore(object *unstructured.Unstructured) shelltrust.StoreResource {
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
