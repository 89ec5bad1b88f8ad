package kubetest

import (
	"encoding/json"
	"maps"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// isObject tells the path of an object from that of a collection.
func isObject(urlPath string) bool {
	_, collection := apiOf(path.Dir(urlPath))
	return collection != ""
}

// get answers with one object.
func (s *Server) get(w http.ResponseWriter, at string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	object, known := s.objects[at]
	if !known {
		fail(w, http.StatusNotFound, "NotFound")
		return
	}
	send(w, http.StatusOK, object)
}

// create stores a new object. One of a name that exists is a conflict of its own kind.
func (s *Server) create(w http.ResponseWriter, r *http.Request) {
	object, metadata, ok := readObject(w, r)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name, _ := metadata["name"].(string)
	at := r.URL.Path + "/" + name
	if _, known := s.objects[at]; known {
		fail(w, http.StatusConflict, "AlreadyExists")
		return
	}
	s.store("ADDED", at, object, metadata)
	s.writes++
	send(w, http.StatusCreated, s.objects[at])
}

// update replaces an object. One that was made from another version is a conflict.
func (s *Server) update(w http.ResponseWriter, r *http.Request) {
	object, metadata, ok := readObject(w, r)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	have, known := s.objects[r.URL.Path]
	switch {
	case !known:
		fail(w, http.StatusNotFound, "NotFound")
	case conflicts(metadata, have):
		fail(w, http.StatusConflict, "Conflict")
	default:
		s.store("MODIFIED", r.URL.Path, object, metadata)
		s.writes++
		send(w, http.StatusOK, s.objects[r.URL.Path])
	}
}

// conflicts reports whether metadata name another version than that of an object.
func conflicts(metadata, object Object) bool {
	stored, _ := object["metadata"].(Object)
	return metadata["resourceVersion"] != nil && metadata["resourceVersion"] != stored["resourceVersion"]
}

// patch applies a merge patch to an object's status, data or series. One that names another version than the object's is a conflict.
func (s *Server) patch(w http.ResponseWriter, r *http.Request) {
	var patch Object
	if err := json.NewDecoder(r.Body).Decode(&patch); err != nil {
		fail(w, http.StatusBadRequest, "BadRequest")
		return
	}
	at := strings.TrimSuffix(r.URL.Path, "/status")
	asked, _ := patch["metadata"].(Object)
	s.mu.Lock()
	defer s.mu.Unlock()
	have, known := s.objects[at]
	switch {
	case !known:
		fail(w, http.StatusNotFound, "NotFound")
	case s.noStatus == at:
		fail(w, http.StatusUnprocessableEntity, "Invalid")
	case conflicts(asked, have):
		fail(w, http.StatusConflict, "Conflict")
	default:
		metadata, _ := have["metadata"].(Object)
		object := maps.Clone(have)
		for _, part := range []string{"status", "data", "series"} {
			if patch[part] != nil {
				object[part] = merge(object[part], patch[part])
			}
		}
		s.store("MODIFIED", at, object, maps.Clone(metadata))
		s.writes++
		send(w, http.StatusOK, s.objects[at])
	}
}

// merge applies a JSON merge patch (RFC 7386).
func merge(into, patch any) any {
	changes, ok := patch.(Object)
	if !ok {
		return patch
	}
	fields, _ := into.(Object)
	merged := Object{}
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

func readObject(w http.ResponseWriter, r *http.Request) (object, metadata Object, ok bool) {
	if object, err := decode(r); err == nil {
		if metadata, ok = object["metadata"].(Object); ok {
			return object, maps.Clone(metadata), true
		}
	}
	fail(w, http.StatusBadRequest, "BadRequest")
	return nil, nil, false
}

// store sets an object, as a new version, and tells the watches. It is called with the lock held.
func (s *Server) store(kind, at string, object, metadata Object) {
	s.version++
	metadata["resourceVersion"] = strconv.Itoa(s.version)
	object["metadata"] = metadata
	object["apiVersion"], object["kind"] = apiOf(path.Dir(at))
	s.objects[at] = object
	s.publish(kind, at, object)
}

func (s *Server) publish(kind, at string, object Object) {
	s.changes = append(s.changes, change{s.version, at, append(encode(Object{"type": kind, "object": object}), '\n')})
	close(s.changed)
	s.changed = make(chan struct{})
}
