package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/jellydator/ttlcache/v3"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Bounds on the pages of a list. There may be as many pages as referrers that are listed, and at least minPages.
const (
	minPages  = 50
	maxBarren = 10 // pages without a new entry

	// maxAllTypes bounds the entries of a list of all types, which stay in memory until an image is verified.
	maxAllTypes = 1000
)

// referrerList collects the referrers of an artifact type.
type referrerList struct {
	artifactType string // "" for all types, of which only the first page is read
	most         int    // of the type that are collected
	found        []ocispec.Descriptor
	listed       map[listedAs]bool      // what is in found
	seen         map[digest.Digest]bool // of any type; at most maxElements
	truncated    bool                   // there are more than are collected or can be read
}

// listedAs is what must not be collected twice: a digest, and in a list of all types its type.
type listedAs struct {
	digest       digest.Digest
	artifactType string
}

// add collects the entries of a page, and tells whether one was new. It filters by type whatever the registry says, since
// registries need not filter. An entry that is listed twice counts when one of the two is of the type.
func (l *referrerList) add(page []entry) (fresh bool) {
	for _, e := range page {
		if len(l.seen) == maxElements && !l.seen[e.Digest] { // registries that do not filter list artifacts of all types
			l.truncated = true
			return fresh
		}
		fresh = fresh || !l.seen[e.Digest]
		l.seen[e.Digest] = true
		as := listedAs{digest: e.Digest}
		if l.artifactType == "" {
			as.artifactType = e.ArtifactType
		}
		if l.listed[as] || l.artifactType != "" && e.ArtifactType != l.artifactType && !Unspecific(e.ArtifactType) {
			continue
		}
		if len(l.found) == l.most {
			l.truncated = true
			return fresh
		}
		l.listed[as] = true
		l.found = append(l.found, ocispec.Descriptor{MediaType: e.MediaType, Digest: e.Digest, Size: e.Size, ArtifactType: e.ArtifactType})
	}
	return fresh
}

// Unspecific tells whether a listed artifact type says nothing about the artifact: it is empty, or the registry took it
// from a config media type that artifacts of all types have. Then only the manifest tells the type.
func Unspecific(artifactType string) bool {
	switch artifactType {
	case "", ocispec.MediaTypeEmptyJSON, ocispec.MediaTypeImageConfig, mediaTypeDockerConfig:
		return true
	}
	return false
}

// ArtifactType is a manifest's artifact type, or without one the media type of its config (OCI image
// specification, section "Guidelines for Artifact Usage").
func ArtifactType(manifest ocispec.Manifest) string {
	return cmp.Or(manifest.ArtifactType, manifest.Config.MediaType)
}

// Referrers lists the manifests that refer to a subject, of an artifact type or, for "", of all types. It uses the referrers
// API or, where a registry has none, the fallback tag (OCI distribution specification, sections "Listing Referrers" and
// "Referrers Tag Schema"). The list is complete, or truncated where there are more than are collected, or it is an error. A
// list of all types is truncated after its first page.
//
// Pushing clients maintain the fallback tag, so it may be stale on a registry that has gained the API. It counts, or its
// absence does, only when the API is found missing both before and after the tag was read, or was lately. So one wrong
// answer neither brings back an old list nor makes a signed image look unsigned.
func (r *Repository) Referrers(ctx context.Context, subject digest.Digest, artifactType string) (found []ocispec.Descriptor, truncated bool, err error) {
	if err := validate(subject); err != nil {
		return nil, false, invalidResponse("its digest is %q: %v", subject, err)
	}
	read := func(ctx context.Context, from *Repository) (*referrerList, error) {
		return from.list(ctx, subject, artifactType)
	}
	list, err := authoritative(ctx, r, read, func(list *referrerList) bool { return len(list.found) > 0 || list.truncated })
	if err != nil {
		return nil, false, err
	}
	return list.found, list.truncated, nil
}

// list lists the referrers that this registry has.
func (r *Repository) list(ctx context.Context, subject digest.Digest, artifactType string) (*referrerList, error) {
	reader, release, err := r.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	most := r.client.options.MaxReferrers
	if artifactType == "" {
		most = maxAllTypes
	}
	fresh := func() *referrerList {
		return &referrerList{artifactType: artifactType, most: most, listed: map[listedAs]bool{}, seen: map[digest.Digest]bool{}}
	}
	list := fresh()
	hasAPI, err := reader.listPages(ctx, subject, list)
	switch known := reader.host.withoutAPI; {
	case err != nil:
	case hasAPI:
		known.Delete(r.ref.Repository)
	default:
		err = reader.listTag(ctx, subject, list)
		if err != nil || known.Get(r.ref.Repository) != nil {
			break
		}
		byAPI := fresh()
		if hasAPI, err = reader.listPages(ctx, subject, byAPI); hasAPI {
			list = byAPI
		} else if err == nil {
			known.Set(r.ref.Repository, struct{}{}, ttlcache.DefaultTTL)
		}
	}
	if err != nil {
		return nil, classify(ctx, listing, err)
	}
	return list, nil
}

// listPages reads the referrers API to its last page. It tells whether the registry has that API.
func (r *reader) listPages(ctx context.Context, subject digest.Digest, list *referrerList) (hasAPI bool, err error) {
	query := url.Values{}
	if list.artifactType != "" {
		query.Set("artifactType", list.artifactType)
	}
	page := r.url("referrers", subject.String(), query)
	asked, barren := map[string]bool{}, 0
	for first := true; page != nil && !list.truncated; first = false {
		if asked[page.String()] {
			return true, invalidResponse("its list goes in circles: page %s comes again", page.Redacted())
		}
		if len(asked) >= max(minPages, list.most) {
			list.truncated = true
			return true, nil
		}
		asked[page.String()] = true
		entries, next, err := r.listPage(ctx, page)
		switch {
		case first && errors.Is(err, errNoAPI):
			return false, nil
		case errors.Is(err, errTooLong): // the length is the choice of those who may push
			list.truncated = true
			return true, nil
		case err != nil:
			return true, err
		}
		if !list.add(entries) && next != nil {
			barren++
		}
		if barren > maxBarren {
			return true, invalidResponse("its list has more than %d pages that bring nothing new", maxBarren)
		}
		list.truncated = list.truncated || list.artifactType == "" && next != nil
		page = next
	}
	return true, nil
}

// errNoAPI is an answer that says that a registry has no referrers API.
var errNoAPI = errors.New("the registry's list has a page that is not there")

// listPage reads one page, and finds the URL of the next one.
func (r *reader) listPage(ctx context.Context, page *url.URL) ([]entry, *url.URL, error) {
	response, err := r.ask(ctx, http.MethodGet, page, ocispec.MediaTypeImageIndex)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusGone, http.StatusNotImplemented:
		return nil, nil, errNoAPI
	default:
		return nil, nil, refused(response)
	}
	if mediaType := mediaTypeOf(response); mediaType != ocispec.MediaTypeImageIndex {
		return nil, nil, invalidResponse("its list has the media type %q; want %q", mediaType, ocispec.MediaTypeImageIndex)
	}
	text, err := readDocument(response, maxElements)
	if err != nil {
		return nil, nil, err
	}
	entries, err := decodeList(text)
	if err != nil {
		return nil, nil, invalidResponse("its list cannot be read: %v", err)
	}
	next, err := nextPage(r.root, response.Request.URL, response.Header.Values("Link"))
	if err != nil {
		return nil, nil, invalidResponse("%v", err)
	}
	return entries, next, nil
}

// listTag reads the index under the fallback tag, if there is one. An invalid index is the fault of the client that pushed
// it, not the registry's.
func (r *reader) listTag(ctx context.Context, subject digest.Digest, list *referrerList) error {
	tag := fmt.Sprintf("%s-%.64s", subject.Algorithm(), subject.Encoded()) // a long digest is cut
	response, err := r.ask(ctx, http.MethodGet, r.url("manifests", tag, nil), ocispec.MediaTypeImageIndex)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil
	default:
		return refused(response)
	}
	text, err := readDocument(response, maxElements)
	if errors.Is(err, errTooLong) {
		list.truncated = true
		return nil
	}
	if err != nil {
		return err
	}
	said, err := headerDigest(response)
	if err != nil {
		return err
	}
	wrong := invalidResponse // without a digest to check it by, the index may not be what was pushed
	if said != "" {
		if have := said.Algorithm().FromBytes(text); have != said {
			return invalidResponse("it gave %s for its fallback tag, and content of %s", said, have)
		}
		wrong = unusable
	}
	if mediaType := mediaTypeOf(response); mediaType != ocispec.MediaTypeImageIndex {
		return wrong("its fallback tag %s has the media type %q; want %q", tag, mediaType, ocispec.MediaTypeImageIndex)
	}
	entries, err := decodeList(text)
	if err != nil {
		return wrong("its fallback tag %s is no list of referrers: %v", tag, err)
	}
	list.add(entries)
	return nil
}
