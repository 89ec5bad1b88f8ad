package world

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/nirmata/kyverno-notation-venafi/adversary/oracle"
)

// conduct is how a registry behaves.
type conduct struct {
	api      bool // it has the referrers API
	filters  bool // by artifact type, as it is asked to
	pageSize int  // 0 for one page
	faults   []*fault

	mu    sync.Mutex
	asked map[string]int // by path
}

// fault spoils the answers of one kind.
type fault struct {
	name  string
	kind  string // resolve, manifest, blob, list; "" for all
	nth   int    // of the answers of that kind, from 0; -1 for all
	roams bool   // a tag may come to be any image of its repository
	spoil func(*Answer)

	mu   sync.Mutex
	seen int
}

// Answer is one under way.
type Answer struct {
	Status  int
	Header  http.Header
	Body    []byte
	Request *http.Request

	cut        bool // the connection breaks in the middle of it
	kind       string
	repository *oracle.Repository
}

// apply spoils an answer if it is one of those that the fault is for; one at a time, so that it may count them.
func (f *fault) apply(a *Answer) {
	if f.kind != "" && f.kind != a.kind {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen++
	if f.nth < 0 || f.nth == f.seen-1 {
		f.spoil(a)
	}
}

// ServeHTTP answers as a registry, which need not be the world's only one: the host says which.
func (w *World) ServeHTTP(to http.ResponseWriter, request *http.Request) {
	a := &Answer{Status: http.StatusOK, Header: http.Header{}, Request: request}
	w.answer(a)
	for _, fault := range w.conduct.faults {
		fault.apply(a)
	}
	a.send(to)
}

func (a *Answer) send(to http.ResponseWriter) {
	for name, values := range a.Header {
		to.Header()[name] = values
	}
	if to.Header().Get("Content-Length") == "" && a.Request.Method != http.MethodHead {
		to.Header().Set("Content-Length", strconv.Itoa(len(a.Body)))
	}
	to.WriteHeader(a.Status)
	if a.Request.Method == http.MethodHead {
		return
	}
	if !a.cut {
		_, _ = to.Write(a.Body) // fails if the caller is gone, or was told another length
		return
	}
	_, _ = to.Write(a.Body[:len(a.Body)/2])
	_ = http.NewResponseController(to).Flush()
	panic(http.ErrAbortHandler)
}

// answer gives the true answer.
func (w *World) answer(a *Answer) {
	name, kind, rest := splitPath(a.Request.URL.Path)
	canonical := oracle.CanonicalName(a.Request.Host + "/" + name)
	a.repository = w.Case.Registry[canonical]
	a.kind = kind
	if a.repository == nil {
		a.fail(http.StatusNotFound, "NAME_UNKNOWN")
		return
	}
	switch kind {
	case "resolve":
		w.answerTag(a, canonical, rest)
	case "manifest":
		a.manifest(rest)
	case "blob":
		blob, held := a.repository.Blobs[rest]
		if !held {
			a.fail(http.StatusNotFound, "BLOB_UNKNOWN")
			return
		}
		a.give("application/octet-stream", rest, blob)
	case "list":
		w.answerList(a, canonical, rest)
	default:
		a.fail(http.StatusNotFound, "UNSUPPORTED")
	}
}

func (a *Answer) fail(status int, code string) {
	a.Status = status
	a.Header.Set("Content-Type", "application/json")
	a.Body = fmt.Appendf(nil, `{"errors":[{"code":%q,"message":"no"}]}`, code)
}

func (a *Answer) give(mediaType, digest string, content []byte) {
	a.Header.Set("Content-Type", mediaType)
	if digest != "" {
		a.Header.Set("Docker-Content-Digest", digest)
	}
	a.Body = slices.Clone(content)
	if a.Request.Method == http.MethodHead {
		a.Header.Set("Content-Length", strconv.Itoa(len(content)))
	}
}

func (a *Answer) manifest(digest string) {
	manifest, held := a.repository.Manifests[digest]
	if !held {
		a.fail(http.StatusNotFound, "MANIFEST_UNKNOWN")
		return
	}
	a.give(manifest.MediaType, digest, manifest.Content)
}

// splitPath takes a path of the distribution API apart.
func splitPath(path string) (name, kind, rest string) {
	path = strings.TrimPrefix(path, "/v2/")
	for part, kind := range map[string]string{"/manifests/": "manifest", "/blobs/": "blob", "/referrers/": "list"} {
		if at := strings.LastIndex(path, part); at >= 0 {
			name, rest = path[:at], path[at+len(part):]
			switch {
			case kind == "manifest" && strings.HasPrefix(rest, "sha256-"):
				kind = "list"
			case kind == "manifest" && !strings.Contains(rest, ":"):
				kind = "resolve"
			}
			return name, kind, rest
		}
	}
	return path, "", ""
}

// answerTag gives what a tag is now. Where it was another before, it changes after the first answer.
func (w *World) answerTag(a *Answer, repository, tag string) {
	w.conduct.mu.Lock()
	digests := a.repository.Tags[tag]
	n := w.conduct.asked[repository+":"+tag]
	w.conduct.asked[repository+":"+tag]++
	w.conduct.mu.Unlock()
	if len(digests) == 0 {
		a.fail(http.StatusNotFound, "MANIFEST_UNKNOWN")
		return
	}
	a.manifest(digests[min(n, len(digests)-1)])
}

// answerList gives the referrers, by the API or by the fallback tag.
func (w *World) answerList(a *Answer, repository, rest string) {
	byTag := strings.HasPrefix(rest, "sha256-")
	if byTag == w.conduct.api {
		a.fail(http.StatusNotFound, "MANIFEST_UNKNOWN")
		return
	}
	list := w.lists[repository][strings.Replace(rest, "sha256-", "sha256:", 1)]
	if byTag && len(list) == 0 {
		a.fail(http.StatusNotFound, "MANIFEST_UNKNOWN")
		return
	}
	query := a.Request.URL.Query()
	if wanted := query.Get("artifactType"); wanted != "" && w.conduct.filters {
		list = slices.DeleteFunc(slices.Clone(list), func(e map[string]any) bool { return e["artifactType"] != wanted })
		a.Header.Set("OCI-Filters-Applied", "artifactType")
	}
	from, _ := strconv.Atoi(query.Get("from"))
	list = list[min(max(from, 0), len(list)):]
	if size := w.conduct.pageSize; !byTag && size > 0 && len(list) > size {
		list = list[:size]
		query.Set("from", strconv.Itoa(from+size))
		a.Header.Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, a.Request.URL.Path, query.Encode()))
	}
	a.list(list, byTag)
}

// list writes an index.
func (a *Answer) list(entries []map[string]any, withDigest bool) {
	if entries == nil {
		entries = []map[string]any{}
	}
	text, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": entries})
	if err != nil {
		a.fail(http.StatusInternalServerError, "UNKNOWN")
		return
	}
	digest := ""
	if withDigest {
		digest = Digest(text)
	}
	a.give(typeIndex, digest, text)
}

// entries reads back what list wrote.
func (a *Answer) entries() []map[string]any {
	var index struct {
		Manifests []map[string]any `json:"manifests"`
	}
	_ = json.Unmarshal(a.Body, &index)
	return index.Manifests
}
