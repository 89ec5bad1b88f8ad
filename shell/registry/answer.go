package registry

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/nirmata/kyverno-notation-venafi/shell/fair"
)

// Bounds on answers.
const (
	maxManifest    = 4 << 20 // bytes, as the distribution specification recommends
	maxExplanation = 8 << 10 // bytes of an error that are read
	maxPacked      = 1 << 16 // bytes by which a compressed answer may be longer than its content

	// maxElements bounds the lists, objects and commas of a JSON document, and so its elements. Four megabytes hold a
	// million empty descriptors, each of which takes a hundred bytes to decode, and decoding cannot be interrupted.
	// maxParts is the same for a manifest, which has a hundred or two layers.
	maxElements = 100_000
	maxParts    = 20_000

	// Documents longer than longDocument may be in memory two at once for one registry, and four for all. Those of real
	// artifacts are shorter.
	longDocument    = 64 << 10 // bytes
	documentsAtOnce = 4 * maxManifest
	documentsOfOne  = 2 * maxManifest
)

// Media types that the OCI image specification does not define.
const (
	mediaTypeArtifactManifest = "application/vnd.oci.artifact.manifest.v1+json" // written by early signers; notation still verifies it
	mediaTypeDockerManifest   = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeDockerConfig     = "application/vnd.docker.container.image.v1+json"
	mediaTypeDockerList       = "application/vnd.docker.distribution.manifest.list.v2+json"
)

func isManifestType(mediaType string) bool {
	switch mediaType {
	case ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, mediaTypeDockerManifest, mediaTypeDockerList, mediaTypeArtifactManifest:
		return true
	}
	return false
}

// acceptManifests is the Accept header that asks for a manifest as it was pushed.
var acceptManifests = strings.Join([]string{
	ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, mediaTypeDockerManifest, mediaTypeDockerList, mediaTypeArtifactManifest,
}, ", ")

// brokenOff wraps the error of an answer that the connection cut short.
type brokenOff struct{ cause error }

// Error is the cause's text.
func (b *brokenOff) Error() string { return b.cause.Error() }

// Unwrap gives the cause.
func (b *brokenOff) Unwrap() error { return b.cause }

// errTooLong is an answer that is longer than what is read.
var errTooLong = errors.New("it is longer than what is read")

// reader reads from one repository, during one turn at its registry.
type reader struct {
	client     *auth.Client
	host       *host
	repository string
	root       *url.URL // of the registry
	namespace  string   // the registry that this is a mirror of; "" for none
	documents  *fair.ByteBudget
}

// url is the address of a manifest, blob or list of the repository.
func (r *reader) url(kind, name string, query url.Values) *url.URL {
	at := r.root.JoinPath("v2", r.repository, kind, name)
	if r.namespace != "" { // as container runtimes tell caches of several registries which one they mean
		if query == nil {
			query = url.Values{}
		}
		query.Set("ns", r.namespace)
	}
	at.RawQuery = query.Encode()
	return at
}

// ask sends a request with the credentials that the registry demands for the repository. The caller closes the body.
func (r *reader) ask(ctx context.Context, method string, at *url.URL, accept string) (*http.Response, error) {
	ctx = auth.AppendRepositoryScope(ctx, registry.Reference{Registry: r.root.Host, Repository: r.repository}, auth.ActionPull)
	request, err := http.NewRequestWithContext(ctx, method, at.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept-Encoding", "identity") // digests and lengths are those of the uncompressed content
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	response, err := r.send(request)
	if err == nil && accept != "" {
		response.Body = r.longDocument(ctx, response.Body)
	}
	return response, err
}

// longDocument bounds the memory of documents that turn out long, by registry.
func (r *reader) longDocument(ctx context.Context, body io.ReadCloser) *fair.LongBody {
	acquire := func() (func(), error) { return r.documents.Acquire(ctx, r.root.Host, maxManifest) }
	return &fair.LongBody{ReadCloser: body, After: longDocument, Acquire: acquire, What: "long documents"}
}

// fetch asks for the content of a digest. It believes a 404 only when it gets it twice: one wrong answer must not hide a
// signature.
func (r *reader) fetch(ctx context.Context, at *url.URL, accept string) (*http.Response, error) {
	response, err := r.ask(ctx, http.MethodGet, at, accept)
	if err != nil || response.StatusCode != http.StatusNotFound || r.namespace != "" { // a mirror need not have it
		return response, err
	}
	_ = response.Body.Close()
	return r.ask(ctx, http.MethodGet, at, accept)
}

// refused is the error of an answer with an error status, with the explanation of the registry.
func refused(response *http.Response) error {
	var explained struct {
		Errors errcode.Errors `json:"errors"`
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxExplanation))
	if err != nil || json.Unmarshal(text, &explained) != nil {
		explained.Errors = nil
	}
	return &errcode.ErrorResponse{
		Method: response.Request.Method, URL: response.Request.URL, StatusCode: response.StatusCode, Errors: explained.Errors,
	}
}

// body is an answer's content, decompressed where a proxy compressed it although the request forbids that.
func body(response *http.Response, limit int64) (io.Reader, error) {
	arriving := &arriving{response.Body}
	switch encoding := strings.ToLower(strings.TrimSpace(strings.Join(response.Header.Values("Content-Encoding"), ","))); encoding {
	case "", "identity":
		return arriving, nil
	case "gzip", "x-gzip":
		unpacked, err := gzip.NewReader(io.LimitReader(arriving, limit+maxPacked))
		if err != nil {
			return nil, fmt.Errorf("it cannot be unpacked: %w", err)
		}
		return unpacked, nil
	default:
		return nil, fmt.Errorf("it is packed as %q", encoding)
	}
}

// arriving marks errors while an answer is read as the connection's fault.
type arriving struct{ next io.Reader }

// Read is part of io.Reader.
func (a *arriving) Read(data []byte) (int, error) {
	n, err := a.next.Read(data)
	if err != nil && err != io.EOF {
		err = &brokenOff{err}
	}
	return n, err
}

// readDocument reads a JSON document. It gives errTooLong for one of more than maxManifest bytes or maxElements elements,
// which would take much time or memory to decode.
func readDocument(response *http.Response, maxElements int) ([]byte, error) {
	from, err := body(response, maxManifest)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(from, maxManifest+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxManifest:
		return nil, fmt.Errorf("%w: more than %d bytes", errTooLong, maxManifest)
	case bytes.Count(text, []byte(","))+bytes.Count(text, []byte("{"))+bytes.Count(text, []byte("[")) > maxElements:
		return nil, fmt.Errorf("%w: more than %d elements", errTooLong, maxElements)
	}
	return text, nil
}

// mediaTypeOf gives the media type of Content-Type without parameters (RFC 9110); "" for none or an invalid one.
func mediaTypeOf(response *http.Response) string {
	mediaType, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return ""
	}
	return mediaType
}

// validate refuses a digest that is malformed, and so must not become part of a path, or of an unsafe algorithm.
func validate(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return err
	}
	if algorithm := d.Algorithm(); algorithm != digest.SHA256 && algorithm != digest.SHA512 {
		return fmt.Errorf("the algorithm %s is not supported; use sha256 or sha512", algorithm)
	}
	return nil
}

// headerDigest is the digest that the registry states for its answer; "" for none.
func headerDigest(response *http.Response) (digest.Digest, error) {
	said := digest.Digest(response.Header.Get("Docker-Content-Digest"))
	if said == "" {
		return "", nil
	}
	if err := validate(said); err != nil {
		return "", invalidResponse("it gave the digest %q: %v", said, err)
	}
	return said, nil
}
