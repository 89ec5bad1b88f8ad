package kube

import (
	"encoding/json"
	"maps"
	"net/http"
	"path"
	"strconv"
	"strings"
	"testing"
)

// isObject tells the path of an object from that of a collection.
func isObject(urlPath string) bool {
	_, collection := apiOf(path.Dir(urlPath))
	return collection != ""
}

// get answers with one object.
func (a *apiServer) get(w http.ResponseWriter, urlPath string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	object, known := a.objects[urlPath]
	if !known {
		status(w, http.StatusNotFound, "NotFound")
		return
	}
	send(w, http.StatusOK, object)
}

// create stores a new object; one that is there already is a conflict of its own kind.
func (a *apiServer) create(w http.ResponseWriter, r *http.Request) {
	object, metadata, ok := readObject(w, r)
	if !ok {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	at := r.URL.Path + "/" + metadata["name"].(string)
	if _, known := a.objects[at]; known {
		status(w, http.StatusConflict, "AlreadyExists")
		return
	}
	a.store("ADDED", at, object, metadata)
	send(w, http.StatusCreated, a.objects[at])
}

// update replaces an object. One that was made from another version is a conflict.
func (a *apiServer) update(w http.ResponseWriter, r *http.Request) {
	object, metadata, ok := readObject(w, r)
	if !ok {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	have, known := a.objects[r.URL.Path]
	if !known {
		status(w, http.StatusNotFound, "NotFound")
		return
	}
	stored, _ := have["metadata"].(map[string]any)
	if metadata["resourceVersion"] != nil && metadata["resourceVersion"] != stored["resourceVersion"] {
		status(w, http.StatusConflict, "Conflict")
		return
	}
	a.store("MODIFIED", r.URL.Path, object, metadata)
	send(w, http.StatusOK, a.objects[r.URL.Path])
}

func readObject(w http.ResponseWriter, r *http.Request) (object, metadata map[string]any, ok bool) {
	if json.NewDecoder(r.Body).Decode(&object) == nil {
		if metadata, ok = object["metadata"].(map[string]any); ok {
			return object, maps.Clone(metadata), true
		}
	}
	status(w, http.StatusBadRequest, "BadRequest")
	return nil, nil, false
}

// store is called with the lock held.
func (a *apiServer) store(kind, at string, object, metadata map[string]any) {
	a.version++
	metadata["resourceVersion"] = strconv.Itoa(a.version)
	object["metadata"] = metadata
	a.objects[at] = object
	a.written++
	a.tell(kind, at, object)
}

func send(w http.ResponseWriter, code int, object map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object)
}

// change edits an object as another client would; the object is a copy.
func (a *apiServer) change(t *testing.T, at string, edit func(object, metadata map[string]any)) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	var object map[string]any
	text, err := json.Marshal(a.objects[at])
	if err == nil {
		err = json.Unmarshal(text, &object)
	}
	if err != nil || object == nil {
		t.Fatalf("%s: %v", at, err)
	}
	metadata := object["metadata"].(map[string]any)
	edit(object, metadata)
	a.store("MODIFIED", at, object, metadata)
}

// objectsUnder gives what is stored below a path, in no order.
func (a *apiServer) objectsUnder(prefix string) []map[string]any {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []map[string]any
	for at, object := range a.objects {
		if strings.HasPrefix(at, prefix+"/") {
			all = append(all, object)
		}
	}
	return all
}

// refusesUnder lets nothing be created in a collection from now on; "" for no longer.
func (a *apiServer) refusesUnder(collection string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = collection
}
