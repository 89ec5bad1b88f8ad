package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/samber/lo"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/condition"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry"
)

// attestationsOfType looks at every referrer of the type, in parallel, and has the core judge the payloads of those that
// decide. Where that may be another judgement at another moment, what it was made from comes with it, unless it is too
// much.
func (g *Gatherer) attestationsOfType(ctx context.Context, a artifact, image ocispec.Descriptor, demand core.AttestationType) core.AttestationsFact {
	referrers, limited, err := a.repository.Referrers(ctx, image, demand.Name)
	if err != nil {
		return core.AttestationsFact{Failure: findingOn(ctx, err, reason.AttestationInvalid)}
	}
	if limited {
		return core.AttestationsFact{Failure: &reason.Finding{
			Code:   reason.TooManyReferrers,
			Reason: fmt.Sprintf("it has more than %d attestations of type %q; remove stale ones or raise --maxReferrers", len(referrers), demand.Name),
		}}
	}
	referrers = lo.UniqBy(referrers, func(d ocispec.Descriptor) string { return d.Digest.String() })
	candidates := make([]candidate, len(referrers))
	g.each(len(referrers), g.beside, func(i int) { candidates[i] = g.candidate(ctx, a, image, referrers[i], demand.Name) })
	now := g.options.Now()
	if !demand.Conditions.Empty() {
		defer g.forgetPayloads(candidates)
		g.judgeDecisive(ctx, a, demand, candidates, now)
	}
	found := core.AttestationsFact{Candidates: lo.Map(candidates, func(c candidate, _ int) core.AttestationFact { return c.fact })}
	settled := core.Settle(a.task, demand, found, image.Digest.String(), now, endOf(ctx))
	if slices.ContainsFunc(settled.Candidates, gone) {
		settled.Candidates = nil
	}
	return settled
}

// each calls a function for every index, a bounded number at once. What would be too many for the room that all share, if
// there is such a room, is done by the caller itself. A panic of one becomes one of the caller, whose guard would otherwise
// not see it.
func (g *Gatherer) each(n int, beside *semaphore.Weighted, do func(i int)) {
	if n == 1 {
		do(0)
		return
	}
	var panicked atomic.Pointer[any]
	guarded := func(i int) {
		defer func() {
			if r := recover(); r != nil {
				panicked.Store(&r)
			}
		}()
		do(i)
	}
	var group errgroup.Group
	group.SetLimit(g.options.MaxParallel)
	for i := range n {
		switch {
		case beside == nil:
			group.Go(func() error { guarded(i); return nil })
		case !beside.TryAcquire(1):
			guarded(i)
		default:
			group.Go(func() error { defer beside.Release(1); guarded(i); return nil })
		}
	}
	_ = group.Wait() // the functions give no errors
	if r := panicked.Load(); r != nil {
		panic(*r)
	}
}

// candidate is a referrer under examination. Of its manifest, which anyone may make large, it has only what leads to
// the payload.
type candidate struct {
	fact  core.AttestationFact
	layer ocispec.Descriptor // the payload's
	unfit *reason.Finding    // why there is no such layer; nil where there is one
}

// candidate verifies a referrer as an artifact of its own. Its manifest, which its digest vouches for, must name
// the image as subject and be of the type: what was made for another image, or as something else, does not count,
// whatever the registry lists. One that is listed and cannot be had counts against the image only if it is signed, since
// anyone may name what does not exist.
func (g *Gatherer) candidate(ctx context.Context, a artifact, image, referrer ocispec.Descriptor, artifactType string) candidate {
	c := candidate{fact: core.AttestationFact{Digest: referrer.Digest.String()}}
	manifest, fetched, err := a.repository.Manifest(ctx, referrer.Digest)
	switch {
	case errors.Is(err, registry.ErrAbsent):
		c.fact.Missing = findingOn(ctx, err, reason.AttestationMissing)
		fetched = referrer
	case err != nil:
		c.fact.Foreign = findingOn(ctx, err, reason.AttestationInvalid)
	default:
		c.fact.Foreign = foreign(manifest, image, referrer, artifactType)
		c.layer, c.unfit = payloadLayer(manifest.Layers)
	}
	if c.fact.Foreign != nil || a.task.Statement.Level == trust.LevelSkip {
		return c
	}
	if c.fact.Signature, err = g.signatures(ctx, a, fetched); err != nil {
		c.fact.Foreign = findingOn(ctx, err, reason.AttestationMissing)
	}
	return c
}

// foreign tells why a manifest is no attestation of the type for the image; nil where it is one.
func foreign(manifest ocispec.Manifest, image, referrer ocispec.Descriptor, artifactType string) *reason.Finding {
	declared := registry.ArtifactType(manifest)
	switch {
	case manifest.Subject == nil || manifest.Subject.Digest != image.Digest:
		return &reason.Finding{Code: reason.AttestationInvalid, Reason: fmt.Sprintf("attestation %s was made for another image", referrer.Digest)}
	case declared != artifactType:
		return &reason.Finding{Code: reason.AttestationInvalid, Reason: fmt.Sprintf("attestation %s is of type %q, whatever the registry says", referrer.Digest, reason.Clip(declared, reason.MaxName))}
	}
	return nil
}

// Bounds on the payloads that are in memory at once, bytes: of those that are read, as they come, which a registry may
// draw out, and of those that are judged, which takes no longer than computing does but several times the memory.
// retainedAtOnce bounds those that stay longer. An evaluation makes at most [condition.BytesPerByte] for each byte that it is
// given room for, so that all together make 512 MiB at most.
const (
	readAtOnce     = 3 * maxPayload
	judgedAtOnce   = maxPayload
	retainedAtOnce = 32 << 20
)

// judgeDecisive judges the trusted attestations that decide, each as soon as it is read.
func (g *Gatherer) judgeDecisive(ctx context.Context, a artifact, demand core.AttestationType, candidates []candidate, now time.Time) {
	trusted := lo.FilterMap(candidates, func(c candidate, _ int) (core.AttestationFact, bool) {
		return c.fact, c.fact.Foreign == nil && c.fact.Missing == nil && c.fact.Signature.Verified
	})
	decisive := lo.SliceToMap(core.Decisive(demand.Select, trusted), func(f core.AttestationFact) (string, bool) { return f.Digest, true })
	g.each(len(candidates), g.beside, func(i int) {
		if c := &candidates[i]; decisive[c.fact.Digest] {
			g.judge(ctx, a, demand, c, now)
		}
	})
}

// judge reads a payload and has it judged. It waits until there is room for it; of what is common to all, it has what
// is needed to compute only while it does.
func (g *Gatherer) judge(ctx context.Context, a artifact, demand core.AttestationType, c *candidate, now time.Time) {
	if c.fact.Unusable = c.unfit; c.unfit != nil {
		return
	}
	give, err := g.reading.Take(ctx, a.task.Policy, c.layer.Size)
	if err != nil {
		c.fact.Unusable = noRoom()
		return
	}
	defer give()
	data, err := a.repository.Blob(ctx, c.layer, maxPayload)
	if err != nil {
		c.fact.Unusable = findingOn(ctx, err, reason.AttestationInvalid)
		return
	}
	give, err = g.judging.Take(ctx, a.task.Policy, evaluatedSize(unpackedSize(data)))
	if err != nil {
		c.fact.Unusable = noRoom()
		return
	}
	defer give()
	g.judgeData(ctx, demand, data, c, now)
}

// judgeData has a payload judged as it came. Only one that has to be judged anew later stays, if there is room for that.
func (g *Gatherer) judgeData(ctx context.Context, demand core.AttestationType, data []byte, c *candidate, now time.Time) {
	document, err := decompress(data, endOf(ctx))
	switch {
	case ctx.Err() != nil:
		c.fact.Unusable = timeout()
		return
	case err != nil:
		c.fact.Unusable = unusable("its payload cannot be used: %v", err)
		return
	}
	judged := core.Judge(demand, document, now, endOf(ctx))
	c.fact.Judged = &judged
	if judged.Clocked && g.retained.TryAcquire(int64(len(document))) {
		c.fact.Payload = document
	}
}

// forgetPayloads gives back the room of those that stayed: they are kept, or not, from here on.
func (g *Gatherer) forgetPayloads(candidates []candidate) {
	g.retained.Release(lo.SumBy(candidates, func(c candidate) int64 { return int64(len(c.fact.Payload)) }))
}

// gone tells that an attestation cannot be judged at another moment.
func gone(attestation core.AttestationFact) bool {
	return attestation.Judged != nil && attestation.Judged.Clocked && attestation.Payload == nil
}

// settledAnew judges attestations that were gathered before, as of now.
func (g *Gatherer) settledAnew(ctx context.Context, a artifact, image ocispec.Descriptor, demand core.AttestationType, found core.AttestationsFact) core.AttestationsFact {
	give, err := g.judging.Take(ctx, a.task.Policy, evaluatedSize(sizeOfPayloads(found)))
	if err != nil {
		return core.AttestationsFact{Failure: noRoom()}
	}
	defer give()
	return core.Settle(a.task, demand, found, image.Digest.String(), g.options.Now(), endOf(ctx))
}

// evaluatedSize is the room that an evaluation of so many bytes takes: small ones may make as much as a larger one.
func evaluatedSize(payload int64) int64 { return max(payload, condition.SmallDocument) }

// endOf tells that a context has ended.
func endOf(ctx context.Context) func() bool { return func() bool { return ctx.Err() != nil } }

func sizeOfPayloads(found core.AttestationsFact) int64 {
	return lo.SumBy(found.Candidates, func(c core.AttestationFact) int64 { return int64(len(c.Payload)) })
}

func noRoom() *reason.Finding {
	return &reason.Finding{Code: reason.Overloaded, Reason: "time ran out while other attestations were read; try again"}
}
