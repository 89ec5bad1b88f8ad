package kube

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
)

// apiServer speaks as much of the Kubernetes API over HTTP as watches and token reviews need: lists, watches from
// a resource version, field selectors by name, and the refusal of streamed lists.
type apiServer struct {
	mu      sync.Mutex
	version int
	objects map[string]map[string]any // path of the object -> object
	events  []event
	changed chan struct{} // closed at every event
	asked   []string      // queries of lists and watches
	refuse  int           // status of every answer; 0 for none
	review  func(spec map[string]any) map[string]any
	written int               // statuses that were accepted
	denied  string            // path of the object whose status is refused
	closed  string            // collection in which nothing may be created
	dead    bool              // watches are told nothing, as over a connection that is half dead
	behind  map[string][]byte // collection -> its list of any version, as an API server's cache has it that is behind

	address string
	server  *httptest.Server
}

type event struct {
	version int
	path    string
	line    []byte
}

func startAPI(t *testing.T) *apiServer {
	t.Helper()
	a := &apiServer{objects: map[string]map[string]any{}, behind: map[string][]byte{}, changed: make(chan struct{}), address: "127.0.0.1:0"}
	a.start(t)
	t.Cleanup(a.stop)
	return a
}

func (a *apiServer) start(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", a.address)
	if err != nil {
		t.Fatal(err)
	}
	a.address = listener.Addr().String()
	a.server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: a}}
	a.server.Start()
}

// refuses answers everything with a status from now on; 0 for no longer.
func (a *apiServer) refuses(code int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refuse = code
}

func (a *apiServer) stop() {
	a.server.CloseClientConnections()
	a.server.Close()
}

func (a *apiServer) client(t *testing.T) *Client {
	t.Helper()
	// Clients of Go types speak protobuf by default, which this server does not.
	json := rest.ContentConfig{ContentType: "application/json", AcceptContentTypes: "application/json"}
	client, err := newClient(&rest.Config{Host: "http://" + a.address, QPS: 1000, Burst: 1000, ContentConfig: json}, "ours")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// put creates or changes an object, given as JSON, of a collection such as
// "/apis/notation.nirmata.io/v1alpha1/truststores".
func (a *apiServer) put(collection, name, rest string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	object := map[string]any{}
	if err := json.Unmarshal([]byte(rest), &object); err != nil {
		panic(err)
	}
	path := collection + "/" + name
	before, known := a.objects[path]
	a.version++
	object["metadata"] = map[string]any{"name": name, "resourceVersion": strconv.Itoa(a.version), "generation": a.version}
	if status, ok := before["status"]; ok && object["status"] == nil {
		object["status"] = status // a change of the specification leaves it
	}
	object["apiVersion"], object["kind"] = apiOf(collection)
	a.objects[path] = object
	a.tell(map[bool]string{false: "ADDED", true: "MODIFIED"}[known], path, object)
}

func (a *apiServer) remove(collection, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	path := collection + "/" + name
	object := a.objects[path]
	delete(a.objects, path)
	a.version++
	a.tell("DELETED", path, object)
}

func (a *apiServer) tell(kind, path string, object map[string]any) {
	line, err := json.Marshal(map[string]any{"type": kind, "object": object})
	if err != nil {
		panic(err)
	}
	a.events = append(a.events, event{a.version, path, append(line, '\n')})
	close(a.changed)
	a.changed = make(chan struct{})
}

func apiOf(collection string) (version, kind string) {
	kinds := map[string]string{"trustpolicies": "TrustPolicy", "truststores": "TrustStore", "secrets": "Secret", "configmaps": "ConfigMap", "leases": "Lease", "events": "Event"}
	parts := strings.Split(strings.Trim(collection, "/"), "/")
	if parts[0] == "api" {
		return parts[1], kinds[parts[len(parts)-1]]
	}
	return parts[1] + "/" + parts[2], kinds[parts[len(parts)-1]]
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	a.mu.Lock()
	refuse := a.refuse
	if a.closed != "" && r.Method == http.MethodPost && r.URL.Path == a.closed {
		refuse = http.StatusForbidden
	}
	if r.Method == http.MethodGet {
		a.asked = append(a.asked, r.URL.Path+"?"+query.Get("fieldSelector"))
	}
	a.mu.Unlock()
	name, _ := strings.CutPrefix(query.Get("fieldSelector"), "metadata.name=")
	switch {
	case refuse != 0:
		status(w, refuse, "Forbidden")
	case r.Method == http.MethodPatch:
		a.patchStatus(w, r)
	case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/tokenreviews"):
		a.answerReview(w, r)
	case r.Method == http.MethodPost:
		a.create(w, r)
	case r.Method == http.MethodPut:
		a.update(w, r)
	case isObject(r.URL.Path):
		a.get(w, r.URL.Path)
	case query.Get("sendInitialEvents") != "":
		status(w, http.StatusUnprocessableEntity, "Invalid")
	case query.Get("watch") != "":
		a.watch(w, r, name)
	case a.lags(w, r):
	default:
		a.list(w, r.URL.Path, name)
	}
}

func status(w http.ResponseWriter, code int, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d}`, reason, code)
}

func (a *apiServer) list(w http.ResponseWriter, collection, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	items := []any{}
	for path, object := range a.objects {
		if belongs(path, collection, name) {
			items = append(items, object)
		}
	}
	version, kind := apiOf(collection)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"apiVersion": version, "kind": kind + "List", "items": items,
		"metadata": map[string]any{"resourceVersion": strconv.Itoa(a.version)},
	})
}

func belongs(path, collection, name string) bool {
	of, found := strings.CutPrefix(path, collection+"/")
	return found && (name == "" || of == name)
}

func (a *apiServer) watch(w http.ResponseWriter, r *http.Request, name string) {
	w.Header().Set("Content-Type", "application/json")
	_ = http.NewResponseController(w).Flush()
	seen, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	for {
		a.mu.Lock()
		changed := a.changed
		for _, e := range a.events {
			if e.version > seen && !a.dead && belongs(e.path, r.URL.Path, name) {
				_, _ = w.Write(e.line)
			}
		}
		seen = a.version
		a.mu.Unlock()
		_ = http.NewResponseController(w).Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func (a *apiServer) answerReview(w http.ResponseWriter, r *http.Request) {
	var review map[string]any
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		status(w, http.StatusBadRequest, "BadRequest")
		return
	}
	spec, _ := review["spec"].(map[string]any)
	review["status"] = a.review(spec)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(review)
}
