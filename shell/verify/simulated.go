package verify

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry"
)

// Registry opens repositories.
type Registry interface {
	Repository(ref image.Reference) Repository
	Close()
}

// Repository reads one repository, as [registry.Repository] does, with the errors that it gives.
type Repository interface {
	Resolve(ctx context.Context, ref image.Reference) (ocispec.Descriptor, error)
	Describe(ctx context.Context, named digest.Digest) (ocispec.Descriptor, error)
	Referrers(ctx context.Context, of digest.Digest, artifactType string) (found []ocispec.Descriptor, truncated bool, err error)
	Manifest(ctx context.Context, named digest.Digest) (ocispec.Manifest, ocispec.Descriptor, error)
	Index(ctx context.Context, named digest.Digest, most int) (registry.Index, error)
	Blob(ctx context.Context, descriptor ocispec.Descriptor, limit int64) ([]byte, error)
}

// registryOf is a client as a Registry.
type registryOf struct{ client *registry.Client }

func (r registryOf) Repository(ref image.Reference) Repository { return r.client.Repository(ref) }
func (r registryOf) Close()                                    { r.client.Close() }

// Simulated stands in for what cannot run under virtual time: registries, plugins and the cryptography of signatures.
type Simulated struct {
	Registry Registry
	Plugins  func() string // their revision
	// Verify reports on a signature as notation-go would.
	Verify func(ctx context.Context, task verification.Task, lookup verification.Lookup, envelope []byte, now time.Time) verification.Report
}

// into has a gatherer use what is simulated; nil changes nothing.
func (s *Simulated) into(g *Gatherer) {
	if s == nil {
		return
	}
	g.registry, g.revision = s.Registry, s.Plugins
	g.verify = func(ctx context.Context, c course, lookup verification.Lookup, envelope []byte) verification.Report {
		return s.Verify(ctx, c.task, lookup, envelope, c.now)
	}
}
