package verification

import (
	"fmt"
	"mime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// Bounds on attestations.
const (
	// MaxDocument bounds an attestation's document, compressed and not; bytes.
	MaxDocument = 32 << 20

	// maxEarlyDocument bounds a document that is read before its signature is verified, bytes, and maxEarly their number per
	// type, since anyone with push rights may attach any number.
	maxEarlyDocument = 1 << 20
	maxEarly         = 4

	// maxMediaType bounds a media type with its parameters; bytes. RFC 6838 section 4.2 allows names of 127 each.
	maxMediaType = 512
)

// attestations walks through the attestations of one type, and through their documents for one demand.
func (c *course) attestations(image string, demand AttestationType) AttestationsFact {
	of := ofSubject{image, demand.Name}
	listed, done := c.listed[of]
	if !done {
		listed = c.candidates(image, demand.Name)
		c.listed[of] = listed
	}
	if listed.failure != nil {
		return AttestationsFact{Failure: listed.failure}
	}
	found := slices.Clone(listed.found) // other demands have documents of their own
	if !demand.Conditions.Empty() && !listed.partial {
		c.documents(demand, found)
	}
	fact := AttestationsFact{}
	if len(c.open) > 0 {
		return fact // which nobody reads before all is known
	}
	for _, candidate := range found {
		fact.Candidates = append(fact.Candidates, candidate.AttestationFact)
	}
	return fact
}

// ofSubject names the attestations of one type of an image, or of a manifest of its index.
type ofSubject struct{ digest, artifactType string }

// listed is what the attestations of one type come to, before their documents are looked at.
type listed struct {
	found   []candidate
	partial bool            // there are more, for which there was no room
	failure *reason.Finding // why they could not be listed; nil when they were
}

// candidates walks through the attestations of one type up to their documents, once for all demands of the type.
func (c *course) candidates(image, artifactType string) listed {
	entries, truncated, failure, known := c.referrers(image, artifactType, c.several())
	switch {
	case !known:
		return listed{}
	case failure != nil:
		return listed{failure: failure.as(reason.AttestationInvalid)}
	case truncated:
		return listed{failure: &reason.Finding{
			Code:   reason.TooManyReferrers,
			Reason: fmt.Sprintf("it has more than %d attestations of type %q; remove stale ones or raise --maxReferrers", len(entries), artifactType),
		}}
	}
	found := make([]candidate, min(len(entries), c.room))
	c.room -= len(found)
	for i := range found {
		found[i] = c.candidate(image, entries[i], artifactType)
	}
	return listed{found: found, partial: len(found) < len(entries)}
}

// candidate is a referrer under examination.
type candidate struct {
	AttestationFact
	layer Descriptor      // the document's
	unfit *reason.Finding // why it has no usable document; nil where it has one
	state state           // of its signatures
	early bool            // its last open lookup is that of a signature, so its document may be read beside it
}

// candidate examines a referrer. Its manifest must name the image as subject and have the artifact type, whatever the
// registry's list says; otherwise it does not count. A listed manifest that is missing denies the image only if it is signed,
// since anyone may list what does not exist.
func (c *course) candidate(image string, entry Referrer, artifactType string) (found candidate) {
	found.Digest = entry.Digest
	answer, known := c.ask(c.manifest(entry.Digest))
	signable := artifact{Descriptor: Descriptor{Digest: entry.Digest}}
	switch {
	case !known && entry.Unspecific:
		return found
	case !known:
	case answer.Failure != nil && answer.Failure.Absent:
		found.Missing = answer.Failure.as(reason.AttestationMissing)
		signable.Descriptor = entry.Descriptor
	case answer.Failure != nil:
		found.NotApplicable = answer.Failure.as(reason.AttestationInvalid)
	default:
		found.NotApplicable = notApplicable(answer.Manifest, image, entry.Digest, artifactType)
		found.layer, found.unfit = documentLayer(answer.Manifest)
		signable.Descriptor = answer.Manifest.Descriptor
	}
	if found.NotApplicable != nil || known && c.task.Statement.Level == trust.LevelSkip {
		found.state = decided
		return found
	}
	if c.task.Statement.Level != trust.LevelSkip {
		c.signed(&found, signable, known)
	}
	return found
}

// signed verifies a candidate's signatures.
func (c *course) signed(found *candidate, signable artifact, manifestKnown bool) {
	before := len(c.open)
	if !manifestKnown { // only the list can be asked for: the rest depends on the manifest
		c.referrers(signable.Digest, TypeSignature, false)
		return
	}
	signature, failure, known := c.signatures(signable)
	if failure != nil {
		found.NotApplicable = failure.as(reason.AttestationMissing)
	}
	if known {
		found.Signature, found.state = signature, decided
		return
	}
	found.early = slices.ContainsFunc(c.open[before:], func(l Lookup) bool { return l.Kind == Signature })
}

// notApplicable says why a manifest is not an attestation of the type for the image; nil where it is one.
func notApplicable(manifest ManifestFacts, image, digest, artifactType string) *reason.Finding {
	switch {
	case manifest.Subject.Digest != image:
		return &reason.Finding{Code: reason.AttestationInvalid, Reason: fmt.Sprintf("attestation %s was made for another image", digest)}
	case manifest.ArtifactType != artifactType:
		return &reason.Finding{Code: reason.AttestationInvalid, Reason: fmt.Sprintf("attestation %s is of type %q, whatever the registry says", digest, reason.Clip(manifest.ArtifactType, reason.MaxName))}
	}
	return nil
}

// documents has the documents evaluated that select chooses among the trusted attestations. While signatures are still open,
// the choice is not known; then small documents, and only a few, are read beside the last lookup of their signature.
func (c *course) documents(demand AttestationType, found []candidate) {
	if slices.ContainsFunc(found, func(f candidate) bool { return f.state == open }) {
		c.earlyDocuments(demand, found)
		return
	}
	var trusted []AttestationFact
	for _, f := range found {
		if f.trusted() {
			trusted = append(trusted, f.AttestationFact)
		}
	}
	for _, one := range applySelect(demand.Select, trusted) {
		i := slices.IndexFunc(found, func(f candidate) bool { return f.Digest == one.Digest })
		c.document(demand, &found[i])
	}
}

func (c *course) earlyDocuments(demand AttestationType, found []candidate) {
	if demand.Select == SelectLatest && len(found) > 1 {
		return // only the latest one decides
	}
	n := 0
	for i, f := range found {
		if f.early && f.unfit == nil && f.layer.Size <= maxEarlyDocument && n < maxEarly {
			c.document(demand, &found[i])
			n++
		}
	}
}

// document looks up the evaluation of one document.
func (c *course) document(demand AttestationType, f *candidate) {
	if f.Unusable = f.unfit; f.unfit != nil {
		return
	}
	answer, known := c.ask(Lookup{
		Kind: Document, Repository: c.task.signatureRepository(), Subject: f.layer.Digest, MediaType: f.layer.MediaType, Size: f.layer.Size,
		Demand: demand.Identity(),
	})
	switch {
	case !known:
	case answer.Failure != nil:
		f.Unusable = answer.Failure.as(reason.AttestationInvalid)
	default:
		evaluation := answer.Document
		evaluation.Document = nil // it stays in the evidence
		f.Evaluation = &evaluation
	}
}

// documentLayer gives the single JSON layer of an attestation. The finding says why there is none.
func documentLayer(manifest ManifestFacts) (Descriptor, *reason.Finding) {
	if manifest.LayerCount != 1 {
		return Descriptor{}, unusable("it has %d layers; an attestation is one JSON document in one layer", manifest.LayerCount)
	}
	layer := manifest.Layers[0]
	switch {
	case len(layer.MediaType) > maxMediaType || !isJSON(layer.MediaType):
		return Descriptor{}, unusable("its layer has the media type %q; attach the document as application/json, or as another JSON type", reason.Clip(layer.MediaType, reason.MaxName))
	case digest.Digest(layer.Digest).Validate() != nil:
		return Descriptor{}, unusable("its layer has the digest %q, which is none", reason.Clip(layer.Digest, reason.MaxName))
	case layer.Size > MaxDocument || layer.Size < 0:
		return Descriptor{}, unusable("its payload is %d bytes; at most %d are read", layer.Size, MaxDocument)
	}
	return layer, nil
}

func unusable(format string, args ...any) *reason.Finding {
	return &reason.Finding{Code: reason.AttestationInvalid, Reason: reason.Clip(fmt.Sprintf(format, args...), 2*reason.MaxWords)}
}

// isJSON accepts JSON media types, also compressed ones by their suffix, and the default type of oras for files. The media
// type is only a claim: the document itself must be JSON.
func isJSON(mediaType string) bool {
	essence, _, err := mime.ParseMediaType(mediaType)
	if err != nil {
		return false
	}
	essence = strings.TrimSuffix(strings.TrimSuffix(essence, "+gzip"), "+zstd")
	return essence == "application/vnd.oci.image.layer.v1.tar" || strings.HasSuffix(essence, "/json") || strings.HasSuffix(essence, "+json") || strings.HasSuffix(essence, ".json")
}
