package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
)

// Repository is one repository of a registry. Any number of requests may use it at once.
type Repository struct {
	client  *Client
	ref     image.Reference // without tag or digest
	mirrors string          // the registry that this is a mirror of; "" for the registry itself
}

// acquire waits for a turn to read from the registry. The caller calls release when it has read everything.
func (r *Repository) acquire(ctx context.Context) (*reader, func(), error) {
	host, release, err := r.client.acquire(ctx, r.ref.Registry)
	if err != nil {
		return nil, nil, err
	}
	root := &url.URL{Scheme: lo.Ternary(r.client.options.speaksPlain(r.ref.Registry), "http", "https"), Host: hostOf(r.ref.Registry)}
	return &reader{client: host.authFor(root.Host, r.ref, r.client.options.Credential), host: host, repository: r.ref.Repository, root: root, namespace: r.mirrors, documents: r.client.documents}, release, nil
}

// Resolve gives the descriptor of a tag or digest. It asks the registry for a digest too, since a signature covers media
// type and size as well.
func (r *Repository) Resolve(ctx context.Context, ref image.Reference) (ocispec.Descriptor, error) {
	read := func(ctx context.Context, from *Repository) (ocispec.Descriptor, error) { return from.resolve(ctx, ref) }
	return authoritative(ctx, r, read, func(ocispec.Descriptor) bool { return true })
}

func (r *Repository) resolve(ctx context.Context, ref image.Reference) (ocispec.Descriptor, error) {
	reader, release, err := r.acquire(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer release()
	at := reader.url("manifests", lo.CoalesceOrEmpty(ref.Digest, ref.Tag), nil)
	descriptor, complete, err := reader.head(ctx, at, digest.Digest(ref.Digest))
	if err == nil && !complete {
		descriptor, err = reader.describe(ctx, at, digest.Digest(ref.Digest))
	}
	if err != nil {
		return ocispec.Descriptor{}, classify(ctx, resolving, err)
	}
	return descriptor, nil
}

// Describe gives the descriptor of a manifest, worked out from its content.
func (r *Repository) Describe(ctx context.Context, named digest.Digest) (ocispec.Descriptor, error) {
	if err := validate(named); err != nil { // it becomes part of a path
		return ocispec.Descriptor{}, invalidResponse("its digest is %q: %v", named, err)
	}
	return anywhere(ctx, r, func(ctx context.Context, from *Repository) (ocispec.Descriptor, error) {
		return from.describe(ctx, named)
	})
}

func (r *Repository) describe(ctx context.Context, named digest.Digest) (ocispec.Descriptor, error) {
	reader, release, err := r.acquire(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer release()
	descriptor, err := reader.describe(ctx, reader.url("manifests", named.String(), nil), named)
	if err != nil {
		return ocispec.Descriptor{}, classify(ctx, resolving, err)
	}
	return descriptor, nil
}

// head asks for a manifest's descriptor by HEAD. It tells whether the answer is complete: proxies compress answers and
// omit lengths, and some registries answer HEAD with less than GET, or not at all.
func (r *reader) head(ctx context.Context, at *url.URL, wanted digest.Digest) (descriptor ocispec.Descriptor, complete bool, err error) {
	response, err := r.ask(ctx, http.MethodHead, at, acceptManifests)
	if err != nil {
		return descriptor, false, err
	}
	defer response.Body.Close()
	switch status := response.StatusCode; {
	case status == http.StatusOK:
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusTooManyRequests,
		status >= 500 && status != http.StatusNotImplemented:
		return descriptor, false, refused(response)
	default:
		return descriptor, false, nil
	}
	said, err := headerDigest(response)
	if err != nil {
		return descriptor, false, err
	}
	if said != "" && wanted != "" && said != wanted {
		return descriptor, false, invalidResponse("it gave %s for %s", said, wanted)
	}
	descriptor = ocispec.Descriptor{MediaType: mediaTypeOf(response), Digest: lo.CoalesceOrEmpty(said, wanted), Size: response.ContentLength}
	complete = descriptor.Digest != "" && descriptor.Size > 0 && isManifestType(descriptor.MediaType) && response.Header.Get("Content-Encoding") == ""
	return descriptor, complete, nil
}

// describe reads a manifest and works out its descriptor. One that cannot be read is at fault itself if its digest is wanted.
func (r *reader) describe(ctx context.Context, at *url.URL, wanted digest.Digest) (ocispec.Descriptor, error) {
	response, err := r.ask(ctx, http.MethodGet, at, acceptManifests)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return ocispec.Descriptor{}, errNotFound
	default:
		return ocispec.Descriptor{}, refused(response)
	}
	text, err := readDocument(response, maxParts)
	switch {
	case wanted != "" && errors.Is(err, errTooLong):
		return ocispec.Descriptor{}, absent("manifest %s cannot be read: %v", wanted, err)
	case err != nil:
		return ocispec.Descriptor{}, err
	}
	said, err := headerDigest(response)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	found := lo.CoalesceOrEmpty(wanted, said, digest.FromBytes(text))
	if err := validate(found); err != nil {
		return ocispec.Descriptor{}, invalidResponse("its digest is %q: %v", found, err)
	}
	for _, claimed := range []digest.Digest{wanted, said} {
		if claimed != "" && claimed.Algorithm().FromBytes(text) != claimed {
			return ocispec.Descriptor{}, invalidResponse("it gave content of %s for %s", digest.FromBytes(text), claimed)
		}
	}
	wrong := invalidResponse
	if wanted != "" { // the digest vouches for what was pushed
		wrong = unusable
	}
	shape, err := shapeOf(text)
	if err != nil {
		return ocispec.Descriptor{}, wrong("manifest %s: %v", found, err)
	}
	mediaType, err := typed(mediaTypeOf(response), shape)
	if err != nil {
		return ocispec.Descriptor{}, wrong("manifest %s: %v", found, err)
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: found, Size: int64(len(text))}, nil
}

// Manifest fetches and decodes an image manifest; the blobs of an artifact manifest become its layers. The descriptor
// that it gives is that of what was fetched: a list may have another size or media type for it, and who pushed the list
// must not hide a manifest by that.
func (r *Repository) Manifest(ctx context.Context, named digest.Digest) (ocispec.Manifest, ocispec.Descriptor, error) {
	text, err := r.manifest(ctx, named)
	if err != nil {
		return ocispec.Manifest{}, ocispec.Descriptor{}, err
	}
	manifest, mediaType, err := decodeManifest(text)
	if err != nil {
		return ocispec.Manifest{}, ocispec.Descriptor{}, unusable("manifest %s: %v", named, err)
	}
	return manifest, ocispec.Descriptor{MediaType: mediaType, Digest: named, Size: int64(len(text))}, nil
}

// Index is what a manifest lists, where it is an image index.
type Index struct {
	IsIndex   bool
	Manifests []Listed // in the order of the index
	Truncated bool     // it lists more
}

// Listed is an entry of an index.
type Listed struct {
	ocispec.Descriptor
	Platform image.Platform // as it is written; zero where the index does not say it
}

// Index fetches a manifest, and gives the first entries of what it lists if it is an index. Whether it is one says its content, since
// the digest covers that, and no header.
func (r *Repository) Index(ctx context.Context, named digest.Digest, most int) (Index, error) {
	text, err := r.manifest(ctx, named)
	if err != nil {
		return Index{}, err
	}
	index, err := decodeIndex(text, most)
	if err != nil {
		return Index{}, unusable("manifest %s: %v", named, err)
	}
	return index, nil
}

// manifest fetches a manifest of any kind, and verifies its digest.
func (r *Repository) manifest(ctx context.Context, named digest.Digest) ([]byte, error) {
	if err := validate(named); err != nil { // it becomes part of a path
		return nil, invalidResponse("it lists a manifest with the digest %q: %v", named, err)
	}
	return anywhere(ctx, r, func(ctx context.Context, from *Repository) ([]byte, error) { return from.fetchManifest(ctx, named) })
}

func (r *Repository) fetchManifest(ctx context.Context, named digest.Digest) ([]byte, error) {
	reader, release, err := r.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	response, err := reader.fetch(ctx, reader.url("manifests", named.String(), nil), acceptManifests)
	if err != nil {
		return nil, classify(ctx, fetching, fmt.Errorf("manifest %s: %w", named, err))
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, absent("manifest %s is named and is not in the registry", named)
	default:
		return nil, classify(ctx, fetching, fmt.Errorf("manifest %s: %w", named, refused(response)))
	}
	text, err := readDocument(response, maxParts)
	switch {
	case errors.Is(err, errTooLong):
		return nil, absent("manifest %s cannot be read: %v", named, err)
	case err != nil:
		return nil, classify(ctx, fetching, fmt.Errorf("manifest %s: %w", named, err))
	case named.Algorithm().FromBytes(text) != named:
		return nil, invalidResponse("it gave content of %s for manifest %s", named.Algorithm().FromBytes(text), named)
	}
	return text, nil
}

// Blob fetches a blob of at most limit bytes, and verifies its digest and size.
func (r *Repository) Blob(ctx context.Context, descriptor ocispec.Descriptor, limit int64) ([]byte, error) {
	if descriptor.Size > limit || descriptor.Size < 0 {
		return nil, unusable("blob %s is %d bytes; at most %d are read", descriptor.Digest, descriptor.Size, limit)
	}
	if err := validate(descriptor.Digest); err != nil { // it becomes part of a path
		return nil, unusable("it names a blob with the digest %q: %v", descriptor.Digest, err)
	}
	return anywhere(ctx, r, func(ctx context.Context, from *Repository) ([]byte, error) {
		return from.fetchBlob(ctx, descriptor, limit)
	})
}

func (r *Repository) fetchBlob(ctx context.Context, descriptor ocispec.Descriptor, limit int64) ([]byte, error) {
	reader, release, err := r.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	response, err := reader.fetch(ctx, reader.url("blobs", descriptor.Digest.String(), nil), "")
	if err != nil {
		return nil, classify(ctx, fetching, fmt.Errorf("blob %s: %w", descriptor.Digest, err))
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, absent("blob %s is named and is not in the registry", descriptor.Digest)
	default:
		return nil, classify(ctx, fetching, fmt.Errorf("blob %s: %w", descriptor.Digest, refused(response)))
	}
	data, err := readBlob(response, descriptor, limit)
	if err != nil {
		return nil, classify(ctx, fetching, err)
	}
	return data, nil
}

// readBlob reads as many bytes as the blob's descriptor says. Where the size is wrong, the digest tells whose fault that is:
// the artifact's, whose descriptor is wrong, or the registry's, which served something else. The bytes past the stated size
// are read for that, up to the limit, and not kept.
func readBlob(response *http.Response, descriptor ocispec.Descriptor, limit int64) ([]byte, error) {
	from, err := body(response, limit)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", descriptor.Digest, err)
	}
	verifier := descriptor.Digest.Verifier()
	from = io.TeeReader(from, verifier)
	var data bytes.Buffer
	data.Grow(int(max(0, min(response.ContentLength, descriptor.Size))) + bytes.MinRead)
	_, err = data.ReadFrom(io.LimitReader(from, descriptor.Size))
	var rest int64
	if err == nil {
		rest, err = io.Copy(io.Discard, io.LimitReader(from, limit-descriptor.Size+1))
	}
	have := int64(data.Len()) + rest
	switch {
	case err != nil:
		return nil, fmt.Errorf("blob %s: %w", descriptor.Digest, err)
	case have > limit:
		return nil, unusable("blob %s is said to have %d bytes, and has more than the %d that are read", descriptor.Digest, descriptor.Size, limit)
	case !verifier.Verified():
		return nil, invalidResponse("it gave other content for blob %s", descriptor.Digest)
	case have != descriptor.Size:
		return nil, unusable("blob %s has %d bytes, and its manifest says %d", descriptor.Digest, have, descriptor.Size)
	}
	return data.Bytes(), nil
}
