package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jellydator/ttlcache/v3"
	"github.com/notaryproject/notation-core-go/signature/cose"
	"github.com/notaryproject/notation-core-go/signature/jws"
	notation "github.com/notaryproject/notation-go/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/nirmata/kyverno-notation-venafi/core"
)

// Repository is one repository of a registry. Any number of requests may use it at once.
type Repository struct {
	client *Client
	ref    registry.Reference // without tag or digest
}

// Resolve gives the descriptor of a tag or digest. The registry is asked for digests too, since a signature is
// held against media type and size as well.
func (r *Repository) Resolve(ctx context.Context, ref core.Reference) (ocispec.Descriptor, error) {
	wanted := ref.Digest
	if wanted == "" {
		wanted = ref.Tag
	}
	host, leave, err := r.client.enter(ctx, r.ref.Registry)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer leave()
	descriptor, err := r.client.remote(host, r.ref).Manifests().Resolve(ctx, wanted)
	if err != nil {
		return ocispec.Descriptor{}, classify(ctx, resolving, err)
	}
	if err := descriptor.Digest.Validate(); err != nil {
		return ocispec.Descriptor{}, lie("it gave the digest %q: %v", descriptor.Digest, err)
	}
	if ref.Digest != "" && descriptor.Digest != digest.Digest(ref.Digest) {
		return ocispec.Descriptor{}, lie("it gave %s for %s", descriptor.Digest, ref.Digest)
	}
	return descriptor, nil
}

// errEnough ends a listing.
var errEnough = errors.New("enough referrers")

// Referrers lists the manifests of an artifact type that refer to a subject, by the referrers API or by the
// fallback tag (OCI distribution specification, sections "Listing Referrers" and "Referrers Tag Schema").
// limited tells that there are more than are looked at.
//
// That a repository has no referrers API is remembered for some minutes, which saves a request. It is not taken for
// granted that there are no referrers because the tag tells none.
func (r *Repository) Referrers(ctx context.Context, subject ocispec.Descriptor, artifactType string) (found []ocispec.Descriptor, limited bool, err error) {
	host, leave, err := r.client.enter(ctx, r.ref.Registry)
	if err != nil {
		return nil, false, err
	}
	defer leave()
	if host.tagsOnly.Get(r.ref.Repository) != nil {
		byTag := r.client.remote(host, r.ref)
		_ = byTag.SetReferrersCapability(false) // it is new, so nothing else is set
		if found, limited, err = r.list(ctx, byTag, subject, artifactType); err != nil || len(found) > 0 {
			return found, limited, err
		}
		host.tagsOnly.Delete(r.ref.Repository)
	}
	unknown := r.client.remote(host, r.ref)
	found, limited, err = r.list(ctx, unknown, subject, artifactType)
	if err == nil && errors.Is(unknown.SetReferrersCapability(true), remote.ErrReferrersCapabilityAlreadySet) {
		host.tagsOnly.Set(r.ref.Repository, struct{}{}, ttlcache.DefaultTTL)
	}
	return found, limited, err
}

func (r *Repository) list(ctx context.Context, from *remote.Repository, subject ocispec.Descriptor, artifactType string) (found []ocispec.Descriptor, limited bool, err error) {
	most := r.client.options.MaxReferrers
	err = from.Referrers(ctx, subject, artifactType, func(page []ocispec.Descriptor) error {
		for _, d := range page { // without annotations, which may be large
			found = append(found, ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, ArtifactType: d.ArtifactType})
		}
		if len(found) > most {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return found[:most], true, nil
	}
	if err != nil {
		return nil, false, classify(ctx, listing, err)
	}
	return found, false, nil
}

// Signatures lists the signature manifests of an artifact.
func (r *Repository) Signatures(ctx context.Context, artifact ocispec.Descriptor) ([]ocispec.Descriptor, bool, error) {
	return r.Referrers(ctx, artifact, notation.ArtifactTypeNotation)
}

// mediaTypeArtifactManifest is what early signers wrote; notation still verifies it.
const mediaTypeArtifactManifest = "application/vnd.oci.artifact.manifest.v1+json"

// Manifest fetches and decodes an image manifest. The blobs of an artifact manifest become its layers.
func (r *Repository) Manifest(ctx context.Context, descriptor ocispec.Descriptor) (ocispec.Manifest, error) {
	if t := descriptor.MediaType; t != ocispec.MediaTypeImageManifest && t != mediaTypeArtifactManifest {
		return ocispec.Manifest{}, lie("%s has the media type %q; want %q", descriptor.Digest, t, ocispec.MediaTypeImageManifest)
	}
	if descriptor.Size > maxManifest {
		return ocispec.Manifest{}, lie("manifest %s is %d bytes; at most %d are read", descriptor.Digest, descriptor.Size, maxManifest)
	}
	if err := descriptor.Digest.Validate(); err != nil { // it becomes part of a path
		return ocispec.Manifest{}, lie("it lists a manifest with the digest %q: %v", descriptor.Digest, err)
	}
	host, leave, err := r.client.enter(ctx, r.ref.Registry)
	if err != nil {
		return ocispec.Manifest{}, err
	}
	defer leave()
	text, err := content.FetchAll(ctx, r.client.remote(host, r.ref).Manifests(), descriptor)
	if err != nil {
		return ocispec.Manifest{}, classify(ctx, fetching, fmt.Errorf("manifest %s: %w", descriptor.Digest, err))
	}
	var manifest struct {
		ocispec.Manifest
		Blobs []ocispec.Descriptor `json:"blobs"`
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		return ocispec.Manifest{}, unusable("manifest %s is not JSON: %v", descriptor.Digest, err)
	}
	if descriptor.MediaType == mediaTypeArtifactManifest {
		manifest.Layers = manifest.Blobs
	}
	return manifest.Manifest, nil
}

// Blob fetches a blob of at most limit bytes and holds it against its digest.
func (r *Repository) Blob(ctx context.Context, descriptor ocispec.Descriptor, limit int64) ([]byte, error) {
	if descriptor.Size > limit {
		return nil, unusable("blob %s is %d bytes; at most %d are read", descriptor.Digest, descriptor.Size, limit)
	}
	if err := descriptor.Digest.Validate(); err != nil { // it becomes part of a path
		return nil, unusable("it names a blob with the digest %q: %v", descriptor.Digest, err)
	}
	host, leave, err := r.client.enter(ctx, r.ref.Registry)
	if err != nil {
		return nil, err
	}
	defer leave()
	data, err := content.FetchAll(forBlob(ctx), r.client.remote(host, r.ref).Blobs(), descriptor)
	if err != nil {
		return nil, classify(ctx, fetching, fmt.Errorf("blob %s: %w", descriptor.Digest, err))
	}
	return data, nil
}

// Envelope fetches the signature envelope that a signature manifest names as its only layer (Notary Project,
// signature specification, section "Storage"), with its media type.
func (r *Repository) Envelope(ctx context.Context, signature ocispec.Descriptor) ([]byte, string, error) {
	manifest, err := r.Manifest(ctx, signature)
	if err != nil {
		return nil, "", err
	}
	if len(manifest.Layers) != 1 {
		return nil, "", unusable("signature manifest %s has %d layers; want one", signature.Digest, len(manifest.Layers))
	}
	layer := manifest.Layers[0]
	if layer.MediaType != jws.MediaTypeEnvelope && layer.MediaType != cose.MediaTypeEnvelope {
		return nil, "", unusable("signature manifest %s has an envelope of the media type %q; want %q or %q", signature.Digest,
			core.Clip(layer.MediaType, core.MaxName), jws.MediaTypeEnvelope, cose.MediaTypeEnvelope)
	}
	envelope, err := r.Blob(ctx, layer, maxEnvelope)
	return envelope, layer.MediaType, err
}
