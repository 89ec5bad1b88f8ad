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

// artifact is what signatures are looked for: an image or an attestation.
type artifact struct {
	Descriptor       // media type and size are zero as long as they are not known
	describable bool // what is known of it is the registry's word, and its content may be read to make sure
	several     bool // it is listed with attestations
}

// signatures tries an artifact's signatures in the order of their list until one satisfies the statement. The first is
// looked at by itself, and then beside each other as many as were tried in vain.
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
		case undecided > 0: // those before it go first
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

// state of a look at something.
type state int

const (
	open       state = iota // there is something to look up
	passedOver              // it is nothing that counts
	decided
)

// signature looks at one entry of a list of signatures.
func (c *course) signature(a artifact, entry Referrer) (SignatureFact, *reason.Finding, state) {
	answer, known := c.ask(c.manifest(entry.Digest))
	if !known {
		return SignatureFact{}, nil, open
	}
	if entry.Unspecific {
		unfit := answer.Failure != nil && answer.Failure.Unusable && !answer.Failure.Absent
		if unfit || answer.Failure == nil && answer.Manifest.ArtifactType != TypeSignature {
			return SignatureFact{}, nil, passedOver // what else is attached does not count as a signature that fails
		}
	}
	return c.envelope(a, entry, answer)
}

// envelope looks at the envelope of a signature manifest.
func (c *course) envelope(a artifact, entry Referrer, manifest Answer) (SignatureFact, *reason.Finding, state) {
	layer, rejected := envelopeLayer(entry.Digest, manifest)
	if rejected != nil {
		return SignatureFact{}, rejected, decided
	}
	answer, known := c.ask(Lookup{
		Kind: Signature, Repository: c.task.Ref.Name(), Subject: layer.Digest, MediaType: layer.MediaType, Size: layer.Size,
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

// mismatch tells whether a signature that holds was made for another artifact: digest, media type and size must be the
// signed ones (Notary Project, signature specification, section "Signature Payload"). Of an image that was named by digest
// the registry has not said the last two. Then the signature manifest's word is enough, since the digest vouches for the
// content; where that is another one, or the registry has said something else, the content is read.
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
