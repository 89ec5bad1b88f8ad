package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
	"github.com/nirmata/kyverno-notation-venafi/shell/fair"
)

// The three levels at which outcomes are kept and work is shared. Each key names everything on which its outcome
// depends beside the registry's content.

// timeout is the finding of a caller whose own time ran out before the work did.
func timeout() *reason.Finding { return &reason.Finding{Code: reason.Timeout, Reason: "time ran out"} }

// keep gives how long an outcome lasts.
func (g *Gatherer) keep(good, lasting bool, until time.Time) cache.Keep {
	switch {
	case !lasting:
		return cache.Keep{}
	case good:
		return cache.Keep{For: g.options.Keep, Until: until}
	}
	return cache.Keep{For: min(keepDenials, g.options.Keep), Until: until}
}

// resolution is a reference's descriptor, or why there is none.
type resolution struct {
	descriptor ocispec.Descriptor
	failure    *reason.Finding
	at         time.Time // of asking
	logged     []string
}

// resolved resolves the task's reference. What a digest stands for does not change; a tag may be moved.
func (g *Gatherer) resolved(ctx context.Context, a artifact) resolution {
	ref, key, keep := a.task.Ref, a.resolution(), g.options.Keep
	if ref.Digest == "" {
		keep = g.options.KeepTags
	}
	found, ok := cache.Do(ctx, g.outcomes, key, func(ctx context.Context) (resolution, cache.Keep) {
		asked := time.Now()
		descriptor, err := a.repository.Resolve(ctx, ref)
		if err != nil {
			return g.lastKnown(key, resolution{failure: findingOf(ctx, err)}), cache.Keep{}
		}
		found := resolution{descriptor: descriptor, at: asked}
		g.remember(key, found)
		return found, cache.Keep{For: keep}
	})
	if !ok {
		return resolution{failure: timeout()}
	}
	return found
}

// remember keeps a tag's digest for when its registry fails, if that is wanted.
func (g *Gatherer) remember(key cache.Key, found resolution) {
	if g.options.StaleTags && found.descriptor.Digest.String() != key.Subject {
		key.Kind = cache.Known
		cache.Put(g.outcomes, key, found, cache.Keep{For: g.options.Keep})
	}
}

// lastKnown lets a tag's last known digest stand in for one that could not be asked for. That there is no such image
// is an answer.
func (g *Gatherer) lastKnown(key cache.Key, failed resolution) resolution {
	key.Kind = cache.Known
	known, ok := cache.Peek[resolution](g.outcomes, key)
	if !ok || failed.failure.Code.Class() == reason.Denied {
		return failed
	}
	known.logged = []string{fmt.Sprintf("its tag was resolved %s ago, because now the registry failed: %s", time.Since(known.at).Round(time.Second), failed.failure.Reason)}
	return known
}

// verification is the outcome of verifying an image's signatures, or why there is none.
type verification struct {
	fact    core.SignatureFact
	failure *reason.Finding
}

// signed verifies the image's signatures.
func (g *Gatherer) signed(ctx context.Context, a artifact, image ocispec.Descriptor) verification {
	found, ok := cache.Do(ctx, g.outcomes, a.key(cache.Signature, image), func(ctx context.Context) (verification, cache.Keep) {
		if busy := g.enter(ctx, a); busy != nil {
			return verification{failure: busy}, cache.Keep{}
		}
		defer g.gate.Leave(a.task.Policy, a.task.Ref.Registry)
		fact, err := g.signatures(ctx, a, image)
		if err != nil {
			return verification{failure: findingOn(ctx, err, reason.SignatureInvalid)}, cache.Keep{}
		}
		if slices.ContainsFunc(fact.Rejected, func(f reason.Finding) bool { return f.Code == reason.SignatureMismatch }) {
			g.outcomes.Forget(a.resolution()) // size or media type may be what a proxy made of them
		}
		keep := g.keep(fact.Verified, fact.Lasting(), fact.KeepUntil())
		keep.Bytes = fact.Weight()
		return verification{fact: fact}, keep
	})
	if !ok {
		return verification{failure: timeout()}
	}
	return found
}

// attested gathers the attestations of one type, and settles whether they meet the demand. What was kept and depends on
// the moment is settled anew. Where it does not meet the demand any more, others may have been attached since.
func (g *Gatherer) attested(ctx context.Context, a artifact, image ocispec.Descriptor, demand core.AttestationType) core.AttestationsFact {
	key := a.key(cache.Attestation, image)
	key.Demand = demand.Identity()
	found, kept := cache.Peek[core.AttestationsFact](g.outcomes, key)
	if !kept {
		found = g.attestations(ctx, a, image, demand, key)
	} else if len(found.Candidates) > 0 {
		met := found.Met()
		if found = g.settledAnew(ctx, a, image, demand, found); met && found.Lasting() && !found.Met() {
			g.outcomes.Forget(key)
			found = g.attestations(ctx, a, image, demand, key)
		}
	}
	found.Candidates = nil // they are settled, and payloads may be large
	return found
}

// attestations gathers those of one type, or waits for someone who does.
func (g *Gatherer) attestations(ctx context.Context, a artifact, image ocispec.Descriptor, demand core.AttestationType, key cache.Key) core.AttestationsFact {
	found, ok := cache.Do(ctx, g.outcomes, key, func(ctx context.Context) (core.AttestationsFact, cache.Keep) {
		if busy := g.enter(ctx, a); busy != nil {
			return core.AttestationsFact{Failure: busy}, cache.Keep{}
		}
		defer g.gate.Leave(a.task.Policy, a.task.Ref.Registry)
		found := g.attestationsOfType(ctx, a, image, demand)
		if found.Settled != nil && found.Settled.Clocked && len(found.Candidates) == 0 {
			return found, cache.Keep{} // it cannot be settled anew
		}
		keep := g.keep(found.Met(), found.Lasting(), found.KeepUntil())
		keep.Bytes = found.Weight()
		return found, keep
	})
	if !ok {
		return core.AttestationsFact{Failure: timeout()}
	}
	return found
}

// enter waits for the turn of the task's trust policy. What has been kept needs no turn, so that a burst of what has not
// does not hold it up.
func (g *Gatherer) enter(ctx context.Context, a artifact) *reason.Finding {
	switch err := g.gate.Enter(ctx, a.task.Policy, a.task.Ref.Registry); {
	case errors.Is(err, fair.ErrFull):
		return &reason.Finding{Code: reason.Overloaded, Reason: "the service has too many images to verify; try again"}
	case err != nil:
		return &reason.Finding{Code: reason.Overloaded, Reason: "time ran out while other images were verified; try again"}
	}
	return nil
}

// resolution names what the task's reference stands for.
func (a artifact) resolution() cache.Key {
	ref := a.task.Ref
	return cache.Key{Kind: cache.Resolution, Repository: ref.Name(), Subject: lo.CoalesceOrEmpty(ref.Digest, ref.Tag)}
}

// key names an outcome under the task's trust.
func (a artifact) key(kind cache.Kind, image ocispec.Descriptor) cache.Key {
	return cache.Key{
		Kind: kind, Repository: a.task.Ref.Name(), Subject: image.Digest.String(),
		Policy: a.task.Policy, Revision: a.task.Revision, Plugins: a.plugins,
	}
}
