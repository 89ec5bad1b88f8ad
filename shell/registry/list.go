package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/jellydator/ttlcache/v3"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Bounds on the pages of a list, which may be as many as there are referrers that are looked at.
const (
	minPages  = 50
	maxBarren = 10 // that bring nothing new

	// maxAllTypes bounds the entries of a list of all types, which stay in memory until an image is verified.
	maxAllTypes = 1000
)

// referrerList is what was found of the referrers of an artifact type.
type referrerList struct {
	artifactType string // "" for all types, and then only of the first page
	most         int    // of the type that are looked at
	found        []ocispec.Descriptor
	seen         map[digest.Digest]bool // of any type; at most maxElements
	truncated    bool                   // there are more, or more than can be read
}

// add takes a page's entries. Registries need not filter, so they are filtered here whatever the registry says. One that
// is listed twice counts if it is of the type once.
func (l *referrerList) add(page []entry) (fresh bool) {
	for _, e := range page {
		if len(l.seen) == maxElements && !l.seen[e.Digest] { // registries that do not filter list artifacts of all types
			l.truncated = true
			return fresh
		}
		fresh = fresh || !l.seen[e.Digest]
		l.seen[e.Digest] = true
		listed := slices.ContainsFunc(l.found, func(d ocispec.Descriptor) bool {
			return d.Digest == e.Digest && (l.artifactType != "" || d.ArtifactType == e.ArtifactType)
		})
		if listed || l.artifactType != "" && e.ArtifactType != l.artifactType && !Unspecific(e.ArtifactType) {
			continue
		}
		if len(l.found) == l.most {
			l.truncated = true
			return fresh
		}
		l.found = append(l.found, ocispec.Descriptor{MediaType: e.MediaType, Digest: e.Digest, Size: e.Size, ArtifactType: e.ArtifactType})
	}
	return fresh
}

// Unspecific tells that the artifact type that a list has for an entry says nothing of the artifact: there is none, or the
// registry took it from a config that artifacts of all types have. Only its manifest will tell.
func Unspecific(artifactType string) bool {
	switch artifactType {
	case "", ocispec.MediaTypeEmptyJSON, ocispec.MediaTypeImageConfig, mediaTypeDockerConfig:
		return true
	}
	return false
}

// ArtifactType is a manifest's artifact type, or in the absence of that the media type of its config (OCI image
// specification, section "Guidelines for Artifact Usage").
func ArtifactType(manifest ocispec.Manifest) string {
	return cmp.Or(manifest.ArtifactType, manifest.Config.MediaType)
}

// Referrers lists the manifests of an artifact type that refer to a subject, or of all types where that is "", by the referrers API or, where a registry
// has none, by the fallback tag (OCI distribution specification, sections "Listing Referrers" and "Referrers Tag
// Schema"). The list is complete or it is an error; truncated tells that there are more than are looked at. Of a list of
// all types that is the first page.
//
// The tag is kept by those who push, and may be left over from a time at which the registry had no such API. So it, or that
// there is none, counts only where the API is found missing before and after it was read, unless that was found out lately:
// one answer that goes wrong makes no old list the current one, and nothing that is signed look unsigned.
func (r *Repository) Referrers(ctx context.Context, subject digest.Digest, artifactType string) (found []ocispec.Descriptor, truncated bool, err error) {
	if err := validate(subject); err != nil {
		return nil, false, lie("its digest is %q: %v", subject, err)
	}
	reader, leave, err := r.enter(ctx)
	if err != nil {
		return nil, false, err
	}
	defer leave()
	most := r.client.options.MaxReferrers
	if artifactType == "" {
		most = maxAllTypes
	}
	fresh := func() *referrerList {
		return &referrerList{artifactType: artifactType, most: most, seen: map[digest.Digest]bool{}}
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
		return nil, false, classify(ctx, listing, err)
	}
	return list.found, list.truncated, nil
}

// listPages reads the referrers API to its last page. It tells whether there is such an API.
func (r *reader) listPages(ctx context.Context, subject digest.Digest, list *referrerList) (hasAPI bool, err error) {
	query := url.Values{}
	if list.artifactType != "" {
		query.Set("artifactType", list.artifactType)
	}
	page := r.url("referrers", subject.String(), query)
	asked, barren := map[string]bool{}, 0
	for first := true; page != nil && !list.truncated; first = false {
		if asked[page.String()] {
			return true, lie("its list goes in circles: page %s comes again", page.Redacted())
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
		case errors.Is(err, errTooLong): // which is as long as those who may push make it
			list.truncated = true
			return true, nil
		case err != nil:
			return true, err
		}
		if !list.add(entries) && next != nil {
			barren++
		}
		if barren > maxBarren {
			return true, lie("its list has more than %d pages that bring nothing new", maxBarren)
		}
		list.truncated = list.truncated || list.artifactType == "" && next != nil
		page = next
	}
	return true, nil
}

// errNoAPI is an answer by which a registry says that it has no referrers API.
var errNoAPI = errors.New("the registry's list has a page that is not there")

// listPage reads one page, and finds the next one.
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
		return nil, nil, lie("its list has the media type %q; want %q", mediaType, ocispec.MediaTypeImageIndex)
	}
	text, err := readDocument(response, maxElements)
	if err != nil {
		return nil, nil, err
	}
	entries, err := decodeList(text)
	if err != nil {
		return nil, nil, lie("its list cannot be read: %v", err)
	}
	next, err := nextPage(r.root, response.Request.URL, response.Header.Values("Link"))
	if err != nil {
		return nil, nil, lie("%v", err)
	}
	return entries, next, nil
}

// listTag reads the index under the fallback tag, if there is one. What is wrong with an index that was pushed is the
// fault of who pushed it, not the registry's.
func (r *reader) listTag(ctx context.Context, subject digest.Digest, list *referrerList) error {
	tag := fmt.Sprintf("%s-%.64s", subject.Algorithm(), subject.Encoded()) // that of a long digest is cut
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
	wrong := lie // what is not vouched for by a digest may be no index that anyone pushed
	if said != "" {
		if have := said.Algorithm().FromBytes(text); have != said {
			return lie("it gave %s for its fallback tag, and content of %s", said, have)
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
