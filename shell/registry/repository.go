package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	notation "github.com/notaryproject/notation-go/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/nirmata/kyverno-notation-venafi/core"
)

// Repository is one repository of a registry. Use one for one request: what it learns of the registry on the
// way, such as whether there is a referrers API, it keeps.
type Repository struct {
	remote *remote.Repository
	most   int // referrers that are looked at
}

// Resolve gives the descriptor of a tag or digest. The registry is asked for digests too, since a signature is
// held against media type and size as well.
func (r *Repository) Resolve(ctx context.Context, ref core.Reference) (ocispec.Descriptor, error) {
	wanted := ref.Digest
	if wanted == "" {
		wanted = ref.Tag
	}
	descriptor, err := r.remote.Manifests().Resolve(ctx, wanted)
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
func (r *Repository) Referrers(ctx context.Context, subject ocispec.Descriptor, artifactType string) (found []ocispec.Descriptor, limited bool, err error) {
	err = r.remote.Referrers(ctx, subject, artifactType, func(page []ocispec.Descriptor) error {
		found = append(found, page...)
		if len(found) > r.most {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return found[:r.most], true, nil
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
	text, err := content.FetchAll(ctx, r.remote.Manifests(), descriptor)
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
	data, err := content.FetchAll(ctx, r.remote.Blobs(), descriptor)
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
	envelope, err := r.Blob(ctx, manifest.Layers[0], maxEnvelope)
	return envelope, manifest.Layers[0].MediaType, err
}
