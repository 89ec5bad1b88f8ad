package auditor

import (
	"fmt"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"github.com/nirmata/kyverno-notation-venafi/core/auditor"
	"github.com/nirmata/kyverno-notation-venafi/shell/inventory"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

// reduced is what is kept of an object as it arrives.
type reduced[T any] struct {
	metav1.ObjectMeta // namespace, name, UID and version only
	item              T
}

// GetObjectKind is part of runtime.Object.
func (r *reduced[T]) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject is part of runtime.Object.
func (r *reduced[T]) DeepCopyObject() runtime.Object {
	same := *r
	return &same
}

// reduce makes the function that reduces objects of a type. What is of another type becomes an empty object.
func reduce[O metav1.Object, T any](item func(O) T) func(runtime.Object) runtime.Object {
	return func(object runtime.Object) runtime.Object {
		of, ok := object.(O)
		if !ok {
			return &reduced[T]{}
		}
		return &reduced[T]{
			ObjectMeta: metav1.ObjectMeta{Namespace: of.GetNamespace(), Name: of.GetName(), UID: of.GetUID(), ResourceVersion: of.GetResourceVersion()},
			item:       item(of),
		}
	}
}

// feed hands what a watch sees to the state. It is a cache.ReflectorStore.
type feed[T any] struct {
	put, gone func(T)
	replace   func([]T)

	once   sync.Once
	listed chan struct{} // closed after the first list
}

func newFeed[T any](put, gone func(T), replace func([]T)) *feed[T] {
	return &feed[T]{put: put, gone: gone, replace: replace, listed: make(chan struct{})}
}

// Add is part of cache.ReflectorStore.
func (f *feed[T]) Add(object any) error { return f.Update(object) }

// Update is part of cache.ReflectorStore.
func (f *feed[T]) Update(object any) error {
	item, err := itemOf[T](object)
	if err == nil {
		f.put(item)
	}
	return err
}

// Delete is part of cache.ReflectorStore.
func (f *feed[T]) Delete(object any) error {
	item, err := itemOf[T](object)
	if err == nil {
		f.gone(item)
	}
	return err
}

// Replace is part of cache.ReflectorStore.
func (f *feed[T]) Replace(objects []any, _ string) error {
	items := make([]T, 0, len(objects))
	for _, object := range objects {
		item, err := itemOf[T](object)
		if err != nil {
			return err
		}
		items = append(items, item)
	}
	f.replace(items)
	f.once.Do(func() { close(f.listed) })
	return nil
}

// Resync is part of cache.ReflectorStore; there is nothing to do.
func (f *feed[T]) Resync() error { return nil }

func itemOf[T any](object any) (item T, err error) {
	of, ok := object.(*reduced[T])
	if !ok || of.Name == "" {
		return item, fmt.Errorf("the API server sent a %T that cannot be used", object)
	}
	return of.item, nil
}

// watch is one kind of objects that is watched.
type watch struct {
	kubeclient.Target
	store  cache.ReflectorStore
	reduce func(runtime.Object) runtime.Object
	listed <-chan struct{}
}

func pods() kubeclient.Target {
	return kubeclient.Target{Resource: schema.GroupVersionResource{Version: "v1", Resource: "pods"}, Fields: inventory.Running, Page: pageSize}
}

func (a *Auditor) podWatch() watch {
	to := newFeed(
		func(pod auditor.Pod) { a.tell(func(now time.Time) { a.state.Pod(pod, now) }) },
		func(pod auditor.Pod) { a.tell(func(now time.Time) { a.state.PodGone(pod.Namespace, pod.Name, now) }) },
		func(pods []auditor.Pod) { a.tell(func(now time.Time) { a.state.Pods(pods, now) }) },
	)
	return watch{pods(), to, reduce(func(pod *core.Pod) auditor.Pod {
		return auditor.Pod{Object: objectOf(pod, "v1", "Pod"), Uses: inventory.UsesOf(pod)}
	}), to.listed}
}

// owners are the resources of the kinds of owners that are looked up, in the order of auditor.Kinds.
var owners = map[string]schema.GroupVersionResource{
	"apps/Deployment":  {Group: "apps", Version: "v1", Resource: "deployments"},
	"apps/ReplicaSet":  {Group: "apps", Version: "v1", Resource: "replicasets"},
	"apps/StatefulSet": {Group: "apps", Version: "v1", Resource: "statefulsets"},
	"apps/DaemonSet":   {Group: "apps", Version: "v1", Resource: "daemonsets"},
	"batch/Job":        {Group: "batch", Version: "v1", Resource: "jobs"},
	"batch/CronJob":    {Group: "batch", Version: "v1", Resource: "cronjobs"},
}

// ownerWatch watches the metadata of a kind, as core/auditor names it.
func (a *Auditor) ownerWatch(kind string) watch {
	of := owners[kind]
	to := newFeed(
		func(object auditor.Object) { a.tell(func(now time.Time) { a.state.Object(object, now) }) },
		func(object auditor.Object) { a.tell(func(now time.Time) { a.state.ObjectGone(object.UID, now) }) },
		func(objects []auditor.Object) { a.tell(func(now time.Time) { a.state.Objects(kind, objects, now) }) },
	)
	return watch{kubeclient.Target{Resource: of, Metadata: true}, to, reduce(func(object *metav1.PartialObjectMetadata) auditor.Object {
		return objectOf(object, of.GroupVersion().String(), kind[len(of.Group)+1:])
	}), to.listed}
}

func objectOf(object metav1.Object, apiVersion, kind string) auditor.Object {
	of := auditor.Object{
		Ref:       auditor.Ref{APIVersion: apiVersion, Kind: kind, Name: object.GetName(), UID: string(object.GetUID())},
		Namespace: object.GetNamespace(),
	}
	if controller := metav1.GetControllerOfNoCopy(object); controller != nil {
		of.Controller = auditor.Ref{APIVersion: controller.APIVersion, Kind: controller.Kind, Name: controller.Name, UID: string(controller.UID)}
	}
	return of
}

// Namespace is what is needed of a namespace.
type Namespace struct {
	Name   string
	Labels map[string]string
	Ends   bool // it is being deleted
}

func (a *Auditor) namespaceWatch() watch {
	to := newFeed(
		func(n Namespace) { a.namespaces(func() { a.known[n.Name] = n }) },
		func(n Namespace) { a.namespaces(func() { delete(a.known, n.Name) }) },
		func(all []Namespace) {
			a.namespaces(func() {
				a.known = make(map[string]Namespace, len(all))
				for _, n := range all {
					a.known[n.Name] = n
				}
			})
		},
	)
	target := kubeclient.Target{Resource: schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, Metadata: true}
	return watch{target, to, reduce(func(object *metav1.PartialObjectMetadata) Namespace {
		return Namespace{object.Name, object.Labels, object.DeletionTimestamp != nil}
	}), to.listed}
}
