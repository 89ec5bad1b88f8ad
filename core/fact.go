package core

import (
	"slices"
	"time"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Fact is what was found out about one Task. The zero value knows nothing, and denies.
type Fact struct {
	Digest       string             // of the manifest or index, "algorithm:hex"; "" when it was not resolved
	Failure      *reason.Finding    // why gathering ended early; nil when it ran to its end
	Logged       []string           // what is doubtful about the digest and has to be told; empty when nothing is
	Signature    SignatureFact      // the image's own; zero when none was looked for, or none satisfied
	Attestations []AttestationsFact // in the order of Task.Attestations; shorter when gathering ended early
}

// SignatureFact is the outcome of verifying an artifact's signatures under a statement.
type SignatureFact struct {
	Verified   bool             // one signature satisfies the statement
	Skipped    bool             // the statement's level is skip, so nothing was looked at
	Signer     string           // subject of the leaf certificate; "" unless Verified
	SignedAt   time.Time        // signing time inside the verified signature; zero unless Verified
	ValidUntil time.Time        // from then on the signature would not verify any more; zero means no such bound
	FreshUntil time.Time        // from then on it should be verified anew, since revocation lists are; zero means no such bound
	Logged     []string         // failures that the level only logs; empty for a clean verification
	Rejected   []reason.Finding // a finding per signature that was tried and did not satisfy
	Limited    bool             // more signatures exist than may be tried

	// RevocationOpen tells that revocation could not be looked up and that the level only logs so; false when it could
	// be, or when nothing asks for it.
	RevocationOpen bool
}

// AttestationsFact is what was found out about the attestations of one type.
type AttestationsFact struct {
	Candidates []AttestationFact // referrers of the image's digest with the artifact type; empty when there are none
	Failure    *reason.Finding   // why they could not be gathered; nil when they were
	Settled    *Settlement       // what Settle made of the candidates, which are gone then or are judged anew; nil when it was not asked
}

// Settlement is the outcome of one attestation type, without what it was made from.
type Settlement struct {
	Finding   *reason.Finding // why the demand is not met; nil when it is
	Clocked   bool            // conditions read the clock, so that it is of its moment only
	Lasting   bool            // nothing stood in the way of finding it out
	KeepUntil time.Time       // from then on it may be another; zero means no such bound
	Logged    []string        // failures that the level only logs
}

// AttestationFact is one referrer.
type AttestationFact struct {
	Digest    string          // of the referrer's manifest
	Foreign   *reason.Finding // why it is no attestation of this image, or could not be looked at; nil when it is one
	Missing   *reason.Finding // why its manifest could not be had, so that nobody knows what it is; nil when it could
	Signature SignatureFact   // of the referrer as an artifact of its own
	Payload   []byte          // its JSON document; nil where no condition asks for it
	Judged    *Judgement      // what Judge made of Payload, which may be gone then; nil when it was not asked
	Unusable  *reason.Finding // why Payload could not be had; nil when it could, or no condition asks for it
}

// Lasting tells whether a signature's outcome would be the same in a moment, and so may be kept: it verified, or
// nothing stood in the way of finding out that it does not.
func (s SignatureFact) Lasting() bool {
	if s.Verified {
		return !s.RevocationOpen
	}
	return !s.Skipped && lasting(s.Rejected)
}

// Lasting tells the same of attestations that were settled, or could not be gathered.
func (found AttestationsFact) Lasting() bool {
	switch {
	case found.Settled != nil:
		return found.Settled.Lasting
	case found.Failure != nil:
		return found.Failure.Code.Definitive()
	}
	return false
}

// Met tells that attestations were settled, and met the demand at the moment at which they were.
func (found AttestationsFact) Met() bool { return found.Settled != nil && found.Settled.Finding == nil }

func (found AttestationsFact) revocationOpen() bool {
	return slices.ContainsFunc(found.Candidates, func(c AttestationFact) bool { return c.Signature.RevocationOpen })
}

// Weight is what a signature's outcome takes of the memory, bytes: strangers wrote most of it.
func (s SignatureFact) Weight() int {
	return len(s.Signer) + lo.SumBy(s.Logged, textWeight) + lo.SumBy(s.Rejected, func(f reason.Finding) int { return textWeight(f.Reason) })
}

// Weight is what attestations' outcome takes, once it is settled; their payloads too, if they are still there.
func (found AttestationsFact) Weight() int {
	weight := lo.SumBy(found.Candidates, func(c AttestationFact) int { return len(c.Payload) + c.Signature.Weight() })
	if found.Settled == nil {
		return weight
	}
	weight += lo.SumBy(found.Settled.Logged, textWeight)
	if found.Settled.Finding != nil {
		weight += textWeight(found.Settled.Finding.Reason)
	}
	return weight
}

// textWeight is a text's length, with what a list has for it.
func textWeight(text string) int { return len(text) + 32 }

// KeepUntil is the first moment at which the outcome may be another without anyone having changed anything; zero where
// there is none.
func (s SignatureFact) KeepUntil() time.Time { return earlier(s.ValidUntil, s.FreshUntil) }

// KeepUntil is the same of attestations.
func (found AttestationsFact) KeepUntil() time.Time {
	if found.Settled != nil {
		return found.Settled.KeepUntil
	}
	var first time.Time
	for _, c := range found.Candidates {
		first = earlier(first, c.Signature.KeepUntil())
	}
	return first
}

// earlier gives the earlier of two bounds, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func lasting(findings []reason.Finding) bool {
	return !slices.ContainsFunc(findings, func(f reason.Finding) bool { return !f.Code.Definitive() })
}
