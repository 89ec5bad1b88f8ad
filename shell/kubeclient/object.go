package kubeclient

import (
	"context"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Object is a watch of one object by its name, so that a role can be limited to it. The object need not exist.
type Object[T any] struct {
	Target
	store *Store[T]
}

// NewSecret prepares the watch of a Secret, of which decode takes what is needed.
func NewSecret[T any](namespace, name string, decode func(*core.Secret) T) *Object[T] {
	return newObject("secrets", namespace, name, decode)
}

// NewConfigMap prepares the watch of a ConfigMap, of which decode takes what is needed.
func NewConfigMap[T any](namespace, name string, decode func(*core.ConfigMap) T) *Object[T] {
	return newObject("configmaps", namespace, name, decode)
}

func newObject[O metav1.Object, T any](resource, namespace, name string, decode func(O) T) *Object[T] {
	of := Target{Resource: schema.GroupVersionResource{Version: "v1", Resource: resource}, Namespace: namespace, Name: name}
	return &Object[T]{Target: of, store: NewStore(decode, func() {})}
}

// OnChange has a function called after every change of what was decoded, also when the object is deleted. Call it before
// Watch.
func (o *Object[T]) OnChange(changed func()) { o.store.changed = changed }

// Watch follows the object until ctx ends. Run it once.
func (o *Object[T]) Watch(ctx context.Context, client *Client, health *Health) {
	client.Watch(ctx, o.Target, o.store, health)
}

// Get gives what was decoded; false while the object does not exist, or is not known yet.
func (o *Object[T]) Get() (T, bool) {
	items, _ := o.store.All()
	if len(items) == 0 {
		var none T
		return none, false
	}
	return items[0], true
}

// Answered reports whether the API server gave the object, said that it does not exist, or refused to tell.
func (o *Object[T]) Answered(health *Health) bool {
	_, listed := o.store.All()
	return listed || health.refused(o.Target)
}
