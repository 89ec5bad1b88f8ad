package simulation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify"
)

// The media types and the artifact type that the model has.
const (
	typeImage       = "application/vnd.oci.image.manifest.v1+json"
	typeEnvelope    = "application/jose+json"
	typeAttestation = "scan"
	imageSize       = 1000
)

// artifact is a signature or an attestation, attached to an image or an attestation.
type artifact struct {
	repository  int
	digest      digest.Digest // of its manifest
	blob        digest.Digest
	subject     digest.Digest
	attestation bool
	made        time.Time // and signed, by the signer's clock

	// Of a signature.
	signer  int
	expiry  time.Time // zero for none
	target  digest.Digest
	garbage bool // its envelope does not verify
	plugin  bool // it demands the plugin

	severity int // that an attestation tells
	there    timeline[bool]
}

// timeline is a value that changes over time.
type timeline[T comparable] struct {
	mu      sync.Mutex
	changes []at[T]
}

type at[T comparable] struct {
	from  time.Time
	value T
}

// set has the value be another one from a moment on.
func (l *timeline[T]) set(from time.Time, value T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, at[T]{from, value})
}

// value gives it at a moment; the zero value before the first.
func (l *timeline[T]) value(moment time.Time) (value T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, change := range l.changes {
		if !change.from.After(moment) {
			value = change.value
		}
	}
	return value
}

// within gives the values that it had in a window.
func (l *timeline[T]) within(from, to time.Time) []T {
	values := []T{l.value(from)}
	for _, change := range l.changes {
		if change.from.After(from) && !change.from.After(to) {
			values = append(values, change.value)
		}
	}
	return values
}

func imageDigest(repository, number int) digest.Digest {
	return digest.FromString(fmt.Sprint("image ", repository, " ", number))
}

func tagName(number int) string { return fmt.Sprint("v", number) }

// document is the content of an attestation.
func (a *artifact) document() []byte {
	return fmt.Appendf(nil, `{"severity": %d, "made": %q}`, a.severity, a.made.UTC().Format(time.RFC3339))
}

// opened is the model as a replica reads it.
type opened struct{ world *World }

// Repository is part of verify.Registry.
func (o opened) Repository(ref image.Reference) verify.Repository {
	for i := range repositories {
		if ref.Name() == repositoryName(i) {
			return reader{o.world, i}
		}
	}
	panic("no such repository: " + ref.Name())
}

// Close is part of verify.Registry.
func (opened) Close() {}

// reader reads one repository.
type reader struct {
	world      *World
	repository int
}

// ask lets the time of a request pass, and gives what it fails with.
func (r reader) ask(ctx context.Context) error {
	w := r.world
	took := w.draw(time.Millisecond, 40*time.Millisecond)
	if slow := w.active(registrySlow, r.repository); slow != nil {
		took += w.draw(0, slow.amount)
	}
	if !sleep(ctx, took) {
		return &registry.Error{Code: reason.Timeout, Text: "time ran out in the registry"}
	}
	switch {
	case w.active(registryDown, r.repository) != nil:
		return &registry.Error{Code: reason.RegistryUnavailable, Text: "the registry failed: 429 Too Many Requests"}
	case w.active(registryLies, r.repository) != nil && w.drawn(50):
		return &registry.Error{Code: reason.RegistryInvalid, Text: "the registry's answer cannot be used"}
	}
	return nil
}

// seen is the moment whose state the registry shows: now, unless it is behind.
func (r reader) seen() time.Time {
	if behind := r.world.active(registryBehind, r.repository); behind != nil {
		return time.Now().Add(-behind.amount)
	}
	return time.Now()
}

// Resolve is part of verify.Repository.
func (r reader) Resolve(ctx context.Context, ref image.Reference) (ocispec.Descriptor, error) {
	if err := r.ask(ctx); err != nil {
		return ocispec.Descriptor{}, err
	}
	for i := range tags {
		if ref.Tag == tagName(i) {
			if of := r.world.tags[r.repository][i].value(r.seen()); of != "" {
				return ocispec.Descriptor{MediaType: typeImage, Digest: of, Size: imageSize}, nil
			}
		}
	}
	return ocispec.Descriptor{}, &registry.Error{Code: reason.ImageNotFound, Text: "the registry has no such image"}
}

// Describe is part of verify.Repository. All images exist.
func (r reader) Describe(ctx context.Context, named digest.Digest) (ocispec.Descriptor, error) {
	if err := r.ask(ctx); err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: typeImage, Digest: named, Size: imageSize}, nil
}

// Referrers is part of verify.Repository. A list of all types is cut after a page.
func (r reader) Referrers(ctx context.Context, of digest.Digest, artifactType string) (found []ocispec.Descriptor, truncated bool, err error) {
	if err := r.ask(ctx); err != nil {
		return nil, false, err
	}
	w, seen := r.world, r.seen()
	hides := w.active(registryHides, r.repository) != nil
	for _, a := range w.artifactsOf(r.repository, of) {
		if !a.there.value(seen) || hides && !a.attestation {
			continue
		}
		descriptor := ocispec.Descriptor{MediaType: typeImage, Digest: a.digest, Size: imageSize, ArtifactType: a.artifactType()}
		if artifactType == "" && len(found) == w.page {
			return found, true, nil
		}
		if artifactType == "" || artifactType == descriptor.ArtifactType {
			found = append(found, descriptor)
		}
	}
	return found, false, nil
}

func (a *artifact) artifactType() string {
	if a.attestation {
		return typeAttestation
	}
	return verification.TypeSignature
}

// Manifest is part of verify.Repository.
func (r reader) Manifest(ctx context.Context, named digest.Digest) (ocispec.Manifest, ocispec.Descriptor, error) {
	if err := r.ask(ctx); err != nil {
		return ocispec.Manifest{}, ocispec.Descriptor{}, err
	}
	a := r.world.artifact(named)
	if !a.there.value(time.Now()) && !a.there.value(r.seen()) {
		gone := &registry.Error{Code: reason.RegistryInvalid, Text: "the manifest is not in the registry"}
		return ocispec.Manifest{}, ocispec.Descriptor{}, errors.Join(gone, registry.ErrAbsent)
	}
	layer := ocispec.Descriptor{MediaType: typeEnvelope, Digest: a.blob, Size: 100}
	if a.attestation {
		layer.MediaType, layer.Size = "application/json", int64(len(a.document()))
	}
	manifest := ocispec.Manifest{
		ArtifactType: a.artifactType(), Config: ocispec.Descriptor{MediaType: "application/vnd.oci.empty.v1+json"},
		Subject: &ocispec.Descriptor{MediaType: typeImage, Digest: a.subject, Size: imageSize}, Layers: []ocispec.Descriptor{layer},
	}
	return manifest, ocispec.Descriptor{MediaType: typeImage, Digest: named, Size: imageSize}, nil
}

// Index is part of verify.Repository. No image is an index.
func (r reader) Index(ctx context.Context, _ digest.Digest, _ int) (registry.Index, error) {
	return registry.Index{}, r.ask(ctx)
}

// Blob is part of verify.Repository. What an envelope holds, the world knows by its digest.
func (r reader) Blob(ctx context.Context, descriptor ocispec.Descriptor, _ int64) ([]byte, error) {
	if err := r.ask(ctx); err != nil {
		return nil, err
	}
	switch a := r.world.artifact(descriptor.Digest); {
	case a == nil:
		unusable := &registry.Error{Code: reason.RegistryInvalid, Text: "it names no blob"}
		return nil, errors.Join(unusable, registry.ErrUnusable)
	case a.attestation:
		return a.document(), nil
	}
	return make([]byte, descriptor.Size), nil
}

// enforced are the checks that each level enforces (Notary Project, trust store and trust policy specification).
var enforced = map[string]map[string]bool{
	"strict": {
		verification.CheckIntegrity: true, verification.CheckAuthenticity: true, verification.CheckAuthenticTimestamp: true,
		verification.CheckExpiry: true, verification.CheckRevocation: true,
	},
	"permissive": {verification.CheckIntegrity: true, verification.CheckAuthenticity: true},
	"audit":      {verification.CheckIntegrity: true},
}

// report is what notation-go would observe of a signature, under the clock of a replica.
func (w *World) report(ctx context.Context, task verification.Task, lookup verification.Lookup, clock time.Time) verification.Report {
	sleep(ctx, w.draw(time.Millisecond, 15*time.Millisecond))
	a, began := w.artifact(digest.Digest(lookup.Subject)), clock
	report := verification.Report{Began: began, Ended: ctx.Err() != nil, Enforced: enforced[task.Statement.Level]}
	if a.garbage {
		report.Problem = "the signature is invalid"
		report.Checks = []verification.CheckReport{{Name: verification.CheckIntegrity, Problem: report.Problem}}
		return report
	}
	who := people()[a.signer]
	report.Target = verification.Descriptor{MediaType: typeImage, Digest: a.target.String(), Size: imageSize}
	report.Scheme, report.SignedAt, report.Expiry, report.Chain = trust.SchemeX509, a.made, a.expiry, append(report.Chain, who.leaf, who.ca)
	check := func(name, problem string) bool {
		report.Checks = append(report.Checks, verification.CheckReport{Name: name, Problem: problem})
		if problem != "" && report.Enforced[name] {
			report.Problem = problem
			return false
		}
		return true
	}
	authenticity := ""
	if err := task.Stores.Usable(task.Statement, trust.StoreCA); err != nil {
		report.StoreUnusable, authenticity = true, err.Error()
	} else if err := task.Stores.Trust(task.Statement, trust.SchemeX509, report.Chain); err != nil {
		authenticity = err.Error()
	}
	if !check(verification.CheckIntegrity, "") || !check(verification.CheckAuthenticity, authenticity) {
		return report
	}
	if a.plugin && !w.askPlugin(&report) {
		return report
	}
	expired := ""
	if !a.expiry.IsZero() && !clock.Before(a.expiry) {
		expired = "the signature has expired"
	}
	if !check(verification.CheckExpiry, expired) || !check(verification.CheckAuthenticTimestamp, "") {
		return report
	}
	revoked := ""
	switch {
	case w.active(ocspDown, 0) != nil:
		revoked, report.Signing.Unknown = "revocation is unknown", true
	case w.revoked[a.signer].value(time.Now()):
		revoked, report.Signing.Revoked = "the certificate is revoked", true
	}
	report.FreshUntil = time.Now().Add(w.ocspPeriod)
	check(verification.CheckRevocation, revoked)
	return report
}

// askPlugin adds what the plugin says of a signature; false where that ends the verification.
func (w *World) askPlugin(report *verification.Report) bool {
	report.Attributes = []verification.Attribute{{Name: "io.cncf.notary.verificationPlugin", Named: true, Critical: true, Value: "venafi-csp"}}
	report.Plugin = verification.PluginReport{Name: "venafi-csp", Told: true, Version: "1"}
	if w.active(pluginDown, 0) != nil {
		report.Plugin.Failure, report.Problem = &reason.Finding{Code: reason.PluginFailed, Reason: "the plugin failed"}, "the plugin failed"
		return false
	}
	report.Plugin.Verified = true
	if w.plugin.value(time.Now()).refuses {
		report.Checks[1].Problem = "the plugin refuses the signature"
		if report.Enforced[verification.CheckAuthenticity] {
			report.Problem = report.Checks[1].Problem
			return false
		}
	}
	return true
}
