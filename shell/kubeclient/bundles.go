package kubeclient

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// bundleWait is how long trust waits for the first answer on a bundle that a store names since then. Until there is one the store
// cannot be used.
const bundleWait = 2 * time.Second

// bundles watches the keys of ConfigMaps and Secrets that trust stores name, each by its object's name, so that a role can be
// limited to it.
type bundles struct {
	client  *Client
	log     *slog.Logger
	changed func() // is called when get may give another bundle than before

	mu      sync.Mutex
	watched map[shelltrust.BundleRef]*bundle
	running sync.WaitGroup
}

// bundle is the watch of one of them.
type bundle struct {
	*Object[shelltrust.Bundle]
	health *Health
	since  time.Time
	end    context.CancelFunc
	renew  chan struct{} // holds a request for a new list
}

// BundleTarget is what is watched, or listed, to read a bundle.
func BundleTarget(ref shelltrust.BundleRef) Target { return newBundle(ref).Target }

func newBundle(ref shelltrust.BundleRef) *Object[shelltrust.Bundle] {
	object := NewConfigMap(ref.Namespace, ref.Name, func(configMap *core.ConfigMap) shelltrust.Bundle { return BundleOf(configMap, ref.Key) })
	if ref.Kind == shelltrust.Secret {
		object = NewSecret(ref.Namespace, ref.Name, func(secret *core.Secret) shelltrust.Bundle { return BundleOf(secret, ref.Key) })
	}
	return object
}

// BundleOf takes a bundle from a ConfigMap or Secret.
func BundleOf(object metav1.Object, key string) shelltrust.Bundle {
	switch o := object.(type) {
	case *core.Secret:
		return shelltrust.BundleOf(o.Data, key)
	case *core.ConfigMap:
		if binary, ok := o.BinaryData[key]; ok {
			return shelltrust.BundleOf(map[string][]byte{key: binary}, key)
		}
		return shelltrust.BundleOf(o.Data, key)
	}
	return shelltrust.Bundle{Problem: fmt.Sprintf("is a %T", object)}
}

// follow watches the bundles that are named, up to their bound, and no others. Watches end with ctx.
func (b *bundles) follow(ctx context.Context, named []shelltrust.BundleRef) {
	b.mu.Lock()
	defer b.mu.Unlock()
	named = named[:min(len(named), shelltrust.MaxBundles)]
	for ref, watch := range b.watched {
		if !slices.Contains(named, ref) {
			watch.end()
			delete(b.watched, ref)
		}
	}
	for _, ref := range named {
		if b.watched[ref] != nil {
			continue
		}
		own, end := context.WithCancel(ctx)
		object := newBundle(ref)
		object.OnChange(b.changed)
		watch := &bundle{object, NewHealth(b.log, "trust bundle", object.Target), time.Now(), end, make(chan struct{}, 1)}
		watch.health.changed = b.changed
		b.watched[ref] = watch
		b.running.Go(func() { watch.run(own, b.client) })
	}
}

// run watches until ctx ends, and begins again with a new list when that is asked for.
func (w *bundle) run(ctx context.Context, client *Client) {
	for ctx.Err() == nil {
		round, end := context.WithCancel(ctx)
		go func() {
			select {
			case <-round.Done():
			case <-w.renew:
				end()
			}
		}()
		w.Watch(round, client, w.health)
		end()
	}
}

// renewAll has the bundles listed anew.
func (b *bundles) renewAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, watch := range b.watched {
		signal(watch.renew)
	}
}

// pending tells whether any bundle that is named since less than bundleWait has had no answer.
func (b *bundles) pending() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for watch := range maps.Values(b.watched) {
		if time.Since(watch.since) < bundleWait && !watch.Answered(watch.health) {
			return true
		}
	}
	return false
}

// connected tells whether changes of all bundles are being seen, of those that may be read.
func (b *bundles) connected() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for watch := range maps.Values(b.watched) {
		if failure, failed := watch.health.failure(watch.Target); failed && failure.reason != metav1.StatusReasonForbidden {
			return false
		}
	}
	return true
}

// get gives a bundle. What the API server gave last stays while it does not answer, and is gone where it refuses to give it.
func (b *bundles) get(ref shelltrust.BundleRef) shelltrust.Bundle {
	b.mu.Lock()
	watch, watched := b.watched[ref]
	full := len(b.watched) >= shelltrust.MaxBundles
	b.mu.Unlock()
	switch {
	case !watched && full:
		return shelltrust.Bundle{Problem: fmt.Sprintf("is not read, since trust stores name more than %d bundles", shelltrust.MaxBundles)}
	case !watched:
		return shelltrust.Bundle{}
	}
	failure, failed := watch.health.failure(watch.Target)
	if failed && failure.reason == metav1.StatusReasonForbidden {
		return Unread(failure.err)
	}
	items, listed := watch.store.All()
	switch {
	case !listed && failed:
		return Unread(failure.err)
	case !listed:
		return shelltrust.Bundle{}
	case len(items) == 0:
		return shelltrust.Bundle{Problem: "does not exist"}
	}
	return items[0]
}

// Unread is a bundle that could not be read.
func Unread(err error) shelltrust.Bundle {
	said := reason.OneLine(reason.Clip(err.Error(), reason.MaxWords))
	if apierrors.IsForbidden(err) {
		return shelltrust.Bundle{Problem: "may not be read by this service, which needs list and watch on it: " + said}
	}
	return shelltrust.Bundle{Problem: "could not be read: " + said}
}
