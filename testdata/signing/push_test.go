package signing_test

import (
	"slices"
	"testing"

	notationregistry "github.com/notaryproject/notation-go/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/nirmata/kyverno-notation-venafi/testdata/registry"
	"github.com/nirmata/kyverno-notation-venafi/testdata/signing"
)

func aRepository(t *testing.T) *remote.Repository {
	t.Helper()
	reg := registry.New(registry.Options{})
	t.Cleanup(reg.Close)
	return must(signing.Repository(reg.Host(), "acme/app", reg.Client(), true))
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
	image := must(signing.PushImage(t.Context(), repo, "v1", signing.Image{}))
	signer := must(must(signing.NewCA(signing.Options{})).Issue(signing.LeafOptions{}))
	envelope := must(signer.Sign(t.Context(), signing.SignRequest{Subject: image}))
	pushed := must(signing.PushSignature(t.Context(), repo, image, signing.JWS, envelope))

	found := referrers(t, repo, image, notationregistry.ArtifactTypeNotation)
	if len(found) != 1 || found[0].Digest != pushed.Digest {
		t.Fatalf("found signatures %v, want %s", found, pushed.Digest)
	}
	blob, descriptor, err := notationregistry.NewRepository(repo).FetchSignatureBlob(t.Context(), found[0])
	if err != nil {
		t.Fatalf("fetch the envelope: %v", err)
	}
	if !slices.Equal(blob, envelope) || descriptor.MediaType != signing.JWS {
		t.Errorf("fetched %d bytes of %s, want the envelope", len(blob), descriptor.MediaType)
	}
}
