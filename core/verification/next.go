package verification

import (
	"math"
	"slices"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// Next gives the lookups to make next for an image, or the outcome. The same task, evidence and time give the same step.
func Next(task Task, evidence Evidence, now time.Time) Step {
	c := &course{task: task, evidence: evidence, listed: map[ofSubject]listed{}, room: math.MaxInt}
	fact, known := c.fact()
	if known {
		return Step{Outcome: &Outcome{Fact: fact, Freshness: FreshFact(task, fact, now)}}
	}
	return Step{Lookups: c.open}
}

// Resolution is the lookup that resolves the tag of a task, before all other lookups. There is none for an image that is named
// by digest, nor for a task that needs no lookups.
func Resolution(task Task) (lookup Lookup, ok bool) {
	if task.needsNothing() || task.Ref.Digest != "" {
		return Lookup{}, false
	}
	return Lookup{Kind: Resolve, Repository: task.Ref.Name(), Subject: task.Ref.Tag}, true
}

// Key is the key under which the facts of a task may be cached and shared between requests. resolved is the answer to the task's
// [Resolution]; its warnings belong to this task only and are not cached with the facts. ok is false where the digest could not
// be found out, and for a task that needs no lookups.
func Key(task Task, resolved Answer) (key Lookup, ok bool) {
	digest := task.Ref.Digest
	if digest == "" {
		digest = resolved.Descriptor.Digest
	}
	if task.needsNothing() || resolved.Failure != nil || digest == "" {
		return Lookup{}, false
	}
	return Lookup{Kind: Conclude, Repository: task.Ref.Name(), Subject: digest, Trust: task.trust(), Demand: task.demands(), Platforms: task.Platforms.String()}, true
}

// needsNothing is true for a task without lookups: the level is skip, and no attestations are required.
func (t Task) needsNothing() bool {
	return t.Statement.Level == trust.LevelSkip && len(t.Attestations) == 0
}

// course is one pass through a verification, as far as the evidence reaches.
type course struct {
	task     Task
	evidence Evidence
	open     []Lookup        // needed but not answered yet
	asked    map[Lookup]bool // an index of the first lookups in open; nil until open has fewOpen lookups
	listed   map[ofSubject]listed
	room     int // attestations that may be looked at yet
}

// ask gives the answer to a lookup, or adds it to the open ones.
func (c *course) ask(lookup Lookup) (Answer, bool) {
	answer, known := c.evidence[lookup]
	if !known && !c.isOpen(lookup) {
		c.open = append(c.open, lookup)
	}
	return answer, known
}

// fewOpen is a number of lookups up to which a search of the list is faster than a map.
const fewOpen = 16

func (c *course) isOpen(lookup Lookup) bool {
	if len(c.open) < fewOpen {
		return slices.Contains(c.open, lookup)
	}
	if c.asked == nil {
		c.asked = map[Lookup]bool{}
	}
	for _, open := range c.open[len(c.asked):] {
		c.asked[open] = true
	}
	return c.asked[lookup]
}

// maxBeside bounds the attestations, and the lists of them, that are looked at as long as it is open whether the image is
// signed: anyone may attach many to an image that is not.
const maxBeside = 8

// fact walks through the whole course. What an image's signatures deny, its attestations cannot mend: a few are looked at
// while the signatures are, and the others only once one satisfies.
func (c *course) fact() (fact Fact, known bool) {
	skip := c.task.Statement.Level == trust.LevelSkip
	if c.task.needsNothing() {
		return Fact{Signature: SignatureFact{Skipped: true}}, true
	}
	image, warnings, failure, known := c.image()
	if !known || failure != nil {
		return Fact{Failure: failure}, known
	}
	fact = Fact{Digest: image.Digest, Warnings: warnings, Signature: SignatureFact{Skipped: skip}}
	byPlatform := !skip && !c.task.Platforms.None()
	if byPlatform { // beside the list of signatures, so that it takes no round of its own
		c.ask(c.index(image.Digest))
	}
	if !skip {
		var denied bool
		if fact.Signature, fact.Failure, denied = c.imageSignature(image); denied {
			return fact, len(c.open) == 0
		}
	}
	if !skip && !fact.Signature.Verified {
		c.speculative(image.Digest)
		return fact, false
	}
	for _, demand := range c.task.Attestations {
		fact.Attestations = append(fact.Attestations, c.attestations(image.Digest, demand))
	}
	if byPlatform {
		fact.Index = c.platforms(image.Digest)
	}
	return fact, len(c.open) == 0
}

// speculative walks through the first attestations of an image, or of a manifest of its index, of which the signatures are still open.
func (c *course) speculative(image string) {
	c.room = maxBeside
	for _, demand := range c.task.Attestations[:min(maxBeside, len(c.task.Attestations))] {
		c.attestations(image, demand)
	}
}

// image gives the descriptor of the task's image. For an image that is named by digest, it has the digest only.
func (c *course) image() (image Descriptor, warnings []string, failure *reason.Finding, known bool) {
	resolution, byTag := Resolution(c.task)
	if !byTag {
		return Descriptor{Digest: c.task.Ref.Digest}, nil, nil, true
	}
	answer, known := c.ask(resolution)
	if !known || answer.Failure == nil {
		return answer.Descriptor, answer.Warnings, nil, known
	}
	return Descriptor{}, nil, &answer.Failure.Finding, true
}

// imageSignature verifies the image's own signatures. For an image that is named by digest and has no signature, it checks
// that the image exists. If it is there and cannot be read, who pushed it is to blame, and it is not signed.
func (c *course) imageSignature(image Descriptor) (fact SignatureFact, failure *reason.Finding, denied bool) {
	fact, failed, known := c.signatures(artifact{Descriptor: image, describable: true, several: c.several()})
	switch {
	case !known:
		return fact, nil, false
	case failed != nil:
		return fact, failed.as(reason.SignatureInvalid), true
	case fact.Verified:
		return fact, nil, false
	case c.task.Ref.Digest != "" && len(fact.Rejected) == 0:
		answer, known := c.ask(c.describe(image.Digest))
		if known && answer.Failure != nil && !answer.Failure.Unusable {
			return fact, &answer.Failure.Finding, true
		}
	}
	return fact, nil, true
}

func (c *course) describe(digest string) Lookup {
	return Lookup{Kind: Describe, Repository: c.task.Ref.Name(), Subject: digest}
}

// manifest is that of a signature or attestation.
func (c *course) manifest(digest string) Lookup {
	return Lookup{Kind: Manifest, Repository: c.task.signatureRepository(), Subject: digest}
}

// referrers lists the referrers of a type. With several, one lookup lists all types at once; where that list is partial, each
// type is listed by itself.
func (c *course) referrers(digest, artifactType string, several bool) (found []Referrer, truncated bool, failure *Failure, known bool) {
	lookup := Lookup{Kind: List, Repository: c.task.signatureRepository(), Subject: digest}
	if !several {
		lookup.Type = artifactType
	}
	answer, known := c.ask(lookup)
	if known && answer.List.Partial {
		lookup.Type = artifactType
		answer, known = c.ask(lookup)
	}
	if !known || answer.Failure != nil {
		return nil, false, answer.Failure, known
	}
	found, truncated = answer.List.ofType(artifactType, c.task.Limits.MaxReferrers)
	return found, truncated || answer.List.Truncated, nil, true
}

// several tells whether the task needs more than one type of the image's referrers.
func (c *course) several() bool {
	first := ""
	if c.task.Statement.Level != trust.LevelSkip {
		first = TypeSignature
	}
	for _, demand := range c.task.Attestations {
		if first != "" && demand.Name != first {
			return true
		}
		first = demand.Name
	}
	return false
}

// ofType gives the entries that are of a type or may be, each digest once, at most so many, and whether there are more.
func (l Referrers) ofType(artifactType string, most int) (found []Referrer, truncated bool) {
	listed := make(map[string]bool, min(len(l.Entries), most))
	for _, entry := range l.Entries {
		if entry.ArtifactType != artifactType && !entry.Unspecific || listed[entry.Digest] {
			continue
		}
		if len(found) == most {
			return found, true
		}
		listed[entry.Digest] = true
		found = append(found, entry)
	}
	return found, false
}
