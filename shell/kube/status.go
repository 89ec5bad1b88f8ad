package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

const (
	// assessEvery is how often the statuses are worked out without a change: certificates expire by themselves.
	assessEvery = time.Minute
	// firstRetry is how long statuses that could not be written wait at first; then twice as long, up to assessEvery.
	firstRetry = 2 * time.Second
)

// StatusWriter keeps the status of the TrustPolicy and TrustStore resources true. One process should run it; where
// two do for a moment, neither writes over what it has not seen.
type StatusWriter struct {
	*trustResources
	log      *slog.Logger
	instance string          // of this process, in events
	retry    time.Duration   // after the next failure; of the goroutine that runs Run
	told     map[string]bool // names of events; of the same goroutine
}

// NewStatusWriter prepares; Run does the work. instance names this process.
func NewStatusWriter(client *Client, instance string, log *slog.Logger) *StatusWriter {
	return &StatusWriter{
		log: log, retry: firstRetry, instance: instance, told: map[string]bool{},
		trustResources: newTrustResources(client, log, "statuses", decodePolicyWithStatus, decodeStoreWithStatus),
	}
}

// Run writes until ctx ends. Run it once.
func (w *StatusWriter) Run(ctx context.Context) {
	w.follow(ctx, func() time.Duration {
		failed, err := w.write(ctx)
		if err == nil || ctx.Err() != nil {
			w.retry = firstRetry
			return assessEvery
		}
		wait := w.retry
		w.retry = min(2*w.retry, assessEvery)
		w.log.Error("statuses cannot be written; they are tried again", "statuses", failed, "in", wait.String(), "error", err)
		return wait
	})
}

// write brings every status up to date. What is right already is not written, so that its own changes, which come
// back through the watch, end there. It gives how many could not be written, and why the first of them.
func (w *StatusWriter) write(ctx context.Context) (failed int, first error) {
	policies, stores, listed := w.all()
	if !listed {
		return 0, nil
	}
	now := time.Now()
	statuses := shelltrust.Assess(policies, stores, now)
	untold, first := w.warn(ctx, stores, now)
	failed = len(untold)
	var changes []statusChange
	for _, r := range policies {
		changes = append(changes, statusChange{trustPolicies(), r.Name, r.ResourceVersion, r.Status, statuses.Policies[r.Name]})
	}
	for _, r := range stores {
		want := statuses.Stores[r.Name]
		if untold[r.Name] {
			want = want.Untold(r.Status)
		}
		changes = append(changes, statusChange{trustStores(), r.Name, r.ResourceVersion, r.Status, want})
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
		if !refused(err) {
			break // the others would fare no better
		}
	}
	return failed, first
}

// warn creates an event for each certificate that has come to a threshold, unless the status tells that it was done. It
// gives the stores of which something could not be told, and why.
func (w *StatusWriter) warn(ctx context.Context, stores []shelltrust.StoreResource, now time.Time) (untold map[string]bool, first error) {
	untold = map[string]bool{}
	for _, warning := range shelltrust.Warnings(stores, now) {
		name := eventName(warning)
		if w.told[name] {
			continue
		}
		if first == nil || refused(first) { // else this one would fare no better
			err := w.client.tell(ctx, warning, w.instance, now)
			if err == nil {
				w.told[name] = true
				continue
			}
			first = err
		}
		untold[warning.Store] = true
	}
	return untold, first
}

// refused tells whether the API server answered that it does not take a status. One such does not hold up the others.
func refused(err error) bool {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return false
	}
	code := answer.Status().Code
	return code >= 400 && code < 500 && code != http.StatusUnauthorized && code != http.StatusTooManyRequests
}

// statusChange is a resource's status as it is and as it should be.
type statusChange struct {
	target        target
	name, version string
	have, want    shelltrust.Status
}

// writeOne writes a status where it differs. It does nothing where the resource was changed or deleted meanwhile:
// the watch will tell.
func (w *StatusWriter) writeOne(ctx context.Context, change statusChange) error {
	if same, err := equalAsJSON(change.have, change.want); err != nil || same {
		return err
	}
	patch, err := change.patch()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	options := metav1.PatchOptions{FieldManager: fieldManager}
	_, err = w.client.dynamic.Resource(change.target.resource).Patch(ctx, change.name, types.MergePatchType, patch, options, "status")
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("status of %s %s: %w", change.target, change.name, err)
	}
	return nil
}

// patch is a JSON merge patch for the version that was assessed. It names every field, as one that a patch leaves
// out stays.
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

// equalAsJSON compares what is stored: times lose their zones and fractions there.
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
	policy := decodePolicy(object)
	policy.Generation, policy.ResourceVersion, policy.Status = object.GetGeneration(), object.GetResourceVersion(), statusOf(object)
	return policy
}

func decodeStoreWithStatus(object *unstructured.Unstructured) shelltrust.StoreResource {
	store := decodeStore(object)
	store.UID = object.GetUID()
	store.Generation, store.ResourceVersion, store.Status = object.GetGeneration(), object.GetResourceVersion(), statusOf(object)
	return store
}

// statusOf reads a status; one that is not understood is written anew.
func statusOf(object *unstructured.Unstructured) shelltrust.Status {
	var status shelltrust.Status
	written, found, err := unstructured.NestedMap(object.Object, "status")
	if err != nil || !found || runtime.DefaultUnstructuredConverter.FromUnstructured(written, &status) != nil {
		return shelltrust.Status{}
	}
	return status
}
