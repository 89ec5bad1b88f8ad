package registrytest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxManifest bounds a pushed manifest in bytes; clients stop at 4 MiB.
const maxManifest = 8 << 20

// repairReferrers makes a registry's referrers what the specification wants.
// A list gives as artifact type the manifest's artifactType, and the media type
// of its config only in the absence of that; it is sorted by digest, because
// pages need an order that lasts. And a push of a manifest with a subject is
// answered with OCI-Subject: without it, clients keep the fallback tag as well.
// https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers
// https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests-with-subject
func repairReferrers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, _, isReferrers := splitReferrers(r.URL.Path); isReferrers {
			listReferrers(w, r, name, next)
			return
		}
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			pushManifest(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func listReferrers(w http.ResponseWriter, r *http.Request, name string, next http.Handler) {
	answer := record(next, r)
	editIndex(answer, func(index *ocispec.Index) {
		for i, referrer := range index.Manifests {
			if artifactType := declaredType(next, r, name, referrer); artifactType != "" {
				index.Manifests[i].ArtifactType = artifactType
			}
		}
		slices.SortFunc(index.Manifests, func(a, b ocispec.Descriptor) int {
			return strings.Compare(string(a.Digest), string(b.Digest))
		})
	})
	answer.replay(w)
}

func pushManifest(w http.ResponseWriter, r *http.Request, next http.Handler) {
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxManifest))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(content))
	var manifest struct {
		Subject *ocispec.Descriptor `json:"subject"`
	}
	if json.Unmarshal(content, &manifest) == nil && manifest.Subject != nil {
		w.Header().Set("OCI-Subject", string(manifest.Subject.Digest))
	}
	next.ServeHTTP(w, r)
}

// declaredType asks the registry for the artifactType that a manifest itself
// declares, and returns nothing where it declares none.
func declaredType(registry http.Handler, r *http.Request, name string, manifest ocispec.Descriptor) string {
	get := r.Clone(r.Context())
	get.Method, get.Body = http.MethodGet, http.NoBody
	get.URL.Path = "/v2/" + name + "/manifests/" + string(manifest.Digest)
	var declared struct {
		ArtifactType string `json:"artifactType"`
	}
	if json.Unmarshal(record(registry, get).body.Bytes(), &declared) != nil {
		return ""
	}
	return declared.ArtifactType
}

// splitReferrers takes /v2/<name>/referrers/<digest> apart.
func splitReferrers(path string) (name, digest string, isReferrers bool) {
	rest, isV2 := strings.CutPrefix(path, "/v2/")
	name, digest, found := strings.Cut(rest, "/referrers/")
	return name, digest, isV2 && found
}

// editIndex changes the image index in an answer. An answer that is none stays
// as it is.
func editIndex(answer *answer, edit func(*ocispec.Index)) {
	var index ocispec.Index
	if answer.status != http.StatusOK || json.Unmarshal(answer.body.Bytes(), &index) != nil {
		return
	}
	edit(&index)
	encoded, err := json.Marshal(index)
	if err != nil {
		return
	}
	answer.setBody(encoded)
}

// answer is the response of a handler, held back to be changed.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

// record lets a handler answer a request into memory.
func record(handler http.Handler, r *http.Request) *answer {
	a := &answer{header: http.Header{}}
	handler.ServeHTTP(a, r)
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

func (a *answer) setBody(body []byte) {
	a.body.Reset()
	a.body.Write(body)
	a.header.Set("Content-Length", strconv.Itoa(len(body)))
}

// replay sends the answer. A caller that is gone is no concern of ours.
func (a *answer) replay(w http.ResponseWriter) {
	for key, values := range a.header {
		w.Header()[key] = values
	}
	w.WriteHeader(a.status)
	_, _ = io.Copy(w, &a.body)
}
