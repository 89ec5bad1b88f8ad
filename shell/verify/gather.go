// Package verify gathers the facts that the core decides on: it resolves images, verifies their signatures with
// notation-go and reads their attestations.
package verify

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/samber/lo"
	"golang.org/x/sync/semaphore"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
	"github.com/nirmata/kyverno-notation-venafi/shell/egress"
	"github.com/nirmata/kyverno-notation-venafi/shell/fair"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry"
)

// Options of a Gatherer.
type Options struct {
	MaxParallel          int           // images, and attestations of an image, that are worked on at once
	MaxSignatureAttempts int           // signatures of an artifact that are tried
	Keep                 time.Duration // for which outcomes are kept that speak for an image
	KeepTags             time.Duration // for which the digest of a tag is kept
	StaleTags            bool          // a tag's last digest stands in, up to Keep, where its registry fails
	MaxVerifications     int           // of images and attestation types at once, for all requests
	MaxQueued            int           // of those, how many wait their turn
	Egress               egress.Rule   // for the addresses that certificates name
	PluginsEvery         time.Duration // how often the installed plugins are looked at; 0 for at every request

	Now func() time.Time // that conditions see; nil is time.Now
}

// keepDenials is how long outcomes are kept that speak against an image: enough for a controller that tries again and
// again, short for a person who mends what was wrong.
const keepDenials = 10 * time.Second

// Gatherer gathers facts. Any number of requests may use it at once.
type Gatherer struct {
	options    Options
	registry   *registry.Client
	plugins    *plugin.Manager
	outcomes   *cache.Cache
	looked     atomic.Pointer[pluginsAt]
	gate       *fair.Gate          // shares verifications between trust policies
	beside     *semaphore.Weighted // artifacts that are looked at beside the first of each verification, of all together
	reading    *fair.Room          // payloads from when they are asked for until they are judged
	judging    *fair.Room          // payloads that are decoded
	retained   *semaphore.Weighted // bytes that stay until all of a type are judged, since they are judged anew later
	revocation revocationCheck
}

// New makes a gatherer. It keeps outcomes in the cache, which it closes with itself.
func New(client *registry.Client, plugins *plugin.Manager, outcomes *cache.Cache, options Options) (*Gatherer, error) {
	revocation, err := newRevocationCheck(options.Egress)
	if err != nil {
		return nil, err
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	return &Gatherer{
		options: options, registry: client, plugins: plugins, outcomes: outcomes,
		gate:       fair.New(options.MaxVerifications, options.MaxQueued),
		beside:     semaphore.NewWeighted(int64(options.MaxVerifications)),
		reading:    fair.NewRoom(readAtOnce, maxPayload),
		judging:    fair.NewRoom(judgedAtOnce, maxPayload),
		retained:   semaphore.NewWeighted(retainedAtOnce),
		revocation: revocation,
	}, nil
}

// Turns tells how many verifications are under way, wait, and were refused.
func (g *Gatherer) Turns() fair.Stats { return g.gate.Stats() }

// Close ends idle connections.
func (g *Gatherer) Close() {
	g.outcomes.Close()
	g.registry.Close()
	g.revocation.close()
}

// Gather gives one fact per task, in the order of the tasks. It never fails: what could not be found out is in
// the fact.
func (g *Gatherer) Gather(ctx context.Context, tasks []core.Task, snapshot trust.Snapshot) []core.Fact {
	facts := make([]core.Fact, len(tasks))
	plugins := g.pluginsRevision()
	g.each(len(tasks), nil, func(i int) {
		facts[i] = g.guarded(ctx, artifact{task: tasks[i], trust: snapshot, plugins: plugins, repository: g.registry.Repository(tasks[i].Ref)})
	})
	return facts
}

// pluginsAt is the revision of the plugins at a moment.
type pluginsAt struct {
	revision string
	at       time.Time
}

// pluginsRevision is of now, or of a moment ago. What is verified by a newer plugin under an older revision is not
// found under the newer one.
func (g *Gatherer) pluginsRevision() string {
	now := time.Now()
	if last := g.looked.Load(); last != nil && now.Sub(last.at) < g.options.PluginsEvery {
		return last.revision
	}
	revision := g.plugins.Revision()
	g.looked.Store(&pluginsAt{revision, now})
	return revision
}

// guarded turns a panic, in a library that parses what strangers wrote, into a fact that denies.
func (g *Gatherer) guarded(ctx context.Context, a artifact) (fact core.Fact) {
	defer func() {
		if r := recover(); r != nil {
			fact = core.Fact{Failure: &reason.Finding{Code: reason.NotGathered, Reason: reason.Clip(fmt.Sprintf("an internal error occurred: %v", r), reason.MaxWords)}}
		}
	}()
	return g.gather(ctx, a)
}

// artifact is what the artifacts of one task, the image and its attestations, have in common.
type artifact struct {
	task       core.Task
	trust      trust.Snapshot
	plugins    string // revision of the plugins
	repository *registry.Repository
}

func (g *Gatherer) gather(ctx context.Context, a artifact) core.Fact {
	skip := a.task.Statement.Level == trust.LevelSkip
	if skip && len(a.task.Attestations) == 0 {
		return core.Fact{Signature: core.SignatureFact{Skipped: true}}
	}
	image := g.resolved(ctx, a)
	if image.failure != nil {
		return core.Fact{Failure: image.failure}
	}
	fact := core.Fact{Digest: image.descriptor.Digest.String(), Logged: image.logged}
	if skip {
		fact.Signature.Skipped = true
	} else {
		signed := g.signed(ctx, a, image.descriptor)
		fact.Signature, fact.Failure = signed.fact, signed.failure
	}
	if skip || fact.Signature.Verified {
		fact.Attestations = lo.Map(a.task.Attestations, func(demand core.AttestationType, _ int) core.AttestationsFact {
			return g.attested(ctx, a, image.descriptor, demand)
		})
	}
	return fact
}

// signatures verifies an artifact's signatures one after the other until one satisfies the statement.
func (g *Gatherer) signatures(ctx context.Context, a artifact, subject ocispec.Descriptor) (core.SignatureFact, error) {
	manifests, limited, err := a.repository.Signatures(ctx, subject)
	if err != nil {
		return core.SignatureFact{}, err
	}
	fact := core.SignatureFact{Limited: limited}
	for _, manifest := range manifests {
		if len(fact.Rejected) == g.options.MaxSignatureAttempts {
			fact.Limited = true
			break
		}
		envelope, mediaType, err := a.repository.Envelope(ctx, manifest)
		if errors.Is(err, registry.ErrNoSignature) {
			continue // what else is attached does not count as a signature that fails
		}
		var verified core.SignatureFact
		var rejected *reason.Finding
		if err != nil {
			rejected = findingOn(ctx, err, reason.SignatureInvalid)
		} else {
			verified, rejected = g.signature(ctx, a, subject, envelope, mediaType)
		}
		if rejected == nil {
			return verified, nil
		}
		text := reason.Clip(fmt.Sprintf("signature %s: %s", manifest.Digest, rejected.Reason), 2*reason.MaxWords)
		fact.Rejected = append(fact.Rejected, reason.Finding{Code: rejected.Code, Reason: text})
		if ctx.Err() != nil {
			break
		}
	}
	return fact, nil
}

// findingOf reads the code that an error of the shell carries.
func findingOf(ctx context.Context, err error) *reason.Finding {
	var fromRegistry *registry.Error
	var fromPlugin *plugin.Error
	switch {
	case errors.As(err, &fromRegistry):
		return &reason.Finding{Code: fromRegistry.Code, Reason: fromRegistry.Text}
	case errors.As(err, &fromPlugin):
		return &reason.Finding{Code: fromPlugin.Code, Reason: fromPlugin.Text}
	case ctx.Err() != nil:
		return &reason.Finding{Code: reason.Timeout, Reason: "time ran out"}
	}
	return &reason.Finding{Code: reason.NotGathered, Reason: sentence(err)}
}

// findingOn is findingOf for an artifact that may be at fault itself, which is definitive and has the code given.
func findingOn(ctx context.Context, err error, fault reason.Code) *reason.Finding {
	finding := findingOf(ctx, err)
	if errors.Is(err, registry.ErrUnusable) {
		finding.Code = fault
	}
	return finding
}
