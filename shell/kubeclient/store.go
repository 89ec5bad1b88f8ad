package kubeclient

import (
	"fmt"
	"reflect"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Store keeps what a watch has seen, decoded, by the objects' names. Those are unique, as every watch is of one namespace or
// of cluster-scoped resources. It is a cache.ReflectorStore.
type Store[T any] struct {
	decode  func(object any) (name string, item T, err error)
	changed func()

	mu    sync.Mutex
	items map[string]T // by name; nil before the first list
}

// NewStore makes a store for objects of the type O. changed is called when what was decoded differs from before: not when
// only a part of the object changed that decode leaves out.
func NewStore[O metav1.Object, T any](decode func(O) T, changed func()) *Store[T] {
	return &Store[T]{changed: changed, decode: func(object any) (name string, item T, err error) {
		typed, ok := object.(O)
		if !ok {
			return "", item, fmt.Errorf("the API server sent a %T where a %T belongs", object, typed)
		}
		return typed.GetName(), decode(typed), nil
	}}
}

// All gives the items; false before the first list.
func (s *Store[T]) All() ([]T, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := make([]T, 0, len(s.items))
	for _, item := range s.items {
		items = append(items, item)
	}
	return items, s.items != nil
}

// Add is part of cache.ReflectorStore. A reflector calls Replace first.
func (s *Store[T]) Add(object any) error { return s.Update(object) }

// Update is part of cache.ReflectorStore.
func (s *Store[T]) Update(object any) error {
	name, item, err := s.decode(object)
	if err != nil {
		return err
	}
	s.change(func() bool {
		old, known := s.items[name]
		s.items[name] = item
		return !known || !reflect.DeepEqual(old, item)
	})
	return nil
}

// Delete is part of cache.ReflectorStore.
func (s *Store[T]) Delete(object any) error {
	name, _, err := s.decode(object)
	if err != nil {
		return err
	}
	s.change(func() bool {
		delete(s.items, name)
		return true
	})
	return nil
}

// Replace is part of cache.ReflectorStore.
func (s *Store[T]) Replace(objects []any, _ string) error {
	items := make(map[string]T, len(objects))
	for _, object := range objects {
		name, item, err := s.decode(object)
		if err != nil {
			return err
		}
		items[name] = item
	}
	s.change(func() bool {
		same := s.items != nil && reflect.DeepEqual(s.items, items)
		s.items = items
		return !same
	})
	return nil
}

// Resync is part of cache.ReflectorStore; there is nothing to do.
func (s *Store[T]) Resync() error { return nil }

func (s *Store[T]) change(apply func() bool) {
	s.mu.Lock()
	different := apply()
	s.mu.Unlock()
	if different {
		s.changed()
	}
}
