package verification

import (
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// IndexFact is what was found out about the manifests of an index, for a task that chooses some by their platform.
type IndexFact struct {
	Single    bool            `json:"single,omitzero"`    // the image is no index, so there is nothing beside it
	Problem   *reason.Finding `json:"problem,omitzero"`   // why no manifests are chosen; nil where they are
	Manifests []PlatformFact  `json:"manifests,omitzero"` // those that are chosen, in the order of the index
}

// PlatformFact is what was found out about a manifest of an index.
type PlatformFact struct {
	Digest       string             `json:"digest"`
	Platform     image.Platform     `json:"platform,omitzero"`     // as the index says; zero where it does not
	Failure      *reason.Finding    `json:"failure,omitzero"`      // why its signatures could not be listed; nil when they were
	Signature    SignatureFact      `json:"signature,omitzero"`    // its own
	Attestations []AttestationsFact `json:"attestations,omitzero"` // its own, in the order of Task.Attestations
}

// Manifests are those of the index that are verified beside it.
func (f Fact) Manifests() []PlatformFact {
	if f.Index == nil {
		return nil
	}
	return f.Index.Manifests
}

// AllAttestations has what was found out about attestations, of the image and of the manifests of its index.
func (f Fact) AllAttestations() []AttestationsFact {
	all := f.Attestations
	for _, manifest := range f.Manifests() {
		all = append(all[:len(all):len(all)], manifest.Attestations...)
	}
	return all
}

// named puts the manifest's platform and digest before a text.
func (p PlatformFact) named(text string) string {
	return fmt.Sprintf("platform %s (%s): %s", reason.Clip(p.Platform.String(), reason.MaxName), p.Digest, text)
}

// against is a finding on the manifest.
func (p PlatformFact) against(finding *reason.Finding) *reason.Finding {
	return &reason.Finding{Code: finding.Code, Reason: p.named(finding.Reason)}
}

func (c *course) index(digest string) Lookup {
	return Lookup{Kind: Index, Repository: c.task.Ref.Name(), Subject: digest}
}

// platforms walks through the manifests of an index that the task chooses. It comes to them when a signature of the index
// satisfies, which says which manifests there are: anyone may push an index of many.
func (c *course) platforms(digest string) *IndexFact {
	answer, known := c.ask(c.index(digest))
	switch {
	case !known:
		return nil
	case answer.Failure != nil:
		return &IndexFact{Problem: answer.Failure.as(reason.IndexInvalid)}
	case !answer.Index.IsIndex:
		return &IndexFact{Single: true}
	}
	chosen, problem := c.task.choose(answer.Index)
	if problem != nil {
		return &IndexFact{Problem: problem}
	}
	fact := &IndexFact{}
	for _, child := range chosen {
		fact.Manifests = append(fact.Manifests, c.platform(child))
	}
	return fact
}

// platform walks through the verification of one manifest of an index. Its descriptor is the one that the index has, since that
// is what a container runtime goes by.
func (c *course) platform(child Child) PlatformFact {
	fact := PlatformFact{Digest: child.Digest, Platform: child.Platform}
	signature, failed, known := c.signatures(artifact{Descriptor: child.Descriptor, several: c.several()})
	switch {
	case !known:
		c.speculative(child.Digest)
		return fact
	case failed != nil:
		fact.Failure = failed.as(reason.SignatureInvalid)
		return fact
	}
	fact.Signature = signature
	if !signature.Verified {
		return fact
	}
	for _, demand := range c.task.Attestations {
		fact.Attestations = append(fact.Attestations, c.attestations(child.Digest, demand))
	}
	return fact
}

// choose gives the manifests of an index that the task chooses, each descriptor once. The finding says why there are none to
// verify: then the image is denied.
func (t Task) choose(index IndexFacts) (chosen []Child, problem *reason.Finding) {
	if index.Truncated {
		return nil, &reason.Finding{Code: reason.TooManyPlatforms, Reason: fmt.Sprintf("its index lists more than %d manifests, which are too many to verify by platform; push an index of fewer", MaxChildren)}
	}
	var listed []image.Platform
	seen := map[Descriptor]bool{}
	for _, child := range index.Children {
		listed = append(listed, child.Platform)
		if seen[child.Descriptor] || !t.Platforms.Choose(child.Platform) {
			continue
		}
		seen[child.Descriptor] = true
		if problem := child.problem(); problem != nil {
			return nil, problem
		}
		chosen = append(chosen, child)
	}
	missing := lo.Map(t.Platforms.Missing(listed), func(p image.Platform, _ int) string { return p.String() })
	switch {
	case len(missing) > 0:
		return nil, &reason.Finding{Code: reason.PlatformMissing, Reason: fmt.Sprintf("its index has no manifest for %s, which must be signed; push one, or choose other platforms", strings.Join(missing, ", "))}
	case len(chosen) == 0:
		return nil, &reason.Finding{Code: reason.PlatformMissing, Reason: "its index has no manifest for any platform; push one"}
	case len(chosen) > t.Limits.MaxPlatforms:
		return nil, &reason.Finding{Code: reason.TooManyPlatforms, Reason: fmt.Sprintf("its index has %d manifests that must be signed, and at most %d are verified; push an index of fewer, choose those platforms that run, or raise --maxPlatforms", len(chosen), t.Limits.MaxPlatforms)}
	}
	return chosen, nil
}

// problem says why an entry of an index cannot be verified; nil where it can. An index within an index is refused, since a
// container runtime may go on to any manifest in it.
func (c Child) problem() *reason.Finding {
	what := PlatformFact{Digest: reason.Clip(c.Digest, reason.MaxName), Platform: c.Platform}
	switch {
	case digest.Digest(c.Digest).Validate() != nil:
		return what.against(&reason.Finding{Code: reason.IndexInvalid, Reason: "its digest is none; push the index anew"})
	case c.MediaType == mediaTypeImageManifest || c.MediaType == mediaTypeDockerManifest:
		return nil
	}
	return what.against(&reason.Finding{Code: reason.IndexInvalid, Reason: fmt.Sprintf(
		"the index lists it with the media type %q, and only image manifests can be verified by platform, not an index in an index; push an index that lists image manifests", reason.Clip(c.MediaType, reason.MaxName))})
}

// Media types of image manifests (OCI image specification, and Docker's image manifest version 2, schema 2).
const (
	mediaTypeImageManifest  = "application/vnd.oci.image.manifest.v1+json"
	mediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
)

// byPlatform tells whether a task has manifests of indexes verified.
func (t Task) byPlatform() bool { return !t.Platforms.None() && t.Statement.Level != trust.LevelSkip }

// platformsSigned demands a signature of every manifest of the index that the task chooses, beside that of the index itself:
// without the latter anyone could put signed manifests of different versions together.
func platformsSigned(task Task, fact Fact, now time.Time) *reason.Finding {
	switch {
	case !task.byPlatform():
		return nil
	case fact.Index == nil || !fact.Index.Single && fact.Index.Problem == nil && len(fact.Index.Manifests) == 0:
		return &reason.Finding{Code: reason.NotGathered, Reason: "the manifests of its index were not looked at; try again"}
	case fact.Index.Problem != nil:
		return fact.Index.Problem
	}
	for _, manifest := range fact.Index.Manifests {
		finding := manifest.Failure
		if finding == nil {
			finding = notSatisfied(manifest.Signature, task, manifest.Digest, now)
		}
		if finding != nil {
			return manifest.against(finding)
		}
	}
	return nil
}

// platformsAttested demands every attestation type of every manifest that the task chooses. What is attached to the index counts
// for each of them, together with what is attached to the manifest itself.
func platformsAttested(task Task, fact Fact, now time.Time) *reason.Finding {
	for _, manifest := range fact.Index.Manifests {
		together := make([]AttestationsFact, 0, len(task.Attestations))
		for i := range min(len(fact.Attestations), len(manifest.Attestations)) {
			together = append(together, fact.Attestations[i].with(manifest.Attestations[i]))
		}
		if finding := attestedBy(task, together, manifest.Digest, now); finding != nil {
			return manifest.against(finding)
		}
	}
	return nil
}

// with gives the attestations of both. That one of them could not be listed leaves open what it would have said.
func (a AttestationsFact) with(other AttestationsFact) AttestationsFact {
	if a.Failure != nil {
		return a
	}
	if other.Failure != nil {
		return other
	}
	return AttestationsFact{Candidates: append(a.Candidates[:len(a.Candidates):len(a.Candidates)], other.Candidates...)}
}
