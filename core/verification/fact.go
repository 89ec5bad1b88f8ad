package verification

import (
	"fmt"
	"slices"
	"time"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Fact has what was found out about one Task. The zero value has nothing, and denies.
type Fact struct {
	Digest       string             `json:"digest,omitzero"`       // of the manifest or index, "algorithm:hex"; "" when it was not resolved
	Failure      *reason.Finding    `json:"failure,omitzero"`      // why the verification was cut short; nil when it was not
	Warnings     []string           `json:"warnings,omitzero"`     // doubts about the digest, for the user; empty for none
	Signature    SignatureFact      `json:"signature,omitzero"`    // the image's own; zero when none was looked for, or none satisfied
	Attestations []AttestationsFact `json:"attestations,omitzero"` // in the order of Task.Attestations; shorter when the verification was cut short
	Index        *IndexFact         `json:"index,omitzero"`        // what its manifests came to; nil where Task.Platforms is none, and when the verification was cut short
}

// SignatureFact is the outcome of verifying an artifact's signatures under a statement.
type SignatureFact struct {
	Verified   bool             `json:"verified,omitzero"`   // one signature satisfies the statement
	Skipped    bool             `json:"skipped,omitzero"`    // the statement's level is skip, so nothing was looked at
	Signer     string           `json:"signer,omitzero"`     // subject of the leaf certificate; "" unless Verified
	SignedAt   time.Time        `json:"signedAt,omitzero"`   // signing time inside the verified signature; zero unless Verified
	ValidUntil time.Time        `json:"validUntil,omitzero"` // from then on the signature would not verify any more; zero means no such bound
	FreshUntil time.Time        `json:"freshUntil,omitzero"` // from then on it is to be verified anew, however often it was used meanwhile; zero means no such bound
	Warnings   []string         `json:"warnings,omitzero"`   // failures that the level only logs; empty for a clean verification
	Rejected   []reason.Finding `json:"rejected,omitzero"`   // a finding per signature that was tried and did not satisfy
	Truncated  bool             `json:"truncated,omitzero"`  // more signatures exist than may be tried

	// RevocationUnknown tells that revocation could not be looked up, which the level only logs; false when it could be, or
	// when the level skips it.
	RevocationUnknown bool `json:"revocationUnknown,omitzero"`

	Ends    []End    `json:"ends,omitzero"`    // known moments from which it stops verifying, or may; empty unless Limits.Lifetimes
	Anchors []Anchor `json:"anchors,omitzero"` // certificates of trust stores that it is trusted by; empty unless Limits.Lifetimes
}

// AttestationsFact is what was found out about the attestations of one type.
type AttestationsFact struct {
	Candidates []AttestationFact `json:"candidates,omitzero"` // referrers of the image's digest with the artifact type; empty when there are none
	Failure    *reason.Finding   `json:"failure,omitzero"`    // why they could not be listed; nil when they were
}

// AttestationFact is one referrer.
type AttestationFact struct {
	Digest        string          `json:"digest"`                 // of the referrer's manifest
	NotApplicable *reason.Finding `json:"notApplicable,omitzero"` // why it is not an attestation of this image, or could not be examined; nil when it is one
	Missing       *reason.Finding `json:"missing,omitzero"`       // why its manifest is missing, so that its type is unknown; nil when it is not missing
	Signature     SignatureFact   `json:"signature,omitzero"`     // of the referrer as an artifact of its own
	Evaluation    *Evaluation     `json:"evaluation,omitzero"`    // of its document; nil where no condition asks for it, or select leaves it out
	Unusable      *reason.Finding `json:"unusable,omitzero"`      // why its document could not be had; nil when it could, or was not asked for
}

// AllWarnings gives the warnings that do not deny the image: doubts about its digest, and the failures that the level only
// logs, of its signature and of its attestations' signatures.
func (f Fact) AllWarnings() []string {
	warnings := slices.Concat(f.Warnings, f.Signature.Warnings)
	for _, manifest := range f.Manifests() {
		for _, text := range manifest.Signature.Warnings {
			warnings = append(warnings, manifest.named(text))
		}
	}
	for _, found := range f.AllAttestations() {
		for _, attestation := range found.Candidates {
			for _, text := range attestation.Signature.Warnings {
				warnings = append(warnings, fmt.Sprintf("attestation %s: %s", attestation.Digest, text))
			}
		}
	}
	return warnings
}

// trusted tells whether an attestation counts.
func (a AttestationFact) trusted() bool {
	return a.NotApplicable == nil && a.Missing == nil && a.Signature.Verified
}

// Definitive tells whether a signature's outcome would be the same a moment later, and so may be cached: it verified, or it was
// rejected for no transient reason.
func (s SignatureFact) Definitive() bool {
	if s.Verified {
		return !s.RevocationUnknown
	}
	return s.Skipped || !slices.ContainsFunc(s.Rejected, func(f reason.Finding) bool { return !f.Code.Definitive() })
}

// KeepUntil is when the outcome may change by the passing of time alone; zero for never.
func (s SignatureFact) KeepUntil() time.Time { return earlier(s.ValidUntil, s.FreshUntil) }

// earlier gives the earlier of two bounds; zero is no bound.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// FreshFact tells how long the facts of a task may be cached.
func FreshFact(task Task, fact Fact, now time.Time) Freshness {
	finding := Check(task, fact, now)
	definitive := fact.Failure == nil && fact.Signature.Definitive() && (finding == nil || finding.Code.Definitive())
	until := fact.Signature.KeepUntil()
	for _, manifest := range fact.Manifests() {
		until = earlier(until, manifest.Signature.KeepUntil())
		definitive = definitive && manifest.Signature.Definitive()
	}
	for _, found := range fact.AllAttestations() {
		for _, candidate := range found.Candidates {
			until = earlier(until, candidate.Signature.KeepUntil())
			definitive = definitive && !candidate.Signature.RevocationUnknown
		}
	}
	fresh := task.Limits.freshness(finding == nil, definitive, until)
	fresh.TimeDependent = fact.TimeDependent()
	return fresh
}

// TimeDependent tells whether a condition read the clock, so that the facts hold for their time only.
func (f Fact) TimeDependent() bool {
	for _, found := range f.AllAttestations() {
		for _, candidate := range found.Candidates {
			if candidate.Evaluation != nil && candidate.Evaluation.TimeDependent {
				return true
			}
		}
	}
	return false
}

// Weight is the memory that a task's facts take, bytes. Most of it is untrusted text.
func (f Fact) Weight() int {
	weight := f.Signature.weight()
	for _, manifest := range f.Manifests() {
		weight += 2*reason.MaxName + manifest.Signature.weight() + findingWeight(manifest.Failure)
	}
	for _, found := range f.AllAttestations() {
		weight += lo.SumBy(found.Candidates, func(c AttestationFact) int {
			return c.Signature.weight() + findingWeight(c.NotApplicable) + findingWeight(c.Missing) + findingWeight(c.Unusable) + c.Evaluation.weight()
		}) + findingWeight(found.Failure)
	}
	return weight
}

func (s SignatureFact) weight() int {
	const each = 100 // an end or an anchor, beside its subject
	lifetimes := lo.SumBy(s.Ends, func(e End) int { return each + len(e.Subject) }) + lo.SumBy(s.Anchors, func(a Anchor) int { return 2*each + len(a.Subject) })
	return lifetimes + len(s.Signer) + lo.SumBy(s.Warnings, textWeight) + lo.SumBy(s.Rejected, func(f reason.Finding) int { return textWeight(f.Reason) })
}

func (e *Evaluation) weight() int {
	if e == nil {
		return 0
	}
	return findingWeight(e.Finding) + lo.SumBy(e.Met, textWeight)
}

func findingWeight(f *reason.Finding) int {
	if f == nil {
		return 0
	}
	return textWeight(f.Reason)
}

// textWeight is the memory of a text in a list.
func textWeight(text string) int { return len(text) + 32 }
