package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

const (
	// assessEvery is how often the statuses are worked out without a change: certificates expire by themselves.
	assessEvery = time.Minute
	// retryStatus is how long a status that could not be written waits.
	retryStatus = 2 * time.Second
)

// StatusWriter keeps the status of the TrustPolicy and TrustStore resources true. One process should run it.
type StatusWriter struct {
	client   *Client
	log      *slog.Logger
	link     *link
	policies *mirror[trust.PolicyResource]
	stores   *mirror[trust.StoreResource]
	changed  chan struct{} // holds a change that is not worked out yet
}

// NewStatusWriter prepares; Run does the work.
func NewStatusWriter(client *Client, log *slog.Logger) *StatusWriter {
	w := &StatusWriter{
		client: client, log: log, changed: make(chan struct{}, 1),
		link: newLink(log, "statuses", trustPolicies(), trustStores()),
	}
	w.policies = &mirror[trust.PolicyResource]{decode: decodePolicyWithStatus, changed: w.note}
	w.stores = &mirror[trust.StoreResource]{decode: decodeStoreWithStatus, changed: w.note}
	return w
}

// Run writes until ctx ends.
func (w *StatusWriter) Run(ctx context.Context) {
	var watches sync.WaitGroup
	watches.Go(func() { w.client.watch(ctx, trustPolicies(), w.policies, w.link.report) })
	watches.Go(func() { w.client.watch(ctx, trustStores(), w.stores, w.link.report) })
	defer watches.Wait()
	next := time.NewTimer(assessEvery)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.changed:
		case <-next.C:
		}
		wait := assessEvery
		if err := w.write(ctx); err != nil && ctx.Err() == nil {
			w.log.Error("a status cannot be written; it is tried again", "error", err)
			wait = retryStatus
		}
		next.Reset(wait)
	}
}

func (w *StatusWriter) note() {
	select {
	case w.changed <- struct{}{}:
	default: // one is noted already
	}
}

// write brings every status up to date. What is right already is not written, so that its own changes, which come
// back through the watch, end there.
func (w *StatusWriter) write(ctx context.Context) error {
	policies, listed := w.policies.all()
	stores, storesListed := w.stores.all()
	if !listed || !storesListed {
		return nil
	}
	statuses := trust.Assess(policies, stores, time.Now())
	for _, policy := range policies {
		if err := w.writeOne(ctx, trustPolicies(), policy.Name, policy.Status, statuses.Policies[policy.Name]); err != nil {
			return err
		}
	}
	for _, store := range stores {
		if err := w.writeOne(ctx, trustStores(), store.Name, store.Status, statuses.Stores[store.Name]); err != nil {
			return err
		}
	}
	return nil
}

func (w *StatusWriter) writeOne(ctx context.Context, of target, name string, have, want trust.Status) error {
	same, err := equalAsJSON(have, want)
	if err != nil || same {
		return err
	}
	patch, err := json.Marshal(map[string]any{"status": want})
	if err != nil {
		return fmt.Errorf("status of %s %s: %w", of, name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err = w.client.dynamic.Resource(of.resource).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "kyverno-notation-venafi"}, "status")
	if err != nil {
		return fmt.Errorf("status of %s %s: %w", of, name, err)
	}
	return nil
}

// equalAsJSON compares what is stored: times lose their zones and fractions there.
func equalAsJSON(a, b trust.Status) (bool, error) {
	var decoded [2]any
	for i, status := range []trust.Status{a, b} {
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

func decodePolicyWithStatus(object *unstructured.Unstructured) trust.PolicyResource {
	policy := decodePolicy(object)
	policy.Generation, policy.Status = object.GetGeneration(), statusOf(object)
	return policy
}

func decodeStoreWithStatus(object *unstructured.Unstructured) trust.StoreResource {
	store := decodeStore(object)
	store.Generation, store.Status = object.GetGeneration(), statusOf(object)
	return store
}

// statusOf reads a status; one that is not understood is written anew.
func statusOf(object *unstructured.Unstructured) trust.Status {
	var status trust.Status
	written, found, err := unstructured.NestedMap(object.Object, "status")
	if err != nil || !found || runtime.DefaultUnstructuredConverter.FromUnstructured(written, &status) != nil {
		return trust.Status{}
	}
	return status
}
