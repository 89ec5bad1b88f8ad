package verification

import (
	"cmp"
	"fmt"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// TypeSignature is the artifact type of a signature (Notary Project, signature specification, section "Storage").
const TypeSignature = "application/vnd.cncf.notary.signature"

// The media types of envelopes.
const (
	mediaTypeJWS  = "application/jose+json"
	mediaTypeCOSE = "application/cose"
)

// artifact is an image or an attestation whose signatures are verified.
type artifact struct {
	Descriptor       // media type and size are zero while they are unknown
	describable bool // the descriptor is the registry's claim, and may be worked out from the content to make sure
	several     bool // its signatures are listed together with attestations
}

// signatures tries an artifact's signatures in the order of the list until one satisfies the statement. It looks up the first
// alone, and then as many in parallel as were tried in vain so far.
func (c *course) signatures(a artifact) (fact SignatureFact, failure *Failure, known bool) {
	entries, truncated, failure, known := c.referrers(a.Digest, TypeSignature, a.several)
	if !known || failure != nil {
		return SignatureFact{}, failure, known
	}
	var rejections []rejection
	undecided, passed := 0, 0
	for _, entry := range sortedLast(entries) {
		if len(rejections)+undecided == c.task.Limits.MaxSignatureAttempts {
			truncated = true
			break
		}
		satisfied, rejected, state := c.signature(a, entry)
		switch {
		case state == open:
			undecided++
		case undecided > 0: // earlier ones have precedence
		case state == passedOver:
			passed++
		case rejected == nil:
			return satisfied, nil, true
		default:
			rejections = append(rejections, rejection{entry.Digest, rejected})
		}
		if undecided > len(rejections)+passed {
			break
		}
	}
	if undecided > 0 {
		return SignatureFact{}, nil, false
	}
	return SignatureFact{Truncated: truncated, Rejected: lo.Map(rejections, rejection.finding)}, nil, true
}

// rejection is why a signature does not satisfy.
type rejection struct {
	digest string // of the signature's manifest
	why    *reason.Finding
}

// finding names the signature.
func (r rejection) finding(int) reason.Finding {
	return reason.Finding{Code: r.why.Code, Reason: reason.Clip(fmt.Sprintf("signature %s: %s", r.digest, r.why.Reason), 2*reason.MaxWords)}
}

// state of an examination.
type state int

const (
	open       state = iota // there are lookups to make
	passedOver              // it does not count
	decided
)

// signature verifies one entry of a list of signatures.
func (c *course) signature(a artifact, entry Referrer) (SignatureFact, *reason.Finding, state) {
	answer, known := c.ask(c.manifest(entry.Digest))
	if !known {
		return SignatureFact{}, nil, open
	}
	if entry.Unspecific {
		unfit := answer.Failure != nil && answer.Failure.Unusable && !answer.Failure.Absent
		if unfit || answer.Failure == nil && answer.Manifest.ArtifactType != TypeSignature {
			return SignatureFact{}, nil, passedOver // another kind of artifact is not a failed signature
		}
	}
	return c.envelope(a, entry, answer)
}

// envelope verifies the envelope of a signature manifest.
func (c *course) envelope(a artifact, entry Referrer, manifest Answer) (SignatureFact, *reason.Finding, state) {
	layer, rejected := envelopeLayer(entry.Digest, manifest)
	if rejected != nil {
		return SignatureFact{}, rejected, decided
	}
	answer, known := c.ask(Lookup{
		Kind: Signature, Repository: c.task.signatureRepository(), Subject: layer.Digest, MediaType: layer.MediaType, Size: layer.Size,
		Artifact: a.Digest, Trust: c.task.trust(),
	})
	if !known {
		return SignatureFact{}, nil, open
	}
	if answer.Failure != nil {
		return SignatureFact{}, answer.Failure.as(reason.SignatureInvalid), decided
	}
	if !answer.Signature.Fact.Verified {
		unknown := &reason.Finding{Code: reason.NotGathered, Reason: "it was not verified; try again"}
		return SignatureFact{}, cmp.Or(answer.Signature.Rejected, unknown), decided
	}
	rejected, known = c.mismatch(a, answer.Signature.Target, manifest.Manifest.Subject)
	switch {
	case !known:
		return SignatureFact{}, nil, open
	case rejected != nil:
		return SignatureFact{}, rejected, decided
	}
	return answer.Signature.Fact, nil, decided
}

// envelopeLayer finds the only layer of a signature manifest (Notary Project, signature specification, section "Storage").
func envelopeLayer(digest string, manifest Answer) (Descriptor, *reason.Finding) {
	unusable := func(format string, args ...any) (Descriptor, *reason.Finding) {
		return Descriptor{}, &reason.Finding{Code: reason.SignatureInvalid, Reason: reason.Clip(fmt.Sprintf(format, args...), reason.MaxWords)}
	}
	if manifest.Failure != nil {
		return Descriptor{}, manifest.Failure.as(reason.SignatureInvalid)
	}
	if n := manifest.Manifest.LayerCount; n != 1 {
		return unusable("signature manifest %s has %d layers; want one", digest, n)
	}
	layer := manifest.Manifest.Layers[0]
	if layer.MediaType != mediaTypeJWS && layer.MediaType != mediaTypeCOSE {
		return unusable("signature manifest %s has an envelope of the media type %q; want %q or %q", digest,
			reason.Clip(layer.MediaType, reason.MaxName), mediaTypeJWS, mediaTypeCOSE)
	}
	return layer, nil
}

// mismatch rejects a valid signature of another artifact: digest, media type and size must be the signed ones (Notary
// Project, signature specification, section "Signature Payload"). For an image that was named by digest the registry has not
// stated the last two; then the subject in the signature's manifest may stand in for them, since the digest covers the
// content. Where these differ from the signed ones, the descriptor is worked out from the content.
func (c *course) mismatch(a artifact, target, subject Descriptor) (rejected *reason.Finding, known bool) {
	rejected = &reason.Finding{Code: reason.SignatureMismatch, Reason: "it was made for another image"}
	said := a.Descriptor
	if said.MediaType == "" && said.Size == 0 {
		said = subject
	}
	switch {
	case target.Digest != a.Digest:
		return rejected, true
	case target == said:
		return nil, true
	case !a.describable:
		return rejected, true
	}
	answer, known := c.ask(c.describe(a.Digest))
	switch {
	case !known:
		return nil, false
	case answer.Failure != nil:
		return answer.Failure.as(reason.SignatureMismatch), true
	case answer.Descriptor == target:
		return nil, true
	}
	return rejected, true
}
