// Package kubetest is a Kubernetes API server for tests, in memory: clients reach it without a network, so that tests can run
// it in a synctest bubble, where waiting costs no time and a test sees when nothing more will happen.
//
// It speaks as much of the API as the service uses: get, create, update and merge patches of objects, lists, watches from a
// resource version, field selectors by name, token reviews, and the refusal of streamed lists. Of what it is asked, it can be
// told to refuse, to miss or to lag behind.
package kubetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

// Namespace is that of the service.
const Namespace = "ours"

// Paths of collections.
const (
	PoliciesPath   = "/apis/notation.nirmata.io/v1alpha1/trustpolicies"
	StoresPath     = "/apis/notation.nirmata.io/v1alpha1/truststores"
	SecretsPath    = "/api/v1/namespaces/" + Namespace + "/secrets"
	ConfigMapsPath = "/api/v1/namespaces/" + Namespace + "/configmaps"
	LeasesPath     = "/apis/coordination.k8s.io/v1/namespaces/" + Namespace + "/leases"
	EventsPath     = "/apis/events.k8s.io/v1/namespaces/default/events"
)

// Object is a Kubernetes object as JSON has it.
type Object = map[string]any

// Server is an API server. Make one with Start.
type Server struct {
	// Review gives the status of the token review with a specification. Set it before the first review.
	Review func(spec Object) (status Object)

	mu      sync.Mutex
	up      context.Context // ends when the server is stopped
	stop    context.CancelFunc
	version int
	objects map[string]Object // path of the object -> object
	changes []change
	changed chan struct{} // closed at every change

	requests     []string // paths and field selectors of reads
	writes       int      // that were accepted, but token reviews
	refused      int      // status of every answer; 0 for none
	noStatus     string   // path of the object whose status cannot be written
	noCreate     string   // collection in which nothing can be created
	noObject     string   // path of the object for which every request is answered with noObjectCode
	noObjectCode int
	deaf         bool              // watches see nothing
	stale        map[string][]byte // collection -> what a list of any version gives
}

// change is an event of a watch.
type change struct {
	version int
	path    string
	line    []byte
}

// Start starts a server, which the test's end stops.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{objects: map[string]Object{}, stale: map[string][]byte{}, changed: make(chan struct{})}
	s.Restart()
	t.Cleanup(s.Stop)
	return s
}

// Restart makes a stopped server available again, with the objects it had.
func (s *Server) Restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up, s.stop = context.WithCancel(context.Background())
}

// Stop breaks all connections and refuses new ones.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
}

// Client makes a client, which the test's end closes.
func (s *Server) Client(t testing.TB) *kubeclient.Client {
	t.Helper()
	client, err := kubeclient.New(&rest.Config{Host: "http://api.example", Transport: s, QPS: 1000, Burst: 1000}, Namespace)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	name, _ := strings.CutPrefix(query.Get("fieldSelector"), "metadata.name=")
	refused := s.note(r)
	switch {
	case refused == http.StatusInternalServerError:
		fail(w, refused, "InternalError")
	case refused != 0:
		fail(w, refused, "Forbidden")
	case r.Method == http.MethodPatch:
		s.patch(w, r)
	case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/tokenreviews"):
		s.review(w, r)
	case r.Method == http.MethodPost:
		s.create(w, r)
	case r.Method == http.MethodPut:
		s.update(w, r)
	case isObject(r.URL.Path):
		s.get(w, r.URL.Path)
	case query.Get("sendInitialEvents") != "":
		fail(w, http.StatusUnprocessableEntity, "Invalid")
	case query.Get("watch") != "":
		s.watch(w, r, name)
	default:
		s.list(w, r, name)
	}
}

// note records a request, and gives the status with which it is refused; 0 for none.
func (s *Server) note(r *http.Request) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodGet {
		s.requests = append(s.requests, r.URL.Path+"?"+r.URL.Query().Get("fieldSelector"))
	}
	if r.Method == http.MethodPost && r.URL.Path == s.noCreate {
		return http.StatusForbidden
	}
	if r.URL.Path == s.noObject {
		return s.noObjectCode
	}
	return s.refused
}

func fail(w http.ResponseWriter, code int, reason string) {
	send(w, code, Object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": http.StatusText(code), "code": code})
}

func send(w http.ResponseWriter, code int, object Object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object)
}

// list answers with the objects of a collection, or with an old state of it where it lags behind.
func (s *Server) list(w http.ResponseWriter, r *http.Request, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.listed(r.URL.Path, name)
	if stale, lags := s.stale[r.URL.Path]; lags && r.URL.Query().Get("resourceVersion") == "0" {
		text = stale
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text)
}

// listed is called with the lock held.
func (s *Server) listed(collection, name string) []byte {
	items := []any{}
	for path, object := range s.objects {
		if belongs(path, collection, name) {
			items = append(items, object)
		}
	}
	version, kind := apiOf(collection)
	return encode(Object{"apiVersion": version, "kind": kind + "List", "items": items, "metadata": Object{"resourceVersion": strconv.Itoa(s.version)}})
}

func belongs(path, collection, name string) bool {
	of, found := strings.CutPrefix(path, collection+"/")
	return found && (name == "" || of == name)
}

// watch sends the changes of a collection until the client leaves.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, name string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	seen, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	for {
		var lines [][]byte
		s.mu.Lock()
		changed := s.changed
		for _, c := range s.changes {
			if c.version > seen && !s.deaf && belongs(c.path, r.URL.Path, name) {
				lines = append(lines, c.line)
			}
		}
		seen = s.version
		s.mu.Unlock()
		for _, line := range lines {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func (s *Server) review(w http.ResponseWriter, r *http.Request) {
	review, err := decode(r)
	if err != nil {
		fail(w, http.StatusBadRequest, "BadRequest")
		return
	}
	spec, _ := review["spec"].(Object)
	review["status"] = s.Review(spec)
	send(w, http.StatusCreated, review)
}

// apiOf gives the API version and kind of a collection's objects; "" for a path that is no collection.
func apiOf(collection string) (version, kind string) {
	kinds := map[string]string{"trustpolicies": "TrustPolicy", "truststores": "TrustStore", "secrets": "Secret", "configmaps": "ConfigMap", "leases": "Lease", "events": "Event"}
	parts := strings.Split(strings.Trim(collection, "/"), "/")
	kind = kinds[parts[len(parts)-1]]
	if parts[0] == "api" {
		return parts[1], kind
	}
	return parts[1] + "/" + parts[2], kind
}

// decode reads an object that a client sent, as JSON, or as protobuf, which clients of Go types prefer.
func decode(r *http.Request) (Object, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if r.Header.Get("Content-Type") == runtime.ContentTypeProtobuf {
		typed, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
		if err != nil {
			return nil, err
		}
		if body, err = json.Marshal(typed); err != nil {
			return nil, err
		}
	}
	var object Object
	err = json.Unmarshal(body, &object)
	return object, err
}

func encode(object Object) []byte {
	text, err := json.Marshal(object)
	if err != nil {
		panic(fmt.Sprintf("an object cannot be encoded: %v", err))
	}
	return text
}

// errStopped is what a client gets whose connection ends with the server.
var errStopped = errors.New("connection reset: the server was stopped")
