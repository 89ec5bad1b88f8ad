package verification

import (
	"fmt"
	"slices"
	"time"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Fact is what was found out about one Task. The zero value knows nothing, and denies.
type Fact struct {
	Digest       string             // of the manifest or index, "algorithm:hex"; "" when it was not resolved
	Failure      *reason.Finding    // why it ended early; nil when it ran to its end
	Warnings     []string           // what is doubtful about the digest and has to be told; empty when nothing is
	Signature    SignatureFact      // the image's own; zero when none was looked for, or none satisfied
	Attestations []AttestationsFact // in the order of Task.Attestations; shorter when it ended early
}

// SignatureFact is the outcome of verifying an artifact's signatures under a statement.
type SignatureFact struct {
	Verified   bool             // one signature satisfies the statement
	Skipped    bool             // the statement's level is skip, so nothing was looked at
	Signer     string           // subject of the leaf certificate; "" unless Verified
	SignedAt   time.Time        // signing time inside the verified signature; zero unless Verified
	ValidUntil time.Time        // from then on the signature would not verify any more; zero means no such bound
	FreshUntil time.Time        // from then on it is to be verified anew, however often it was used meanwhile; zero means no such bound
	Warnings   []string         // failures that the level only logs; empty for a clean verification
	Rejected   []reason.Finding // a finding per signature that was tried and did not satisfy
	Truncated  bool             // more signatures exist than may be tried

	// RevocationUnknown tells that revocation could not be looked up and that the level only logs so; false when it could
	// be, or when nothing asks for it.
	RevocationUnknown bool
}

// AttestationsFact is what was found out about the attestations of one type.
type AttestationsFact struct {
	Candidates []AttestationFact // referrers of the image's digest with the artifact type; empty when there are none
	Failure    *reason.Finding   // why they could not be listed; nil when they were
}

// AttestationFact is one referrer.
type AttestationFact struct {
	Digest        string          // of the referrer's manifest
	NotApplicable *reason.Finding // why it is no attestation of this image, or could not be looked at; nil when it is one
	Missing       *reason.Finding // why its manifest could not be had, so that nobody knows what it is; nil when it could
	Signature     SignatureFact   // of the referrer as an artifact of its own
	Evaluation    *Evaluation     // of its document; nil where no condition asks for it, or select leaves it out
	Unusable      *reason.Finding // why its document could not be had; nil when it could, or was not asked for
}

// AllWarnings is what stands against the image but does not deny it: what is doubtful about its digest, and what the level
// only logs of its signature and of its attestations'.
func (f Fact) AllWarnings() []string {
	warnings := slices.Concat(f.Warnings, f.Signature.Warnings)
	for _, found := range f.Attestations {
		for _, attestation := range found.Candidates {
			for _, text := range attestation.Signature.Warnings {
				warnings = append(warnings, fmt.Sprintf("attestation %s: %s", attestation.Digest, text))
			}
		}
	}
	return warnings
}

// trusted tells that an attestation counts.
func (a AttestationFact) trusted() bool {
	return a.NotApplicable == nil && a.Missing == nil && a.Signature.Verified
}

// Definitive tells whether a signature's outcome would be the same in a moment, and so may be kept: it verified, or
// nothing stood in the way of finding out that it does not.
func (s SignatureFact) Definitive() bool {
	if s.Verified {
		return !s.RevocationUnknown
	}
	return s.Skipped || !slices.ContainsFunc(s.Rejected, func(f reason.Finding) bool { return !f.Code.Definitive() })
}

// KeepUntil is the first moment at which the outcome may be another without anyone having changed anything; zero where
// there is none.
func (s SignatureFact) KeepUntil() time.Time { return earlier(s.ValidUntil, s.FreshUntil) }

// earlier gives the earlier of two bounds, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// freshnessOf tells how long the facts of a task may be kept, and the verdict that follows from them.
func freshnessOf(task Task, fact Fact, now time.Time) Freshness {
	finding := Check(task, fact, now)
	definitive := fact.Failure == nil && fact.Signature.Definitive() && (finding == nil || finding.Code.Definitive())
	until := fact.Signature.KeepUntil()
	dependent := false
	for _, found := range fact.Attestations {
		for _, candidate := range found.Candidates {
			until = earlier(until, candidate.Signature.KeepUntil())
			definitive = definitive && !candidate.Signature.RevocationUnknown
			dependent = dependent || candidate.Evaluation != nil && candidate.Evaluation.TimeDependent
		}
	}
	fresh := task.Limits.freshness(finding == nil, definitive, until)
	fresh.TimeDependent = dependent
	return fresh
}

// Weight is what a task's facts take of the memory, bytes: strangers wrote most of it.
func (f Fact) Weight() int {
	weight := f.Signature.weight()
	for _, found := range f.Attestations {
		weight += lo.SumBy(found.Candidates, func(c AttestationFact) int {
			return c.Signature.weight() + findingWeight(c.NotApplicable) + findingWeight(c.Missing) + findingWeight(c.Unusable) + c.Evaluation.weight()
		}) + findingWeight(found.Failure)
	}
	return weight
}

func (s SignatureFact) weight() int {
	return len(s.Signer) + lo.SumBy(s.Warnings, textWeight) + lo.SumBy(s.Rejected, func(f reason.Finding) int { return textWeight(f.Reason) })
}

func (e *Evaluation) weight() int {
	if e == nil {
		return 0
	}
	return findingWeight(e.Finding)
}

func findingWeight(f *reason.Finding) int {
	if f == nil {
		return 0
	}
	return textWeight(f.Reason)
}

// textWeight is a text's length, with what a list has for it.
func textWeight(text string) int { return len(text) + 32 }
