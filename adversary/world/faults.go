package world

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// drawConduct draws how the registry behaves: half of them are honest, the others spoil one answer or two.
func (w *World) drawConduct() {
	c := &w.conduct
	c.api, c.filters, c.pageSize, c.asked = w.chance(75), w.chance(75), pick(w, 0, 0, 1, 2, 3), map[string]int{}
	w.tell("referrers API %t, that filters %t, pages of %d", c.api, c.filters, c.pageSize)
	if w.chance(50) {
		return
	}
	for range 1 + w.random.IntN(2) {
		f := w.drawFault()
		f.nth = pick(w, -1, -1, 0, 1, 2, 3)
		if strings.Contains(f.name, "link ") || strings.Contains(f.name, "page ") {
			f.nth, c.api, c.pageSize = -1, true, pick(w, 1, 1, 2) // or else there is no second page
		}
		c.faults = append(c.faults, f)
		w.tell("fault: %s, of %q answers number %d", f.name, f.kind, f.nth)
	}
	w.Case.Subset = w.silent()
	w.Case.Lying = slices.ContainsFunc(c.faults, func(f *fault) bool { return f.name == nameForeign })
	w.Case.Roaming = slices.ContainsFunc(c.faults, func(f *fault) bool {
		return f.roams || strings.HasPrefix(f.name, "digest header")
	})
}

// silent tells that referrers may be kept back without a trace: a registry whose API is not there has none to tell of
// but what stands under the tag.
func (w *World) silent() bool {
	return slices.ContainsFunc(w.conduct.faults, func(f *fault) bool {
		switch f.name {
		case "status 400", "status 404", "status 405", "status 406", "status 410", "status 501", `body "null"`:
			return f.kind == "list" || f.kind == ""
		}
		return f.name == "entries left out" || f.name == "other types" || f.name == "entries that are all SBOMs" // and so no signatures
	})
}

func (w *World) drawFault() *fault {
	switch w.random.IntN(3) {
	case 0:
		return w.anyFault(pick(w, "", "resolve", "manifest", "blob", "list"))
	case 1:
		return w.listFault()
	}
	return w.contentFault()
}

// anyFault spoils answers of any kind.
func (w *World) anyFault(kind string) *fault {
	f := func(name string, spoil func(*Answer)) *fault { return &fault{name: name, kind: kind, spoil: spoil} }
	switch w.random.IntN(10) {
	case 0, 1:
		status := pick(w, 204, 206, 300, 304, 400, 401, 403, 404, 405, 406, 410, 416, 418, 429, 500, 501, 502, 503, 504)
		return f(fmt.Sprintf("status %d", status), func(a *Answer) {
			a.Header.Set("Retry-After", "0")
			a.fail(status, "FAULT")
			if status == 204 || status == 304 {
				a.Body = nil
			}
		})
	case 2:
		return f("cut", func(a *Answer) { a.cut = true })
	case 3:
		mediaType := pick(w, "text/html", "application/json", typeIndex, typeManifest, typeDocker, "", "application/json; charset=utf-8", "garbage;;;")
		return f("content type "+mediaType, func(a *Answer) { a.Header.Set("Content-Type", mediaType) })
	case 4:
		text := pick(w, "<html>sign in</html>", "[]", "null", "{", "\ufeff{}", strings.Repeat("[", 100000))
		return f(fmt.Sprintf("body %.10q", text), func(a *Answer) {
			if a.Status == http.StatusOK {
				a.Body = []byte(text)
				a.Header.Set("Content-Length", strconv.Itoa(len(text)))
			}
		})
	case 5:
		to := pick(w, "http://169.254.169.254/latest", "https://"+w.Name+".example/v2/", "http://127.0.0.1:1/", "http://[::1]:1/", "//other.example/", "/v2/", "file:///etc/passwd")
		status := pick(w, 301, 302, 303, 307, 308)
		return f(fmt.Sprintf("redirect %d to %s", status, to), func(a *Answer) {
			a.fail(status, "MOVED")
			a.Header.Set("Location", to)
		})
	case 6:
		return w.lyingHeader(f)
	case 7:
		return f("content encoding", func(a *Answer) {
			var packed bytes.Buffer
			zip := gzip.NewWriter(&packed)
			_, _ = zip.Write(a.Body)
			_ = zip.Close()
			a.Body = packed.Bytes()
			a.Header.Set("Content-Encoding", "gzip")
			a.Header.Set("Content-Length", strconv.Itoa(len(a.Body)))
		})
	case 8:
		return f("doubled body", func(a *Answer) {
			a.Body = append(a.Body, a.Body...)
			a.Header.Set("Content-Length", strconv.Itoa(len(a.Body)))
		})
	}
	more := w.random.IntN(60) - 30
	return f("wrong length", func(a *Answer) {
		a.Header.Set("Content-Length", strconv.Itoa(max(0, len(a.Body)+more)))
	})
}

// lyingHeader says another digest than that of the content.
func (w *World) lyingHeader(f func(string, func(*Answer)) *fault) *fault {
	other := pick(w, w.images...).subject.Digest
	digest := pick(w, other, other, Digest([]byte("nothing")), "sha256:short", "", "sha512:"+strings.Repeat("ab", 64), "../../etc")
	return f("digest header "+digest, func(a *Answer) {
		if digest == "" {
			a.Header.Del("Docker-Content-Digest")
			return
		}
		a.Header.Set("Docker-Content-Digest", digest)
	})
}

// contentFault gives something else in the place of what was asked for.
func (w *World) contentFault() *fault {
	other := pick(w, w.images...)
	switch w.random.IntN(4) {
	case 0:
		return &fault{name: "another image under every tag", kind: "resolve", roams: true, spoil: func(a *Answer) { a.swap(other) }}
	case 1:
		var turn atomic.Int64
		return &fault{name: "another image at every second look", kind: "resolve", roams: true, spoil: func(a *Answer) {
			if turn.Add(1)%2 == 0 {
				a.swap(other)
			}
		}}
	case 2:
		return &fault{name: "HEAD and GET differ", kind: "resolve", roams: true, spoil: func(a *Answer) {
			if a.Request.Method == http.MethodGet {
				a.swap(other)
			}
		}}
	}
	return &fault{name: "another content under a digest", kind: pick(w, "manifest", "blob"), spoil: func(a *Answer) {
		if a.Status == http.StatusOK && len(a.Body) > 0 {
			a.Body[len(a.Body)/2] ^= 1
		}
	}}
}

// swap gives an image of the same repository.
func (a *Answer) swap(other image) {
	if _, held := a.repository.Manifests[other.subject.Digest]; held {
		a.Status = http.StatusOK
		a.manifest(other.subject.Digest)
	}
}

// listFault spoils lists of referrers.
func (w *World) listFault() *fault {
	f := func(name string, spoil func(*Answer)) *fault { return &fault{name: name, kind: "list", spoil: spoil} }
	edit := func(name string, change func([]map[string]any) []map[string]any) *fault {
		return f(name, func(a *Answer) {
			if a.Status == http.StatusOK {
				link := a.Header.Get("Link")
				a.list(change(a.entries()), strings.Contains(a.Request.URL.Path, "sha256-"))
				if link != "" {
					a.Header.Set("Link", link)
				}
			}
		})
	}
	each := func(name string, change func(map[string]any)) *fault {
		return edit(name, func(entries []map[string]any) []map[string]any {
			for _, entry := range entries {
				change(entry)
			}
			return entries
		})
	}
	switch w.random.IntN(12) {
	case 0:
		return each("entries of a wrong size", func(e map[string]any) { e["size"] = 1 })
	case 1:
		mediaType := pick(w, typeIndex, typeDocker, "", "text/html")
		return each("entries of a wrong media type", func(e map[string]any) { e["mediaType"] = mediaType })
	case 2:
		return each("entries that are all SBOMs", func(e map[string]any) { e["artifactType"] = typeSBOM })
	case 3:
		return each("other types", func(e map[string]any) { e["artifactType"] = typeScan })
	case 4:
		return edit("entries doubled", func(e []map[string]any) []map[string]any { return append(e, e...) })
	case 5:
		return edit("entries left out", func(e []map[string]any) []map[string]any { return e[:len(e)/2] })
	case 6:
		junk := map[string]any{"mediaType": typeManifest, "digest": pick(w, Digest([]byte("absent")), "", "sha256:x", "../../x"), "size": 3, "artifactType": pick(w, typeNotation, typeSBOM)}
		return edit("junk entries", func(e []map[string]any) []map[string]any { return append([]map[string]any{junk}, e...) })
	case 7:
		return w.foreignEntries(edit)
	}
	return w.linkFault(f)
}

const nameForeign = "entries of other images"

// foreignEntries lists what refers to other images.
func (w *World) foreignEntries(edit func(string, func([]map[string]any) []map[string]any) *fault) *fault {
	var foreign []map[string]any
	for _, digests := range w.lists[w.images[0].repository] {
		foreign = append(foreign, digests...)
	}
	return edit(nameForeign, func(e []map[string]any) []map[string]any { return append(e, foreign...) })
}

// linkFault spoils the pages of lists.
func (w *World) linkFault(f func(string, func(*Answer)) *fault) *fault {
	next := func(a *Answer) string {
		link, _, _ := strings.Cut(strings.TrimPrefix(a.Header.Get("Link"), "<"), ">")
		return link
	}
	relink := func(name, format string) *fault {
		return f("link "+name, func(a *Answer) {
			if link := next(a); link != "" {
				a.Header["Link"] = strings.Split(strings.Replace(strings.ReplaceAll(format, "HOST", a.Request.Host), "NEXT", link, 1), "|")
			}
		})
	}
	switch w.random.IntN(14) {
	case 0:
		return relink("absolute", `<http://HOSTNEXT>; rel="next"`)
	case 1:
		return relink("elsewhere", `<http://other.exampleNEXT>; rel="next"`)
	case 2:
		return relink("in the second line", `</v2/>; rel="prev"|<NEXT>; rel="next"`)
	case 3:
		return relink("behind another", `</v2/>; rel="first", <NEXT>; rel="next"`)
	case 4:
		return relink("unquoted", `<NEXT>; rel=next`)
	case 5:
		return relink("of two relations", `<NEXT>; rel="last next"`)
	case 6:
		return relink("with other parameters", `<NEXT>; title="a, b; rel=prev"; rel="next"`)
	case 7:
		return relink("in capitals", `<NEXT>; REL="NEXT"`)
	case 8:
		return relink("to metadata", `<http://169.254.169.254NEXT>; rel="next"`)
	case 9:
		return f("link to itself", func(a *Answer) {
			a.Header.Set("Link", fmt.Sprintf(`<%s>; rel="next"`, a.Request.URL.RequestURI()))
		})
	}
	return w.lostPage(f)
}

// lostPage answers for the second page with something that is none.
func (w *World) lostPage(f func(string, func(*Answer)) *fault) *fault {
	status := pick(w, 200, 404, 404, 400, 403, 500, 204)
	mediaType := pick(w, "text/html", "application/json", typeIndex)
	return f(fmt.Sprintf("second page is %d of %s", status, mediaType), func(a *Answer) {
		if !a.Request.URL.Query().Has("from") {
			return
		}
		a.fail(status, "NOT_FOUND")
		a.Header.Set("Retry-After", "0")
		a.Header.Set("Content-Type", mediaType)
		a.Header.Del("Link")
		if status == http.StatusNoContent {
			a.Body = nil
		}
	})
}
