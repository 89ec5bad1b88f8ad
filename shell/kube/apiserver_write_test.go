package kube

import (
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"strings"
)

// patchStatus answers merge patches of statuses, and of the data of ConfigMaps. One that names another version than the object's is a conflict.
func (a *apiServer) patchStatus(w http.ResponseWriter, r *http.Request) {
	var patch map[string]any
	if err := json.NewDecoder(r.Body).Decode(&patch); err != nil {
		status(w, http.StatusBadRequest, "BadRequest")
		return
	}
	path := strings.TrimSuffix(r.URL.Path, "/status")
	asked, _ := patch["metadata"].(map[string]any)
	a.mu.Lock()
	defer a.mu.Unlock()
	object, known := a.objects[path]
	metadata, _ := object["metadata"].(map[string]any)
	switch {
	case !known:
		status(w, http.StatusNotFound, "NotFound")
		return
	case a.denied == path:
		status(w, http.StatusUnprocessableEntity, "Invalid")
		return
	case asked["resourceVersion"] != nil && asked["resourceVersion"] != metadata["resourceVersion"]:
		status(w, http.StatusConflict, "Conflict")
		return
	}
	a.version++
	object, metadata = maps.Clone(object), maps.Clone(metadata)
	metadata["resourceVersion"] = strconv.Itoa(a.version)
	object["metadata"] = metadata
	for _, part := range []string{"status", "data"} {
		if patch[part] != nil {
			object[part] = merge(object[part], patch[part])
		}
	}
	a.objects[path] = object
	a.written++
	a.tell("MODIFIED", path, object)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(object)
}

// merge applies a JSON merge patch (RFC 7386).
func merge(into, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	fields, _ := into.(map[string]any)
	merged := map[string]any{}
	maps.Copy(merged, fields)
	for name, value := range changes {
		if value == nil {
			delete(merged, name)
			continue
		}
		merged[name] = merge(merged[name], value)
	}
	return merged
}

// writes counts the accepted ones.
func (a *apiServer) writes() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.written
}

// denies refuses to write the status of an object from now on; "" no longer.
func (a *apiServer) denies(path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.denied = path
}
