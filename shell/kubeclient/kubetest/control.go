package kubetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"testing"
)

// Put creates or changes an object, given as JSON, of a collection. Its status stays where none is given.
func (s *Server) Put(collection, name, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	object := Object{}
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		panic(fmt.Sprintf("%s is no object: %v", text, err))
	}
	at := collection + "/" + name
	before, known := s.objects[at]
	if status, ok := before["status"]; ok && object["status"] == nil {
		object["status"] = status
	}
	s.store(map[bool]string{false: "ADDED", true: "MODIFIED"}[known], at, object, Object{"name": name, "generation": s.version + 1})
}

// Remove deletes an object by its path.
func (s *Server) Remove(at string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	object := s.objects[at]
	delete(s.objects, at)
	s.version++
	s.publish("DELETED", at, object)
}

// Change edits a copy of an object and stores it, as another client would.
func (s *Server) Change(t *testing.T, at string, edit func(object, metadata Object)) {
	t.Helper()
	object := s.Object(at)
	metadata, ok := object["metadata"].(Object)
	if !ok {
		t.Fatalf("%s does not exist", at)
	}
	edit(object, metadata)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store("MODIFIED", at, object, metadata)
}

// Object gives a copy of an object; nil where there is none.
func (s *Server) Object(at string) Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	object, known := s.objects[at]
	if !known {
		return nil
	}
	var copied Object
	if err := json.Unmarshal(encode(object), &copied); err != nil {
		panic(fmt.Sprintf("%s cannot be copied: %v", at, err))
	}
	return copied
}

// Names gives the names of a collection's objects, sorted.
func (s *Server) Names(collection string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for at := range maps.Keys(s.objects) {
		if belongs(at, collection, "") {
			names = append(names, path.Base(at))
		}
	}
	slices.Sort(names)
	return names
}

// Requests gives the paths of all reads so far, each with its field selector behind a question mark.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Writes counts the objects and statuses that clients wrote.
func (s *Server) Writes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes
}

// Refuse answers every request with a status from now on; 0 ends that.
func (s *Server) Refuse(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = code
}

// RefuseObject answers every request for one object with a status from now on.
func (s *Server) RefuseObject(at string, code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noObject, s.noObjectCode = at, code
}

// RefuseStatus lets the status of one object not be written from now on; "" ends that.
func (s *Server) RefuseStatus(at string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noStatus = at
}

// RefuseCreate lets nothing be created in a collection from now on; "" ends that.
func (s *Server) RefuseCreate(collection string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noCreate = collection
}

// MuteWatches lets watches see no changes from now on, as over a connection that is broken unnoticed.
func (s *Server) MuteWatches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = true
}

// FallBehind lets lists of a collection that ask for any version give its present state from now on, whatever changes.
func (s *Server) FallBehind(collection string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale[collection] = s.listed(collection, "")
}

// SecretJSON is a Secret of a type with some values.
func SecretJSON(kind string, data map[string]string) string {
	encoded := map[string][]byte{}
	for key, value := range data {
		encoded[key] = []byte(value)
	}
	return string(encode(Object{"type": kind, "data": encoded}))
}

// PolicyJSON is a TrustPolicy for all images, of one trust store.
func PolicyJSON(name, store string) string {
	return fmt.Sprintf(`{"spec":{"version":"1.0","trustPolicyName":%q,"trustPolicies":[{"name":"all","registryScopes":["*"],
		"signatureVerification":{"level":"strict"},"trustStores":["ca:%s"],"trustedIdentities":["*"]}]}}`, name, store)
}

// StoreJSON is a TrustStore of CAs, PEM.
func StoreJSON(name string, pem []byte) string {
	return string(encode(Object{"spec": Object{"trustStoreName": name, "type": "ca", "caBundle": string(pem)}}))
}
