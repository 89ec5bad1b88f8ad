package signingtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/notaryproject/notation-core-go/signature"
	notationregistry "github.com/notaryproject/notation-go/registry"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// annotationThumbprint carries the fingerprints of the signer's chain on the
// signature manifest.
// https://github.com/notaryproject/specifications/blob/v1.1.0/specs/signature-specification.md#oci-signatures
const annotationThumbprint = "io.cncf.notary.x509chain.thumbprint#S256"

// Image is an image to push.
type Image struct {
	// Layers are pushed as they are. None gives one layer that names the tag,
	// so that images of different tags differ.
	Layers      [][]byte
	Annotations map[string]string

	// Platform of the image within an index; zero is linux/amd64.
	Platform ocispec.Platform
}

// Repository returns the repository "host/name". A nil client is
// http.DefaultClient.
func Repository(host, name string, client *http.Client, plainHTTP bool) (*remote.Repository, error) {
	repo, err := remote.NewRepository(host + "/" + name)
	if err != nil {
		return nil, fmt.Errorf("repository %s/%s: %w", host, name, err)
	}
	if client == nil {
		client = http.DefaultClient
	}
	repo.Client = client
	repo.PlainHTTP = plainHTTP
	repo.SkipReferrersGC = true // many registries forbid deletion, as notation knows
	return repo, nil
}

// SignIn makes the repository authenticate as the registry asks for it, with
// HTTP basic authentication or through its token endpoint.
func SignIn(repo *remote.Repository, client *http.Client, credential auth.Credential) {
	repo.Client = &auth.Client{
		Client:     client,
		Credential: auth.StaticCredential(repo.Reference.Registry, credential),
		Cache:      auth.NewCache(),
	}
}

// PushImage pushes an image under a tag and returns its manifest.
func PushImage(ctx context.Context, repo *remote.Repository, tag string, image Image) (ocispec.Descriptor, error) {
	manifest, err := imageManifest(ctx, repo, tag, image)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("push image %s:%s: %w", repo.Reference, tag, err)
	}
	return pushManifest(ctx, repo, tag, ocispec.MediaTypeImageManifest, manifest)
}

// PushIndex pushes images and an index of them under a tag, and returns the
// index. No images gives two, for linux/amd64 and linux/arm64.
func PushIndex(ctx context.Context, repo *remote.Repository, tag string, images ...Image) (ocispec.Descriptor, error) {
	if len(images) == 0 {
		images = []Image{
			{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}},
			{Platform: ocispec.Platform{OS: "linux", Architecture: "arm64"}},
		}
	}
	var manifests []ocispec.Descriptor
	for i, image := range images {
		manifest, err := imageManifest(ctx, repo, fmt.Sprintf("%s#%d", tag, i), image)
		if err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("push image %d of index %s:%s: %w", i, repo.Reference, tag, err)
		}
		descriptor, err := pushManifest(ctx, repo, "", ocispec.MediaTypeImageManifest, manifest)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		platform := platformOf(image)
		descriptor.Platform = &platform
		manifests = append(manifests, descriptor)
	}
	return PushIndexOf(ctx, repo, tag, manifests...)
}

// PushIndexOf pushes an index of what was pushed before, or of what is not there
// at all.
func PushIndexOf(ctx context.Context, repo *remote.Repository, tag string, manifests ...ocispec.Descriptor) (ocispec.Descriptor, error) {
	return pushManifest(ctx, repo, tag, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: manifests,
	})
}

// imageManifest pushes the config and the layers of an image and returns the
// manifest that holds them together.
func imageManifest(ctx context.Context, repo *remote.Repository, tag string, image Image) (ocispec.Manifest, error) {
	layers := image.Layers
	if len(layers) == 0 {
		layers = [][]byte{[]byte(repo.Reference.Repository + ":" + tag)}
	}
	config := ocispec.Image{Platform: platformOf(image), RootFS: ocispec.RootFS{Type: "layers"}}
	manifest := ocispec.Manifest{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   ocispec.MediaTypeImageManifest,
		Annotations: image.Annotations,
	}
	for _, layer := range layers {
		descriptor, err := oras.PushBytes(ctx, repo, ocispec.MediaTypeImageLayer, layer)
		if err != nil {
			return ocispec.Manifest{}, fmt.Errorf("push a layer: %w", err)
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, descriptor.Digest)
		manifest.Layers = append(manifest.Layers, descriptor)
	}
	encoded, err := json.Marshal(config)
	if err != nil {
		return ocispec.Manifest{}, fmt.Errorf("encode the config: %w", err)
	}
	manifest.Config, err = oras.PushBytes(ctx, repo, ocispec.MediaTypeImageConfig, encoded)
	if err != nil {
		return ocispec.Manifest{}, fmt.Errorf("push the config: %w", err)
	}
	return manifest, nil
}

// pushManifest pushes a manifest or an index, under its digest where the tag
// is empty.
func pushManifest(ctx context.Context, repo *remote.Repository, tag, mediaType string, manifest any) (ocispec.Descriptor, error) {
	content, err := json.Marshal(manifest)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("encode manifest %s:%s: %w", repo.Reference, tag, err)
	}
	descriptor := ocispec.Descriptor{
		MediaType: mediaType,
		Digest:    digest.FromBytes(content),
		Size:      int64(len(content)),
	}
	if tag == "" {
		err = repo.Push(ctx, descriptor, bytes.NewReader(content))
	} else {
		err = repo.PushReference(ctx, descriptor, bytes.NewReader(content), tag)
	}
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("push manifest %s:%s: %w", repo.Reference, tag, err)
	}
	return descriptor, nil
}

func platformOf(image Image) ocispec.Platform {
	if image.Platform.OS == "" {
		return ocispec.Platform{OS: "linux", Architecture: "amd64"}
	}
	return image.Platform
}

// PushSignature pushes an envelope as a referrer of the subject, as `notation
// sign` does, and returns the signature manifest. An envelope that cannot be
// read is pushed all the same, without annotations about its signer.
func PushSignature(ctx context.Context, repo *remote.Repository, subject ocispec.Descriptor, mediaType string, envelope []byte) (ocispec.Descriptor, error) {
	annotations, err := signatureAnnotations(mediaType, envelope)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("push a signature of %s: %w", subject.Digest, err)
	}
	target := notationregistry.NewRepository(repo)
	_, manifest, err := target.PushSignature(ctx, mediaType, envelope, subject, annotations)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("push a signature of %s to %s: %w", subject.Digest, repo.Reference, err)
	}
	return manifest, nil
}

// signatureAnnotations returns the signing time and the fingerprints of the
// chain, or nothing where the envelope cannot be read.
func signatureAnnotations(mediaType string, envelope []byte) (map[string]string, error) {
	parsed, err := signature.ParseEnvelope(mediaType, envelope)
	if err != nil {
		return nil, nil
	}
	content, err := parsed.Content()
	if err != nil {
		return nil, nil
	}
	var prints []string
	for _, certificate := range content.SignerInfo.CertificateChain {
		sum := sha256.Sum256(certificate.Raw)
		prints = append(prints, hex.EncodeToString(sum[:]))
	}
	encoded, err := json.Marshal(prints)
	if err != nil {
		return nil, fmt.Errorf("encode the fingerprints: %w", err)
	}
	return map[string]string{
		annotationThumbprint:      string(encoded),
		ocispec.AnnotationCreated: content.SignerInfo.SignedAttributes.SigningTime.UTC().Format(time.RFC3339),
	}, nil
}

// Layer is one layer of a referrer.
type Layer struct {
	MediaType string
	Content   []byte
}

// Referrer is an artifact to push that refers to another, such as an SBOM.
type Referrer struct {
	ArtifactType string
	Layers       []Layer
	Annotations  map[string]string

	// ConfigMediaType makes the artifact one of the older kind, whose config
	// has this media type; ArtifactType must be empty then. Zero is the empty
	// config of image-spec 1.1.
	ConfigMediaType string
}

// PushReferrer pushes an artifact of one layer that refers to the subject, as
// `oras attach` does, and returns its manifest.
func PushReferrer(ctx context.Context, repo *remote.Repository, subject ocispec.Descriptor, artifactType string, payload []byte, payloadMediaType string) (ocispec.Descriptor, error) {
	return PushArtifact(ctx, repo, subject, Referrer{
		ArtifactType: artifactType,
		Layers:       []Layer{{MediaType: payloadMediaType, Content: payload}},
	})
}

// PushArtifact pushes an artifact of any number of layers that refers to the
// subject, and returns its manifest.
// https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md#guidelines-for-artifact-usage
func PushArtifact(ctx context.Context, repo *remote.Repository, subject ocispec.Descriptor, referrer Referrer) (ocispec.Descriptor, error) {
	options := oras.PackManifestOptions{Subject: &subject, ManifestAnnotations: referrer.Annotations}
	for _, layer := range referrer.Layers {
		descriptor, err := oras.PushBytes(ctx, repo, layer.MediaType, layer.Content)
		if err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("push a layer for %s: %w", subject.Digest, err)
		}
		options.Layers = append(options.Layers, descriptor)
	}
	if referrer.ConfigMediaType != "" {
		config, err := oras.PushBytes(ctx, repo, referrer.ConfigMediaType, []byte("{}"))
		if err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("push the config for %s: %w", subject.Digest, err)
		}
		options.ConfigDescriptor = &config
	}
	manifest, err := oras.PackManifest(ctx, repo, oras.PackManifestVersion1_1, referrer.ArtifactType, options)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("push a referrer of %s to %s: %w", subject.Digest, repo.Reference, err)
	}
	return manifest, nil
}
