package kube

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// target is what a watch is of.
type target struct {
	resource  schema.GroupVersionResource
	namespace string // "" for cluster-scoped resources
	name      string // one object only, as roles that name it allow; "" for all
}

// String is for logs.
func (t target) String() string {
	if t.name == "" {
		return t.resource.Resource
	}
	return fmt.Sprintf("%s %s/%s", t.resource.Resource, t.namespace, t.name)
}

// watch keeps into up to date until ctx ends. It reports what fails and when changes are seen (again), which a list
// alone does not tell; client-go's own log is off.
// It uses a reflector rather than an informer, as only a reflector's backoff can be set (client-go backs off for
// up to a minute, which is long for an API server that was restarted) and as an informer keeps the raw objects.
func (c *Client) watch(ctx context.Context, of target, into cache.ReflectorStore, report func(target, error)) {
	told := func(ctx context.Context, err error) error {
		if ctx.Err() == nil && !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) { // those only ask for a new list
			report(of, err)
		}
		return err
	}
	resource := c.dynamic.Resource(of.resource).Namespace(of.namespace)
	calls := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			bounded, cancel := context.WithTimeout(ctx, requestTimeout)
			defer cancel()
			if options.ResourceVersion == "0" { // any version, also one from before what was seen already; see Renew
				options.ResourceVersion = ""
			}
			list, err := resource.List(bounded, of.narrow(options))
			if err != nil {
				return nil, told(ctx, err)
			}
			return list, nil
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
			events, err := resource.Watch(ctx, of.narrow(options))
			if options.SendInitialEvents != nil && apierrors.IsInvalid(err) {
				return events, err // the API server does not stream lists; the reflector lists instead
			}
			return events, told(ctx, err)
		},
	}
	reflector := cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(calls, c.dynamic),
		&unstructured.Unstructured{}, into, cache.ReflectorOptions{
			Name: of.String(),
			// At most 2.5 s between two tries.
			Backoff: &wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.25, Steps: 10, Cap: 2 * time.Second},
		})
	reflector.RunWithContext(klog.NewContext(ctx, logr.Discard()))
}

func (t target) narrow(options metav1.ListOptions) metav1.ListOptions {
	if t.name != "" {
		options.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, t.name).String()
	}
	return options
}

// mirror is the reflector's store: what the API server has, decoded. Its names are unique, as every watch is of
// one namespace or of cluster-scoped resources.
type mirror[T any] struct {
	decode  func(*unstructured.Unstructured) T
	changed func() // called when what was decoded differs from before, so not for a change of status only

	mu    sync.Mutex
	items map[string]T // by name; nil before the first list
}

// all gives the items; false before the first list.
func (m *mirror[T]) all() ([]T, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	items := make([]T, 0, len(m.items))
	for _, item := range m.items {
		items = append(items, item)
	}
	return items, m.items != nil
}

// Add is part of cache.ReflectorStore. A reflector calls Replace first.
func (m *mirror[T]) Add(object any) error { return m.Update(object) }

// Update is part of cache.ReflectorStore.
func (m *mirror[T]) Update(object any) error {
	resource, ok := object.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("the API server's watch gave a %T", object)
	}
	item := m.decode(resource)
	m.change(func() bool {
		old, known := m.items[resource.GetName()]
		if known && reflect.DeepEqual(old, item) {
			return false
		}
		m.items[resource.GetName()] = item
		return true
	})
	return nil
}

// Delete is part of cache.ReflectorStore.
func (m *mirror[T]) Delete(object any) error {
	resource, ok := object.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("the API server's watch gave a %T", object)
	}
	m.change(func() bool {
		delete(m.items, resource.GetName())
		return true
	})
	return nil
}

// Replace is part of cache.ReflectorStore.
func (m *mirror[T]) Replace(objects []any, _ string) error {
	items := make(map[string]T, len(objects))
	for _, object := range objects {
		resource, ok := object.(*unstructured.Unstructured)
		if !ok {
			return fmt.Errorf("the API server's list holds a %T", object)
		}
		items[resource.GetName()] = m.decode(resource)
	}
	m.change(func() bool {
		same := m.items != nil && reflect.DeepEqual(m.items, items)
		m.items = items
		return !same
	})
	return nil
}

// Resync is part of cache.ReflectorStore; there is nothing to do.
func (m *mirror[T]) Resync() error { return nil }

func (m *mirror[T]) change(apply func() bool) {
	m.mu.Lock()
	different := apply()
	m.mu.Unlock()
	if different {
		m.changed()
	}
}
