package release

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/notaryproject/notation-go"
	notationregistry "github.com/notaryproject/notation-go/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/oci"
)

// layout is an OCI image layout that is filled and signed.
type layout struct {
	*oci.Store
	at     time.Time // of all annotations
	signer notation.Signer
	signed []signature
}

// signature says which signature manifest belongs to what.
type signature struct {
	of     string
	digest digest.Digest
}

func newLayout(ctx context.Context, dir string, at time.Time, signer notation.Signer) (*layout, error) {
	store, err := oci.NewWithContext(ctx, dir)
	if err != nil {
		return nil, err
	}
	return &layout{Store: store, at: at, signer: signer}, nil
}

// put stores content unless it is there.
func (l *layout) put(ctx context.Context, descriptor ocispec.Descriptor, content []byte) error {
	there, err := l.Exists(ctx, descriptor)
	if err != nil || there {
		return err
	}
	return l.Push(ctx, descriptor, bytes.NewReader(content))
}

// putImage stores an image with all that it consists of.
func (l *layout) putImage(ctx context.Context, image v1.Image) (ocispec.Descriptor, error) {
	layers, err := image.Layers()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, layer := range layers {
		if err := l.putLayer(ctx, layer); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	config, err := image.RawConfigFile()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := l.put(ctx, described(ocispec.MediaTypeImageConfig, config), config); err != nil {
		return ocispec.Descriptor{}, err
	}
	manifest, err := image.RawManifest()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	descriptor := described(ocispec.MediaTypeImageManifest, manifest)
	return descriptor, l.put(ctx, descriptor, manifest)
}

func (l *layout) putLayer(ctx context.Context, layer v1.Layer) error {
	stream, err := layer.Compressed()
	if err != nil {
		return err
	}
	defer stream.Close()
	content, err := io.ReadAll(stream)
	if err != nil {
		return err
	}
	return l.put(ctx, described(ocispec.MediaTypeImageLayerGzip, content), content)
}

// putIndex stores an index whose images are stored.
func (l *layout) putIndex(ctx context.Context, index v1.ImageIndex) (ocispec.Descriptor, error) {
	manifest, err := index.RawManifest()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	descriptor := described(ocispec.MediaTypeImageIndex, manifest)
	return descriptor, l.put(ctx, descriptor, manifest)
}

func described(mediaType string, content []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
}

// attach stores a document as a referrer of a subject, and signs it.
func (l *layout) attach(ctx context.Context, name string, to ocispec.Descriptor, artifactType, mediaType string, document []byte) (ocispec.Descriptor, error) {
	layer := described(mediaType, document)
	if err := l.put(ctx, layer, document); err != nil {
		return ocispec.Descriptor{}, err
	}
	manifest, err := oras.PackManifest(ctx, l, oras.PackManifestVersion1_1, artifactType, oras.PackManifestOptions{
		Subject: &to, Layers: []ocispec.Descriptor{layer},
		ManifestAnnotations: map[string]string{ocispec.AnnotationCreated: l.at.Format(time.RFC3339)},
	})
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("attach %s: %w", name, err)
	}
	return manifest, l.sign(ctx, name, manifest)
}

// sign stores a Notation signature of a manifest.
func (l *layout) sign(ctx context.Context, name string, manifest ocispec.Descriptor) error {
	repository := &watched{Repository: notationregistry.NewRepository(l.Store)}
	_, err := notation.Sign(ctx, l.signer, repository, notation.SignOptions{
		SignerSignOptions: notation.SignerSignOptions{SignatureMediaType: mediaJWS, SigningAgent: module + "/release"},
		ArtifactReference: manifest.Digest.String(),
	})
	if err != nil {
		return fmt.Errorf("sign %s: %w", name, err)
	}
	l.signed = append(l.signed, signature{name, repository.pushed.Digest})
	return nil
}

// watched is a repository that keeps the manifest of the last signature, which notation.Sign does not give.
type watched struct {
	notationregistry.Repository
	pushed ocispec.Descriptor
}

func (w *watched) PushSignature(ctx context.Context, mediaType string, blob []byte, to ocispec.Descriptor, annotations map[string]string) (ocispec.Descriptor, ocispec.Descriptor, error) {
	envelope, manifest, err := w.Repository.PushSignature(ctx, mediaType, blob, to, annotations)
	w.pushed = manifest
	return envelope, manifest, err
}

// manifests lists the manifests of a layout in the order of their digests.
func manifests(dir string) ([]ocispec.Descriptor, error) {
	text, err := os.ReadFile(filepath.Join(dir, ocispec.ImageIndexFile))
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(text, &index); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	slices.SortFunc(index.Manifests, func(a, b ocispec.Descriptor) int {
		return slices.Compare([]string{a.Digest.String(), a.Annotations[ocispec.AnnotationRefName]}, []string{b.Digest.String(), b.Annotations[ocispec.AnnotationRefName]})
	})
	return index.Manifests, nil
}
