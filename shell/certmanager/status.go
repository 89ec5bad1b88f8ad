package certmanager

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

const (
	// assessEvery is how often the statuses are assessed without a change: certificates expire by themselves.
	assessEvery = time.Minute
	// firstStatusRetry is the pause after statuses could not be written; it is doubled up to assessEvery.
	firstStatusRetry = 2 * time.Second
)

// StatusWriter keeps the status of the TrustPolicy and TrustStore resources up to date, and records events about certificates
// that expire. One process should run it; should two run it for a moment, neither overwrites a version that it has not read.
type StatusWriter struct {
	*kubeclient.TrustResources
	client   *kubeclient.Client
	log      *slog.Logger
	instance string          // this process, in events
	retry    time.Duration   // after the next failure; used by the goroutine that runs Run
	recorded map[string]bool // names of events that exist or existed; used by the same goroutine
}

// NewStatusWriter prepares; Run does the work. instance names this process.
func NewStatusWriter(client *kubeclient.Client, instance string, log *slog.Logger) *StatusWriter {
	return &StatusWriter{
		client: client, log: log, retry: firstStatusRetry, instance: instance, recorded: map[string]bool{},
		TrustResources: kubeclient.NewTrustResources(client, log, "statuses", decodePolicyWithStatus, decodeStoreWithStatus),
	}
}

// Run writes until ctx ends. Run it once.
func (w *StatusWriter) Run(ctx context.Context) {
	w.Follow(ctx, func() time.Duration {
		failed, err := w.write(ctx)
		if err == nil || ctx.Err() != nil {
			w.retry = firstStatusRetry
			return assessEvery
		}
		wait := w.retry
		w.retry = min(2*w.retry, assessEvery)
		w.log.Error("statuses cannot be written; they are tried again", "statuses", failed, "in", wait.String(), "error", err)
		return wait
	})
}

// write brings every status up to date. A status that is right already is not written, so that our own changes, which come
// back through the watch, cause no further writes. It gives how many could not be written, and the first error.
func (w *StatusWriter) write(ctx context.Context) (failed int, first error) {
	policies, stores, listed := w.All()
	if !listed {
		return 0, nil
	}
	now := time.Now()
	statuses := shelltrust.Assess(policies, stores, now)
	unsent, first := w.recordWarnings(ctx, stores, now)
	failed = len(unsent)
	var changes []statusChange
	for _, r := range policies {
		changes = append(changes, statusChange{kubeclient.TrustPolicies(), r.Name, r.ResourceVersion, r.Status, statuses.Policies[r.Name]})
	}
	for _, r := range stores {
		want := statuses.Stores[r.Name]
		if unsent[r.Name] {
			want = want.WithoutUnsent(r.Status)
		}
		changes = append(changes, statusChange{kubeclient.TrustStores(), r.Name, r.ResourceVersion, r.Status, want})
	}
	for _, change := range changes {
		err := w.writeOne(ctx, change)
		if err == nil {
			continue
		}
		failed++
		if first == nil {
			first = err
		}
		if !kubeclient.Refused(err) {
			break // the others would fail too
		}
	}
	return failed, first
}

// recordWarnings creates an event for each certificate that has reached a threshold, unless the status records that event. It
// gives the stores with an event that could not be created, and the first error.
func (w *StatusWriter) recordWarnings(ctx context.Context, stores []shelltrust.StoreResource, now time.Time) (unsent map[string]bool, first error) {
	unsent = map[string]bool{}
	for _, warning := range shelltrust.Warnings(stores, now) {
		name := eventName(warning)
		if w.recorded[name] {
			continue
		}
		if first == nil || kubeclient.Refused(first) { // else this one would fail too
			err := recordEvent(ctx, w.client, warning, w.instance, now)
			if err == nil {
				w.recorded[name] = true
				continue
			}
			first = err
		}
		unsent[warning.Store] = true
	}
	return unsent, first
}

// statusChange is a resource's status as it is and as it should be.
type statusChange struct {
	target        kubeclient.Target
	name, version string
	have, want    shelltrust.Status
}

// writeOne writes a status if it differs. If the resource was changed or deleted in the meantime it does nothing, as the watch
// will bring the next version.
func (w *StatusWriter) writeOne(ctx context.Context, change statusChange) error {
	if same, err := equalAsJSON(change.have, change.want); err != nil || same {
		return err
	}
	patch, err := change.patch()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, kubeclient.RequestTimeout)
	defer cancel()
	options := metav1.PatchOptions{FieldManager: kubeclient.FieldManager}
	_, err = w.client.Dynamic.Resource(change.target.Resource).Patch(ctx, change.name, types.MergePatchType, patch, options, "status")
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("status of %s %s: %w", change.target, change.name, err)
	}
	return nil
}

// patch is a JSON merge patch of the version that was assessed. It names every field, as a merge patch leaves others as they
// are.
func (c statusChange) patch() ([]byte, error) {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": c.version},
		"status": map[string]any{
			"observedGeneration": c.want.ObservedGeneration, "conditions": c.want.Conditions, "notAfter": c.want.NotAfter,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("status of %s %s: %w", c.target, c.name, err)
	}
	return patch, nil
}

// equalAsJSON compares statuses as they are stored, where times have no zones and no fractions.
func equalAsJSON(a, b shelltrust.Status) (bool, error) {
	var decoded [2]any
	for i, status := range []shelltrust.Status{a, b} {
		text, err := json.Marshal(status)
		if err == nil {
			err = json.Unmarshal(text, &decoded[i])
		}
		if err != nil {
			return false, fmt.Errorf("status: %w", err)
		}
	}
	return reflect.DeepEqual(decoded[0], decoded[1]), nil
}

func decodePolicyWithStatus(object *unstructured.Unstructured) shelltrust.PolicyResource {
	policy := kubeclient.DecodePolicy(object)
	policy.Generation, policy.ResourceVersion, policy.Status = object.GetGeneration(), object.GetResourceVersion(), statusOf(object)
	return policy
}

func decodeStoreWithStatus(object *unstructured.Unstructured) shelltrust.StoreResource {
	store := kubeclient.DecodeStore(object)
	store.UID = object.GetUID()
	store.Generation, store.ResourceVersion, store.Status = object.GetGeneration(), object.GetResourceVersion(), statusOf(object)
	return store
}

// statusOf reads a status. One that cannot be decoded counts as empty, so that it is written anew.
func statusOf(object *unstructured.Unstructured) shelltrust.Status {
	var status shelltrust.Status
	written, found, err := unstructured.NestedMap(object.Object, "status")
	if err != nil || !found || runtime.DefaultUnstructuredConverter.FromUnstructured(written, &status) != nil {
		return shelltrust.Status{}
	}
	return status
}
