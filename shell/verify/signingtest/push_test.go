package signingtest_test

import (
	"encoding/json"
	"slices"
	"testing"

	notationregistry "github.com/notaryproject/notation-go/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

func aRepository(t *testing.T) *remote.Repository {
	t.Helper()
	reg := registrytest.New(registrytest.Options{})
	t.Cleanup(reg.Close)
	return must(signingtest.Repository(reg.Host(), "acme/app", reg.Client(), true))
}

// referrers lists what refers to a subject, of an artifact type or of any.
func referrers(t *testing.T, repo *remote.Repository, subject ocispec.Descriptor, artifactType string) []ocispec.Descriptor {
	t.Helper()
	var found []ocispec.Descriptor
	err := repo.Referrers(t.Context(), subject, artifactType, func(page []ocispec.Descriptor) error {
		found = append(found, page...)
		return nil
	})
	if err != nil {
		t.Fatalf("list the referrers of %s: %v", subject.Digest, err)
	}
	return found
}

func TestPushSignatureIsFoundAndFetched(t *testing.T) {
	repo := aRepository(t)
	image := must(signingtest.PushImage(t.Context(), repo, "v1", signingtest.Image{}))
	signer := must(must(signingtest.NewCA(signingtest.Options{})).Issue(signingtest.LeafOptions{}))
	envelope := must(signer.Sign(t.Context(), signingtest.SignRequest{Subject: image}))
	pushed := must(signingtest.PushSignature(t.Context(), repo, image, signingtest.JWS, envelope))

	found := referrers(t, repo, image, notationregistry.ArtifactTypeNotation)
	if len(found) != 1 || found[0].Digest != pushed.Digest {
		t.Fatalf("found signatures %v, want %s", found, pushed.Digest)
	}
	blob, descriptor, err := notationregistry.NewRepository(repo).FetchSignatureBlob(t.Context(), found[0])
	if err != nil {
		t.Fatalf("fetch the envelope: %v", err)
	}
	if !slices.Equal(blob, envelope) || descriptor.MediaType != signingtest.JWS {
		t.Errorf("fetched %d bytes of %s, want the envelope", len(blob), descriptor.MediaType)
	}
}

func TestPushImageDiffersByTagAndLayers(t *testing.T) {
	repo := aRepository(t)
	layers := signingtest.Image{Layers: [][]byte{[]byte("a"), []byte("b")}, Annotations: map[string]string{"key": "value"}}
	one := must(signingtest.PushImage(t.Context(), repo, "v1", signingtest.Image{}))
	two := must(signingtest.PushImage(t.Context(), repo, "v2", signingtest.Image{}))
	three := must(signingtest.PushImage(t.Context(), repo, "v3", layers))
	again := must(signingtest.PushImage(t.Context(), repo, "v4", layers))
	if one.Digest == two.Digest || two.Digest == three.Digest {
		t.Errorf("digests %s, %s and %s, want different ones", one.Digest, two.Digest, three.Digest)
	}
	if three.Digest != again.Digest {
		t.Errorf("the same image has digests %s and %s", three.Digest, again.Digest)
	}
	var manifest ocispec.Manifest
	fetchJSON(t, repo, three, &manifest)
	if len(manifest.Layers) != 2 || manifest.Annotations["key"] != "value" {
		t.Errorf("manifest %+v, want two layers and the annotation", manifest)
	}
}

func TestPushIndexHoldsAnImagePerPlatform(t *testing.T) {
	repo := aRepository(t)
	pushed := must(signingtest.PushIndex(t.Context(), repo, "multi"))
	var index ocispec.Index
	fetchJSON(t, repo, pushed, &index)
	var platforms []string
	for _, image := range index.Manifests {
		platforms = append(platforms, image.Platform.OS+"/"+image.Platform.Architecture)
		fetchJSON(t, repo, image, &ocispec.Manifest{})
	}
	if want := []string{"linux/amd64", "linux/arm64"}; !slices.Equal(platforms, want) {
		t.Errorf("platforms %v, want %v", platforms, want)
	}
}

func TestPushArtifactRefersToItsSubject(t *testing.T) {
	repo := aRepository(t)
	image := must(signingtest.PushImage(t.Context(), repo, "v1", signingtest.Image{}))
	pushed := must(signingtest.PushArtifact(t.Context(), repo, image, signingtest.Referrer{
		ArtifactType: "application/spdx+json",
		Layers: []signingtest.Layer{
			{MediaType: "application/json", Content: []byte(`{"a": 1}`)},
			{MediaType: "application/json", Content: []byte(`{"b": 2}`)},
		},
	}))
	var manifest ocispec.Manifest
	fetchJSON(t, repo, pushed, &manifest)
	if len(manifest.Layers) != 2 || manifest.Subject == nil || manifest.Subject.Digest != image.Digest {
		t.Errorf("manifest %+v, want two layers and %s as subject", manifest, image.Digest)
	}
	if found := referrers(t, repo, image, "application/spdx+json"); len(found) != 1 {
		t.Errorf("found referrers %v, want the one that was pushed", found)
	}
}

func TestPushSignatureThatIsGarbage(t *testing.T) {
	repo := aRepository(t)
	image := must(signingtest.PushImage(t.Context(), repo, "v1", signingtest.Image{}))
	must(signingtest.PushSignature(t.Context(), repo, image, signingtest.JWS, []byte("garbage")))
	if found := referrers(t, repo, image, notationregistry.ArtifactTypeNotation); len(found) != 1 {
		t.Errorf("found signatures %v, want the one that was pushed", found)
	}
}

func fetchJSON(t *testing.T, repo *remote.Repository, descriptor ocispec.Descriptor, into any) {
	t.Helper()
	encoded, err := content.FetchAll(t.Context(), repo, descriptor)
	if err != nil {
		t.Fatalf("fetch %s: %v", descriptor.Digest, err)
	}
	if err := json.Unmarshal(encoded, into); err != nil {
		t.Fatalf("decode %s: %v", descriptor.Digest, err)
	}
}
