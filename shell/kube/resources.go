package kube

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// settle is how long a change waits for others that come with it, so that a burst is looked at once.
const settle = 30 * time.Millisecond

// trustResources mirrors the TrustPolicy and TrustStore resources of a cluster.
type trustResources struct {
	client   *Client
	link     *link
	policies *mirror[shelltrust.PolicyResource]
	stores   *mirror[shelltrust.StoreResource]
	changed  chan struct{} // holds a change that was not looked at yet
	renew    chan struct{} // holds a wish for new lists
}

// newTrustResources prepares. What the decoders leave out of a resource is not seen to change.
func newTrustResources(client *Client, log *slog.Logger, subject string,
	policy func(*unstructured.Unstructured) shelltrust.PolicyResource, store func(*unstructured.Unstructured) shelltrust.StoreResource) *trustResources {
	r := &trustResources{client: client, changed: make(chan struct{}, 1), renew: make(chan struct{}, 1), link: newLink(log, subject, trustPolicies(), trustStores())}
	r.policies = &mirror[shelltrust.PolicyResource]{decode: policy, changed: r.note}
	r.stores = &mirror[shelltrust.StoreResource]{decode: store, changed: r.note}
	return r
}

func (r *trustResources) note() {
	select {
	case r.changed <- struct{}{}:
	default: // one is noted already
	}
}

// all gives the resources; false before both kinds were listed for the first time.
func (r *trustResources) all() ([]shelltrust.PolicyResource, []shelltrust.StoreResource, bool) {
	policies, listed := r.policies.all()
	stores, storesListed := r.stores.all()
	return policies, stores, listed && storesListed
}

// follow keeps the mirrors up to date until ctx ends. It calls look after every change, and also when the time that
// look gave is over; 0 waits for a change. Run it once.
func (r *trustResources) follow(ctx context.Context, look func() time.Duration) {
	var watches sync.WaitGroup
	watches.Go(func() { r.watchBoth(ctx) })
	defer watches.Wait()
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-due:
		case <-r.changed:
		}
		time.Sleep(settle)
		select {
		case <-r.changed: // came in the meantime and is seen now
		default:
		}
		due = nil
		if wait := look(); wait > 0 {
			due = time.After(wait)
		}
	}
}

// renewEvery is how often, at the most, the resources are listed anew because someone wished so.
const renewEvery = 200 * time.Millisecond

// watchBoth watches policies and stores until ctx ends. At every wish it begins with new lists: a watch that is broken
// without knowing it, as its connection is half dead, sees no change.
func (r *trustResources) watchBoth(ctx context.Context) {
	for ctx.Err() == nil {
		round, end := context.WithCancel(ctx)
		var watches sync.WaitGroup
		watches.Go(func() { r.client.watch(round, trustPolicies(), r.policies, r.link.report) })
		watches.Go(func() { r.client.watch(round, trustStores(), r.stores, r.link.report) })
		select {
		case <-ctx.Done():
		case <-time.After(renewEvery):
			select {
			case <-ctx.Done():
			case <-r.renew:
			}
		}
		end()
		watches.Wait()
	}
}

// Renew has the resources listed anew, soon. Many wishes at once are one.
func (r *trustResources) Renew() {
	select {
	case r.renew <- struct{}{}:
	default:
	}
}
