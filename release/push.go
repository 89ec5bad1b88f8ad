package release

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"
)

// Target is where a release is pushed to.
type Target struct {
	Repository, ChartRepository string
	PlainHTTP                   bool // for a registry on this machine
}

// Push copies a release to a registry, with credentials of the container tools. A registry without referrers API gets their fallback
// tags. Subjects go before what refers to them, and tags last, so that a tag never names what is not there whole.
func Push(ctx context.Context, dir string, to Target) error {
	if err := pushLayout(ctx, filepath.Join(dir, ImageLayout), to.Repository, to.PlainHTTP); err != nil {
		return err
	}
	return pushLayout(ctx, filepath.Join(dir, ChartLayout), to.ChartRepository, to.PlainHTTP)
}

func pushLayout(ctx context.Context, dir, name string, plain bool) error {
	store, err := oci.NewWithContext(ctx, dir)
	if err != nil {
		return err
	}
	repository, err := remote.NewRepository(name)
	if err != nil {
		return err
	}
	keys, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	repository.PlainHTTP = plain
	repository.SkipReferrersGC = true // of fallback tags, which is a deletion that many registries refuse
	repository.Client = &auth.Client{Client: retry.DefaultClient, Cache: auth.NewCache(), Credential: credentials.Credential(keys)}
	listed, err := manifests(dir)
	if err != nil {
		return err
	}
	for _, manifest := range listed {
		manifest.Annotations = nil
		if err := oras.CopyGraph(ctx, store, repository, manifest, oras.DefaultCopyGraphOptions); err != nil {
			return fmt.Errorf("push %s to %s: %w", manifest.Digest, name, err)
		}
	}
	return tag(ctx, repository, listed)
}

// tag gives each version its tag, with and without the v that a version begins with, as users write either.
func tag(ctx context.Context, repository *remote.Repository, listed []ocispec.Descriptor) error {
	for _, manifest := range listed {
		version := manifest.Annotations[ocispec.AnnotationRefName]
		if version == "" {
			continue
		}
		for _, name := range []string{version, strings.TrimPrefix(version, "v")} {
			if err := repository.Tag(ctx, manifest, name); err != nil {
				return fmt.Errorf("tag %s: %w", name, err)
			}
		}
	}
	return nil
}
