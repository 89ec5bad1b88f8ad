package simulation

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// apiServer is the model of an API server with the trust resources and the epoch.
type apiServer struct {
	streams bool // answers a request for a streamed list with one, and not with a refusal
	random  random

	mu         sync.Mutex
	down       int // faults by which nobody reaches it
	version    int
	compacted  int // versions before this one are forgotten
	changed    chan struct{}
	policies   collection
	stores     collection
	configMaps collection // the epoch
}

// collection are the objects of one kind.
type collection struct {
	kind    string
	objects map[string]*unstructured.Unstructured
	before  map[string]*unstructured.Unstructured // some time ago: what a list of any version may give
	then    int                                   // the version of that
	log     []logged
}

// logged is a change, as watches send it.
type logged struct {
	version int
	at      time.Time
	event   watch.Event
}

func newAPIServer(r random) *apiServer {
	of := func(kind string) collection {
		return collection{kind: kind, objects: map[string]*unstructured.Unstructured{}, before: map[string]*unstructured.Unstructured{}}
	}
	return &apiServer{streams: r.chance(50), random: r, version: 1, changed: make(chan struct{}), policies: of("TrustPolicy"), stores: of("TrustStore"), configMaps: of("ConfigMap")}
}

// put stores an object; a nil content deletes it. It gives what is stored.
func (s *apiServer) put(c *collection, name string, content map[string]any) *unstructured.Unstructured {
	s.mu.Lock()
	defer s.mu.Unlock()
	have, known := c.objects[name]
	if content == nil && !known {
		return nil
	}
	if s.random.chance(50) {
		c.before, c.then = maps.Clone(c.objects), s.version
	}
	s.version++
	change := watch.Event{Type: watch.Modified}
	if content == nil {
		change = watch.Event{Type: watch.Deleted, Object: have}
		delete(c.objects, name)
	} else {
		object := &unstructured.Unstructured{Object: map[string]any{}}
		maps.Copy(object.Object, content)
		version := "notation.nirmata.io/v1alpha1"
		if c.kind == "ConfigMap" {
			version = "v1"
		}
		object.Object["apiVersion"], object.Object["kind"] = version, c.kind
		object.Object["metadata"] = map[string]any{"name": name, "resourceVersion": strconv.Itoa(s.version), "uid": name}
		if !known {
			change.Type = watch.Added
		}
		change.Object = object
		c.objects[name] = object
	}
	if change.Type == watch.Deleted {
		gone := &unstructured.Unstructured{Object: maps.Clone(have.Object)}
		gone.Object["metadata"] = map[string]any{"name": name, "resourceVersion": strconv.Itoa(s.version), "uid": name}
		change.Object = gone
	}
	c.log = append(c.log, logged{s.version, time.Now(), change})
	close(s.changed)
	s.changed = make(chan struct{})
	return c.objects[name]
}

// compact forgets all changes so far.
func (s *apiServer) compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compacted = s.version
}

// link is the connection of one client to the API server.
type link struct {
	server *apiServer
	lasts  time.Duration // after which the server ends a watch

	mu      sync.Mutex
	down    int           // faults by which nothing gets through
	refused int           // faults by which lists and watches are forbidden
	lag     time.Duration // by which watches are late
	broken  chan struct{} // closed when the watches of now end
	deaf    chan struct{} // closed when the watches of now hear nothing any more, except for that of the epoch
	deafAll chan struct{} // closed when that neither hears anything
}

func newLink(s *apiServer, lasts time.Duration) *link {
	return &link{server: s, lasts: lasts, broken: make(chan struct{}), deaf: make(chan struct{}), deafAll: make(chan struct{})}
}

func (l *link) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// cut ends all watches.
func (l *link) cut() {
	l.set(func() {
		close(l.broken)
		l.broken, l.deaf, l.deafAll = make(chan struct{}), make(chan struct{}), make(chan struct{})
	})
}

// deafen has the watches of now hear nothing more, the epoch's with all. They end when the client notices, which takes up to
// a time.
func (l *link) deafen(noticed time.Duration, all bool) {
	l.mu.Lock()
	close(l.deaf)
	l.deaf = make(chan struct{})
	if all {
		close(l.deafAll)
		l.deafAll = make(chan struct{})
	}
	broken := l.broken
	l.mu.Unlock()
	time.AfterFunc(noticed, func() {
		l.mu.Lock()
		same := l.broken == broken
		l.mu.Unlock()
		if same {
			l.cut()
		}
	})
}

var errDown = errors.New("dial tcp: connection refused")

// call passes a request on, after the time that it takes.
func (l *link) call(ctx context.Context, resource schema.GroupResource) error {
	s := l.server
	s.mu.Lock()
	took := s.random.between(time.Millisecond, 20*time.Millisecond)
	s.mu.Unlock()
	if !sleep(ctx, took) {
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.down+s.down > 0:
		return errDown
	case l.refused > 0:
		return apierrors.NewForbidden(resource, "", errors.New("not allowed"))
	}
	return nil
}

// sleep lets time pass; false when ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// dynamicClient is the link as the client that the service watches the trust resources with.
type dynamicClient struct {
	dynamic.Interface
	link *link
}

// Resource is part of dynamic.Interface.
func (d dynamicClient) Resource(of schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	c := &d.link.server.policies
	if of.Resource == "truststores" {
		c = &d.link.server.stores
	}
	return resourceClient{link: d.link, of: of.GroupResource(), collection: c}
}

// resourceClient lists and watches one kind; nothing else is asked of it.
type resourceClient struct {
	dynamic.NamespaceableResourceInterface
	link       *link
	of         schema.GroupResource
	collection *collection
}

// Namespace is part of dynamic.NamespaceableResourceInterface.
func (c resourceClient) Namespace(string) dynamic.ResourceInterface { return c }

// List gives the objects of now, or of before where any version will do.
func (c resourceClient) List(ctx context.Context, options metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	if err := c.link.call(ctx, c.of); err != nil {
		return nil, err
	}
	s := c.link.server
	s.mu.Lock()
	defer s.mu.Unlock()
	objects, version := c.collection.objects, s.version
	if options.ResourceVersion == "0" && c.collection.then >= s.compacted {
		objects, version = c.collection.before, c.collection.then
	}
	list := &unstructured.UnstructuredList{Object: map[string]any{
		"apiVersion": "notation.nirmata.io/v1alpha1", "kind": c.collection.kind + "List", "metadata": map[string]any{"resourceVersion": strconv.Itoa(version)},
	}}
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		list.Items = append(list.Items, *objects[name])
	}
	return list, nil
}

// Watch sends changes since a version.
func (c resourceClient) Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	if options.SendInitialEvents != nil && !c.link.server.streams {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: c.of.Group}, "", nil)
	}
	if err := c.link.call(ctx, c.of); err != nil {
		return nil, err
	}
	return c.link.watch(c.collection, options)
}

// watch begins to send.
func (l *link) watch(c *collection, options metav1.ListOptions) (watch.Interface, error) {
	s := l.server
	since, _ := strconv.Atoi(options.ResourceVersion)
	s.mu.Lock()
	defer s.mu.Unlock()
	if since > 0 && since < s.compacted && options.SendInitialEvents == nil {
		return nil, apierrors.NewResourceExpired("too old resource version")
	}
	var first []watch.Event
	if options.SendInitialEvents != nil {
		for _, name := range slices.Sorted(maps.Keys(c.objects)) {
			first = append(first, watch.Event{Type: watch.Added, Object: c.objects[name]})
		}
		since = s.version
		mark := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "notation.nirmata.io/v1alpha1", "kind": c.kind, "metadata": map[string]any{
			"resourceVersion": strconv.Itoa(since), "annotations": map[string]any{metav1.InitialEventsAnnotationKey: "true"},
		}}}
		first = append(first, watch.Event{Type: watch.Bookmark, Object: mark})
	}
	w := &stream{link: l, of: c, events: make(chan watch.Event), stopped: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.broken, w.deaf = l.broken, l.deaf; c == &s.configMaps {
		w.deaf = l.deafAll
	}
	go w.run(first, since)
	return w, nil
}

// stream is a watch.
type stream struct {
	link         *link
	of           *collection
	events       chan watch.Event
	stopped      chan struct{}
	once         sync.Once
	broken, deaf chan struct{}
}

// Stop is part of watch.Interface.
func (w *stream) Stop() { w.once.Do(func() { close(w.stopped) }) }

// ResultChan is part of watch.Interface.
func (w *stream) ResultChan() <-chan watch.Event { return w.events }

func (w *stream) run(first []watch.Event, since int) {
	defer close(w.events)
	end := time.NewTimer(w.link.lasts)
	defer end.Stop()
	for _, event := range first {
		if !w.send(event) {
			return
		}
	}
	s := w.link.server
	for {
		s.mu.Lock()
		changed, next := s.changed, w.of.after(since)
		s.mu.Unlock()
		if next != nil {
			if !w.late(next.at) || !w.send(copied(next.event)) {
				return
			}
			since = next.version
			continue
		}
		select {
		case <-changed:
		case <-end.C:
			return
		case <-w.broken:
			return
		case <-w.stopped:
			return
		}
	}
}

// copied is an event whose object others may keep.
func copied(event watch.Event) watch.Event {
	if object, ok := event.Object.(*unstructured.Unstructured); ok {
		shallow := *object
		event.Object = &shallow
	}
	return event
}

// after gives the first change after a version.
func (c *collection) after(version int) *logged {
	i, _ := slices.BinarySearchFunc(c.log, version+1, func(l logged, v int) int { return l.version - v })
	if i == len(c.log) {
		return nil
	}
	return &c.log[i]
}

// late waits until a change is due; false when the watch ended before.
func (w *stream) late(at time.Time) bool {
	for {
		w.link.mu.Lock()
		wait := time.Until(at.Add(w.link.lag))
		w.link.mu.Unlock()
		if wait <= 0 {
			return true
		}
		timer := time.NewTimer(min(wait, time.Second)) // the lag may end meanwhile
		select {
		case <-timer.C:
		case <-w.broken:
			timer.Stop()
			return false
		case <-w.stopped:
			timer.Stop()
			return false
		}
	}
}

// send sends an event, unless the watch is deaf: then it waits for its end.
func (w *stream) send(event watch.Event) bool {
	select {
	case <-w.broken:
		return false
	case <-w.deaf:
		select {
		case <-w.broken:
		case <-w.stopped:
		}
		return false
	default:
	}
	select {
	case w.events <- event:
		return true
	case <-w.broken:
	case <-w.stopped:
	}
	return false
}
