package core

import "time"

// Fact is what was found out about one Task. The zero value knows nothing, and denies.
type Fact struct {
	Digest       string             // of the manifest or index, "algorithm:hex"; "" when it was not resolved
	Failure      *Finding           // why gathering ended early; nil when it ran to its end
	Signature    SignatureFact      // the image's own; zero when none was looked for, or none satisfied
	Attestations []AttestationsFact // in the order of Task.Attestations; shorter when gathering ended early
}

// SignatureFact is the outcome of verifying an artifact's signatures under a statement.
type SignatureFact struct {
	Verified   bool      // one signature satisfies the statement
	Skipped    bool      // the statement's level is skip, so nothing was looked at
	Signer     string    // subject of the leaf certificate; "" unless Verified
	SignedAt   time.Time // signing time inside the verified signature; zero unless Verified
	ValidUntil time.Time // from then on the signature would not verify any more; zero means no such bound
	Logged     []string  // failures that the level only logs; empty for a clean verification
	Rejected   []Finding // a finding per signature that was tried and did not satisfy
	Limited    bool      // more signatures exist than may be tried
}

// AttestationsFact is what was found out about the attestations of one type.
type AttestationsFact struct {
	Candidates []AttestationFact // referrers of the image's digest with the artifact type; empty when there are none
	Failure    *Finding          // why they could not be gathered; nil when they were
}

// AttestationFact is one referrer.
type AttestationFact struct {
	Digest    string        // of the referrer's manifest
	Foreign   *Finding      // why it is no attestation of this image, or could not be looked at; nil when it is one
	Signature SignatureFact // of the referrer as an artifact of its own
	Payload   []byte        // its JSON document; nil where no condition asks for it
	Unusable  *Finding      // why Payload could not be had; nil when it could, or no condition asks for it
}
