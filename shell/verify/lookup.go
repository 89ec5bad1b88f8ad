package verify

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
	"github.com/nirmata/kyverno-notation-venafi/shell/fair"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry"
	"github.com/nirmata/kyverno-notation-venafi/shell/tracing"
)

// answer gives the answer to a lookup, and records it where that is wanted.
func (c course) answer(ctx context.Context, lookup verification.Lookup) verification.Answer {
	if c.log == nil {
		answer, _ := c.ask(ctx, lookup)
		return answer
	}
	answer, asked := c.timed(ctx, lookup)
	c.log.add(asked)
	return answer
}

// timed is ask with what a record tells of it.
func (c course) timed(ctx context.Context, lookup verification.Lookup) (verification.Answer, Asked) {
	if c.recording == nil {
		answer, _ := c.ask(ctx, lookup)
		return answer, Asked{}
	}
	began := time.Now()
	answer, kept := c.ask(ctx, lookup)
	if kept {
		return answer, Asked{Lookup: lookup, Answer: answer, Kept: true, Began: began}
	}
	return answer, Asked{Lookup: lookup, Answer: answer, Kept: kept, Began: began, Took: time.Since(began)}
}

// ask gives the answer to a lookup: from the cache, from concurrent work, or by making it.
func (c course) ask(ctx context.Context, lookup verification.Lookup) (answer verification.Answer, kept bool) {
	if lookup.Kind == verification.Document && c.options.KeepContent == 0 { // not shared: it is evaluated within the budgets and the deadline of this request
		return c.lookUp(ctx, lookup), false
	}
	answer, kept = cache.Get[verification.Answer](c.outcomes, lookup)
	if !kept {
		answer = c.shared(ctx, lookup)
	}
	if answer.Document.TimeDependent && !answer.Document.At.Equal(c.now) { // evaluated for another time
		return c.lookUp(ctx, lookup), false
	}
	return answer, kept
}

// shared makes a lookup, or waits for a concurrent request that makes it.
func (c course) shared(ctx context.Context, lookup verification.Lookup) verification.Answer {
	answer, ok := cache.GetOrDo(ctx, c.outcomes, lookup, func(ctx context.Context) (verification.Answer, cache.Keep) {
		found, keep, share := c.fromOthers(ctx, lookup)
		if found != nil {
			c.remember(lookup, *found.Answer, found.From, c.options.Shared.Now())
			return *found.Answer, keep
		}
		answer := c.lookUp(ctx, lookup)
		share(&answer, nil)
		fresh := verification.Fresh(c.task, lookup, answer)
		return answer, cache.Keep{For: fresh.For, Until: fresh.Until, Bytes: answer.Weight()}
	})
	if !ok {
		return verification.Answer{Failure: timeout()}
	}
	return answer
}

func (c course) lookUp(ctx context.Context, lookup verification.Lookup) (answer verification.Answer) {
	ctx, span := tracing.Start(ctx, "lookup", lookup.Kind.String())
	defer func() { c.endLookup(span, lookup, answer) }()
	ctx = fair.WithTenant(ctx, c.task.Policy) // whoever waits for a registry waits in the queue of its trust policy
	switch lookup.Kind {
	case verification.Document:
		return c.document(ctx, lookup)
	case verification.Resolve:
		return c.resolve(ctx, lookup)
	case verification.Describe:
		return descriptorOf(ctx)(c.repository(lookup).Describe(ctx, digest.Digest(lookup.Subject)))
	case verification.List:
		return c.list(ctx, lookup)
	case verification.Manifest:
		return c.manifest(ctx, lookup)
	case verification.Index:
		return c.platforms(ctx, lookup)
	case verification.Signature:
		return c.signature(ctx, lookup)
	}
	return verification.Answer{Failure: &verification.Failure{Finding: reason.Finding{Code: reason.NotGathered, Reason: "nobody knows how to look up its " + lookup.Kind.String()}}}
}

func descriptorOf(ctx context.Context) func(ocispec.Descriptor, error) verification.Answer {
	return func(descriptor ocispec.Descriptor, err error) verification.Answer {
		if err != nil {
			return verification.Answer{Failure: failureOf(ctx, err)}
		}
		return verification.Answer{Descriptor: described(descriptor)}
	}
}

func described(descriptor ocispec.Descriptor) verification.Descriptor {
	return verification.Descriptor{MediaType: descriptor.MediaType, Digest: descriptor.Digest.String(), Size: descriptor.Size}
}

// known is the last answer for a tag, and when it was given.
type known struct {
	answer verification.Answer
	at     time.Time
}

// resolve resolves a tag. While its registry fails, the last known digest may stand in. That the image does not exist is an
// answer and no failure.
func (c course) resolve(ctx context.Context, lookup verification.Lookup) verification.Answer {
	asked := time.Now()
	answer := descriptorOf(ctx)(c.repository(lookup).Resolve(ctx, image.Reference{Tag: lookup.Subject}))
	if answer.Failure == nil {
		c.remember(lookup, answer, asked, asked)
		return answer
	}
	last := lookup
	last.Kind = verification.LastKnown
	before, ok := cache.Get[known](c.outcomes, last)
	if !ok || answer.Failure.Finding.Code.Class() == reason.Denied {
		return answer
	}
	text := fmt.Sprintf("its tag was resolved %s ago, because now the registry failed: %s", time.Since(before.at).Round(time.Second), answer.Failure.Finding.Reason)
	return verification.Answer{Descriptor: before.answer.Descriptor, Warnings: []string{text}}
}

// remember keeps what a tag resolved to at a time, in case that its registry fails later. now is by the same clock as that time. Where
// stale tags are not wanted, nothing is kept.
func (c course) remember(lookup verification.Lookup, answer verification.Answer, at, now time.Time) {
	if c.options.StaleTags {
		lookup.Kind = verification.LastKnown
		cache.Put(c.outcomes, lookup, known{answer, at}, cache.Keep{For: c.options.Keep - max(0, now.Sub(at))})
	}
}

func (c course) list(ctx context.Context, lookup verification.Lookup) verification.Answer {
	found, truncated, err := c.repository(lookup).Referrers(ctx, digest.Digest(lookup.Subject), lookup.Type)
	if err != nil {
		return verification.Answer{Failure: failureOf(ctx, err)}
	}
	list := verification.Referrers{Truncated: truncated && lookup.Type != "", Partial: truncated && lookup.Type == ""}
	for _, entry := range found {
		list.Entries = append(list.Entries, verification.Referrer{
			Descriptor: described(entry), ArtifactType: entry.ArtifactType, Unspecific: registry.Unspecific(entry.ArtifactType),
		})
	}
	return verification.Answer{List: list}
}

func (c course) manifest(ctx context.Context, lookup verification.Lookup) verification.Answer {
	manifest, descriptor, err := c.repository(lookup).Manifest(ctx, digest.Digest(lookup.Subject))
	if err != nil {
		return verification.Answer{Failure: failureOf(ctx, err)}
	}
	facts := verification.ManifestFacts{Descriptor: described(descriptor), ArtifactType: registry.ArtifactType(manifest), LayerCount: len(manifest.Layers)}
	if manifest.Subject != nil {
		facts.Subject = described(*manifest.Subject)
	}
	for _, layer := range manifest.Layers[:min(1, len(manifest.Layers))] {
		facts.Layers = append(facts.Layers, described(layer))
	}
	return verification.Answer{Manifest: facts}
}

// platforms reads what a manifest lists, if it is an index.
func (c course) platforms(ctx context.Context, lookup verification.Lookup) verification.Answer {
	index, err := c.repository(lookup).Index(ctx, digest.Digest(lookup.Subject), verification.MaxChildren)
	if err != nil {
		return verification.Answer{Failure: failureOf(ctx, err)}
	}
	facts := verification.IndexFacts{IsIndex: index.IsIndex, Truncated: index.Truncated}
	for _, child := range index.Manifests {
		facts.Children = append(facts.Children, verification.Child{Descriptor: described(child.Descriptor), Platform: child.Platform})
	}
	return verification.Answer{Index: facts}
}

// maxEnvelope bounds a signature envelope, bytes; real ones have a few thousand.
const maxEnvelope = 512 << 10

func (c course) signature(ctx context.Context, lookup verification.Lookup) verification.Answer {
	envelope, err := c.envelope(ctx, lookup)
	if err != nil {
		return verification.Answer{Failure: failureOf(ctx, err)}
	}
	report := c.verify(ctx, c, lookup, envelope)
	c.log.report(lookup, report)
	return verification.Answer{Signature: verification.Assess(c.task, report, c.now)}
}

// fetched is a blob, or why it could not be fetched.
type fetched struct {
	content []byte
	err     error
}

// envelope fetches a signature. It is cached where it will be verified under other trust too.
func (c course) envelope(ctx context.Context, lookup verification.Lookup) ([]byte, error) {
	key := verification.Lookup{Kind: verification.Envelope, Repository: lookup.Repository, Subject: lookup.Subject, MediaType: lookup.MediaType, Size: lookup.Size}
	if c.options.KeepContent == 0 {
		return c.repository(lookup).Blob(ctx, blobOf(key), maxEnvelope)
	}
	got, ok := cache.GetOrDo(ctx, c.outcomes, key, func(ctx context.Context) (fetched, cache.Keep) {
		content, err := c.repository(lookup).Blob(ctx, blobOf(key), maxEnvelope)
		if err != nil {
			return fetched{err: err}, cache.Keep{}
		}
		return fetched{content: content}, cache.Keep{For: c.options.KeepContent, Bytes: len(content)}
	})
	if !ok {
		return nil, context.DeadlineExceeded
	}
	return got.content, got.err
}

func blobOf(lookup verification.Lookup) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: lookup.MediaType, Digest: digest.Digest(lookup.Subject), Size: lookup.Size}
}

// concluded is the cached result of a task for a digest.
type concluded struct {
	fact     verification.Fact
	at       time.Time             // for which time dependent facts hold
	evidence verification.Evidence // of time dependent facts that can be evaluated again; nil for others
	again    *retention            // of the documents in evidence; nil where there is none
	decision string                // that it was worked out for; "" where that was not recorded
	refused  bool                  // nothing was worked out, since there was no seat

	elsewhere bool // another replica worked it out
}

// cachedFact gives the cached facts for a digest. Those that depend on the time are evaluated again from their cached evidence.
// If they admitted the image before and do not any more, they are to be looked up anew, since newer attestations may have been
// attached.
func (c course) cachedFact(ctx context.Context, key verification.Lookup) (fact verification.Fact, ok bool) {
	found, ok := cache.Get[concluded](c.outcomes, key)
	if !ok {
		return found.fact, false
	}
	c.recording.kept(c.index, found.decision)
	if found.evidence == nil {
		return found.fact, true
	}
	outcome := c.anew(ctx, found.evidence)
	admitted := func(f verification.Fact) bool { return verification.Check(c.task, f, c.now) == nil }
	if admitted(outcome.Fact) || !admitted(found.fact) || outcome.Freshness.For == 0 {
		return outcome.Fact, true
	}
	c.outcomes.Forget(key)
	return verification.Fact{}, false
}

// concluded makes the lookups for the facts of a digest, or waits for a concurrent request that makes them. In the background
// it waits before it begins: what has begun does not wait, since a request that comes later may share it.
func (c course) concluded(ctx context.Context, key verification.Lookup, evidence verification.Evidence, log *lookups) verification.Fact {
	c.recording.unfinished(c.index)
	if !c.awaitSpare(ctx) {
		return noSpare().fact
	}
	var own bool // this caller's work gave the facts
	found, ok := cache.GetOrDo(ctx, c.outcomes, key, func(ctx context.Context) (concluded, cache.Keep) {
		work := c // the work may go on without this caller
		work.log = log
		shared, keep, share := work.fromOthers(ctx, key)
		if shared != nil {
			return concluded{fact: *shared.Fact, decision: shared.Decision, elsewhere: true}, keep
		}
		found, keep := work.conclude(ctx, evidence)
		share(nil, &found.fact)
		found.decision, own = c.recording.decision(), true
		return found, keep
	})
	switch {
	case !ok:
		return verification.Fact{Failure: &timeout().Finding}
	case found.fact.TimeDependent() && !found.at.Equal(c.now):
		return c.forOwnTime(ctx, found, evidence, log)
	case found.elsewhere:
		c.recording.kept(c.index, found.decision)
	case !own:
		c.recording.shared(c.index, found.decision)
	case !found.refused:
		c.recording.workedOut(c.index, log)
	}
	return found.fact
}

// forOwnTime gives the facts for the time of this request, where a concurrent one has worked them out for another. It evaluates them again
// from the same evidence, if there is memory for its documents, which the other request does not retain any more. Otherwise they are worked
// out for this request alone, within its deadline and from a seat of its own.
func (c course) forOwnTime(ctx context.Context, found concluded, evidence verification.Evidence, log *lookups) verification.Fact {
	if found.evidence != nil && found.again.tryAcquire() {
		defer found.again.release()
		c.recording.shared(c.index, found.decision)
		return c.anew(ctx, found.evidence).Fact
	}
	if !c.awaitSpare(ctx) {
		return noSpare().fact
	}
	c.log = log
	alone, _ := c.conclude(ctx, evidence)
	if !alone.refused {
		c.recording.workedOut(c.index, log)
	}
	return alone.fact
}

// conclude waits for a seat in the queue of the task's trust policy, and works out the facts. Cached facts need no seat, so a
// burst of new images does not hold them up.
func (c course) conclude(ctx context.Context, evidence verification.Evidence) (concluded, cache.Keep) {
	switch err := c.acquire(ctx); {
	case errors.Is(err, fair.ErrFull):
		return busy("the service has too many images to verify; try again"), cache.Keep{}
	case err != nil:
		return busy("time ran out while other images were verified; try again"), cache.Keep{}
	}
	defer c.queue.Release(c.task.Policy, c.task.Ref.Registry)
	c.retained = &atomic.Int64{}
	defer func() { c.documents.retained.Release(c.retained.Load()) }() // documents are kept, or not, from here on
	outcome := c.run(ctx, evidence)
	keep := cache.Keep{For: outcome.Freshness.For, Until: outcome.Freshness.Until, Bytes: outcome.Fact.Weight()}
	switch {
	case !outcome.Freshness.TimeDependent:
		return concluded{fact: outcome.Fact}, keep
	case !evidence.Repeatable():
		return concluded{fact: outcome.Fact, at: c.now}, cache.Keep{}
	}
	keep.Bytes += evidence.Weight()
	again := &retention{of: c.documents.retained, bytes: int64(evidence.Weight())}
	return concluded{fact: outcome.Fact, at: c.now, evidence: evidence, again: again}, keep
}

// awaitSpare waits in the background until a seat is free that nobody waits for; false if ctx ends first.
func (c course) awaitSpare(ctx context.Context) bool {
	return !c.background || c.queue.AwaitSpare(ctx, c.task.Policy, c.task.Ref.Registry) == nil
}

func noSpare() concluded { return busy("other images were verified all the time; try again") }

// acquire waits for a seat.
func (c course) acquire(ctx context.Context) error {
	ctx, span := tracing.Start(ctx, "wait", "for a seat")
	defer span.End()
	return c.queue.Acquire(ctx, c.task.Policy, c.task.Ref.Registry)
}

func busy(text string) concluded {
	return concluded{fact: verification.Fact{Failure: &reason.Finding{Code: reason.Overloaded, Reason: text}}, refused: true}
}

// anew works out facts for the present time from evidence with cached documents.
func (c course) anew(ctx context.Context, evidence verification.Evidence) verification.Outcome {
	c.cached = evidence.Documents()
	return c.run(ctx, evidence.At(c.now))
}
