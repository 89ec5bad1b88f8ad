package registrytest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Fault stands between the network and the registry: it answers a request
// itself, or hands it to next and changes the answer. Faults combine:
//
//	Only(PathContains("/referrers/"), FailTimes(1, http.StatusBadGateway, nil))
//	Chain(PageReferrers(2), Delay(time.Second))
type Fault func(w http.ResponseWriter, r *http.Request, next http.Handler)

// Chain lets each fault see the request after the one before it.
func Chain(faults ...Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		for _, fault := range slices.Backward(faults) {
			next = faulty(fault, next)
		}
		next.ServeHTTP(w, r)
	}
}

func faulty(fault Fault, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fault(w, r, next) })
}

// Only applies a fault to the requests that match; the others pass by it.
func Only(match func(*http.Request) bool, fault Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if match(r) {
			fault(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}
}

// PathContains matches requests by a part of their path, such as a digest,
// "/referrers/" or TokenPath.
func PathContains(part string) func(*http.Request) bool {
	return func(r *http.Request) bool { return strings.Contains(r.URL.Path, part) }
}

// Method matches requests by their method.
func Method(method string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Method == method }
}

// All matches requests that every matcher matches.
func All(matchers ...func(*http.Request) bool) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return !slices.ContainsFunc(matchers, func(match func(*http.Request) bool) bool { return !match(r) })
	}
}

// LaterPage matches requests for the second and further pages of a list of referrers that PageReferrers made.
func LaterPage(r *http.Request) bool {
	_, _, isReferrers := splitReferrers(r.URL.Path)
	return isReferrers && r.URL.Query().Has("last")
}

// Answer answers without asking the registry.
func Answer(status int, header http.Header, body string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for key, values := range header {
			w.Header()[http.CanonicalHeaderKey(key)] = values
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // fails if the caller is gone
	}
}

// EditHeader changes the header of every answer.
func EditHeader(edit func(http.Header)) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := record(next, r)
		edit(answer.header)
		answer.replay(w)
	}
}

// EditReferrers changes the lists of referrers, by the referrers API and by the fallback tag, whose digest is then that
// of the changed list.
func EditReferrers(edit func(*ocispec.Index)) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		_, _, isReferrers := splitReferrers(r.URL.Path)
		if !isReferrers && !strings.Contains(r.URL.Path, "/manifests/sha256-") {
			next.ServeHTTP(w, r)
			return
		}
		answer := record(next, r)
		editIndex(answer, edit)
		if answer.header.Get("Docker-Content-Digest") != "" {
			answer.header.Set("Docker-Content-Digest", digest.FromBytes(answer.body.Bytes()).String())
		}
		answer.replay(w)
	}
}

// Pack compresses every answer, as careless proxies do, whatever the caller accepts.
func Pack(w http.ResponseWriter, r *http.Request, next http.Handler) {
	answer := record(next, r)
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	_, _ = writer.Write(answer.body.Bytes()) // into memory
	_ = writer.Close()
	answer.setBody(packed.Bytes())
	answer.header.Set("Content-Encoding", "gzip")
	if r.Method == http.MethodHead {
		answer.header.Del("Content-Length")
	}
	answer.replay(w)
}

// CutShort sends half of every body as if it were all of it.
func CutShort(w http.ResponseWriter, r *http.Request, next http.Handler) {
	answer := record(next, r)
	if r.Method != http.MethodHead {
		answer.setBody(answer.body.Bytes()[:answer.body.Len()/2])
	}
	answer.replay(w)
}

// EndEarly sends half of every body in chunks, and closes the connection without the last one.
func EndEarly(w http.ResponseWriter, r *http.Request, next http.Handler) {
	answer := record(next, r)
	answer.header.Del("Content-Length")
	answer.body.Truncate(answer.body.Len() / 2)
	answer.replay(w)
	_ = http.NewResponseController(w).Flush() // fails if the caller is gone
	panic(http.ErrAbortHandler)
}

// FailTimes answers the first n requests with a status and headers, such as
// 429 with Retry-After. A negative n fails for ever.
func FailTimes(n int, status int, header http.Header) Fault {
	var seen atomic.Int64
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if n >= 0 && seen.Add(1) > int64(n) {
			next.ServeHTTP(w, r)
			return
		}
		for key, values := range header {
			w.Header()[http.CanonicalHeaderKey(key)] = values
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"errors":[{"code":"FAULT","message":%q}]}`, http.StatusText(status))
	}
}

// Delay answers after d, or never if the caller goes away or the registry
// closes before.
func Delay(d time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
}

// WrongDigest answers HEAD and GET of one manifest, by the path
// "/v2/<name>/manifests/<tag>", with the digest of something else in
// Docker-Content-Digest.
func WrongDigest(tagPath string) Fault {
	match := func(r *http.Request) bool { return r.URL.Path == tagPath }
	return Only(match, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := record(next, r)
		answer.header.Set("Docker-Content-Digest", digest.FromString("a lie").String())
		answer.replay(w)
	})
}

// SwapBlob answers GET of a digest, be it a blob or a manifest, with other
// bytes than those it is the digest of.
func SwapBlob(digest string, other []byte) Fault {
	match := func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/"+digest)
	}
	return Only(match, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := record(next, r)
		answer.setBody(other)
		answer.replay(w)
	})
}

// Truncate announces the whole body, sends half of it and closes the
// connection.
func Truncate(w http.ResponseWriter, r *http.Request, next http.Handler) {
	answer := record(next, r)
	answer.header.Set("Content-Length", strconv.Itoa(answer.body.Len()))
	answer.body.Truncate(answer.body.Len() / 2)
	answer.replay(w)
	_ = http.NewResponseController(w).Flush() // fails if the caller is gone
	panic(http.ErrAbortHandler)
}

// Down closes every connection without an answer.
func Down(http.ResponseWriter, *http.Request, http.Handler) {
	panic(http.ErrAbortHandler)
}

// EndlessReferrers adds to every page of referrers the link to another one,
// which is the same again.
func EndlessReferrers(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if _, _, isReferrers := splitReferrers(r.URL.Path); !isReferrers {
		next.ServeHTTP(w, r)
		return
	}
	query := r.URL.Query()
	page, _ := strconv.Atoi(query.Get("page"))
	query.Set("page", strconv.Itoa(page+1))
	answer := record(next, r)
	setNextLink(answer.header, r.URL.Path, query)
	answer.replay(w)
}

// PageReferrers serves the referrers in pages of n, as large registries do.
// https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers
func PageReferrers(n int) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if _, _, isReferrers := splitReferrers(r.URL.Path); !isReferrers {
			next.ServeHTTP(w, r)
			return
		}
		answer := record(next, r)
		editIndex(answer, func(index *ocispec.Index) {
			page, last := pageAfter(index.Manifests, r.URL.Query().Get("last"), n)
			index.Manifests = page
			if last != "" {
				query := r.URL.Query()
				query.Set("last", last)
				setNextLink(answer.header, r.URL.Path, query)
			}
		})
		answer.replay(w)
	}
}

// pageAfter returns up to n descriptors after the one with the digest previous
// (from the first, if that is empty), and the digest of the last of them if
// more follow.
func pageAfter(all []ocispec.Descriptor, previous string, n int) (page []ocispec.Descriptor, last string) {
	start := 0
	if previous != "" {
		start = 1 + slices.IndexFunc(all, func(d ocispec.Descriptor) bool { return string(d.Digest) == previous })
	}
	end := min(start+n, len(all))
	page = all[start:end]
	if end < len(all) && len(page) > 0 {
		last = string(page[len(page)-1].Digest)
	}
	return page, last
}

// setNextLink names the next page, RFC 8288.
func setNextLink(header http.Header, path string, query url.Values) {
	header.Set("Link", fmt.Sprintf("<%s?%s>; rel=\"next\"", path, query.Encode()))
}

// Stall sends the header of the answer, half of its body, and then nothing
// until the caller goes away or the registry closes.
func Stall(w http.ResponseWriter, r *http.Request, next http.Handler) {
	answer := record(next, r)
	answer.header.Set("Content-Length", strconv.Itoa(answer.body.Len()))
	answer.body.Truncate(answer.body.Len() / 2)
	answer.replay(w)
	_ = http.NewResponseController(w).Flush() // fails if the caller is gone
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// Trickle sends the body one byte at a time, with a pause before each.
func Trickle(pause time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := record(next, r)
		body := bytes.Clone(answer.body.Bytes())
		answer.body.Reset()
		answer.replay(w)
		ticker := time.NewTicker(pause)
		defer ticker.Stop()
		for i := range body {
			select {
			case <-ticker.C:
			case <-r.Context().Done():
				panic(http.ErrAbortHandler)
			}
			_, _ = w.Write(body[i : i+1]) // fails if the caller is gone
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// SwapBody answers with another body, and with header fields beside or instead
// of those of the answer.
func SwapBody(body []byte, header http.Header) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := record(next, r)
		answer.setBody(body)
		for key, values := range header {
			answer.header[http.CanonicalHeaderKey(key)] = values
		}
		answer.replay(w)
	}
}

// AddHeader adds header fields to every answer.
func AddHeader(header http.Header) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		for key, values := range header {
			w.Header()[http.CanonicalHeaderKey(key)] = values
		}
		next.ServeHTTP(w, r)
	}
}

// SelfLink makes every page of referrers name itself as the next one.
func SelfLink(w http.ResponseWriter, r *http.Request, next http.Handler) {
	answer := record(next, r)
	if _, _, isReferrers := splitReferrers(r.URL.Path); isReferrers {
		setNextLink(answer.header, r.URL.Path, r.URL.Query())
	}
	answer.replay(w)
}

// RedirectTo sends every request to another URL.
func RedirectTo(url string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, url, http.StatusTemporaryRedirect)
	}
}
