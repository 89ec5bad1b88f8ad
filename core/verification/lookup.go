package verification

import (
	"fmt"
	"slices"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Kind is what a lookup asks for.
type Kind int

// The kinds.
const (
	Resolve   Kind = iota // the descriptor that a registry gives for a tag
	Describe              // the descriptor of a manifest, worked out from its content
	List                  // the manifests that refer to another one
	Manifest              // the content of a manifest
	Signature             // the report on the verification of an envelope
	Document              // the evaluation of conditions on an attestation's document
	Index                 // the manifests that a manifest lists, where it is an index
	Conclude              // the facts of a task whose digest is known; only a key for the cache
	LastKnown             // the last descriptor of a tag, for when its registry fails; only a key for the cache
	Envelope              // the content of a signature, to be verified under other trust too; only a key for the cache
	Kinds                 // the number of kinds
)

// String is the kind as a label of metrics.
func (k Kind) String() string {
	return [Kinds]string{"resolution", "description", "list", "manifest", "signature", "document", "index", "outcome", "known", "envelope"}[k]
}

// MarshalText is the kind in a record.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads a kind.
func (k *Kind) UnmarshalText(text []byte) error {
	for *k = 0; *k < Kinds; *k++ {
		if k.String() == string(text) {
			return nil
		}
	}
	return fmt.Errorf("%q is no kind of lookup", text)
}

// Lookup names one thing to look up. It has everything that the answer depends on, except for the content of the registry:
// equal lookups have the same answer. Fields that a kind does not use are zero.
type Lookup struct {
	Kind       Kind   `json:"kind"`
	Repository string `json:"repository"`           // canonical, "reg.example/acme/app", where it is looked up: the same digest may be signed in one and not in another
	Subject    string `json:"subject"`              // the tag, or the digest of the manifest or blob
	MediaType  string `json:"mediaType,omitzero"`   // of a blob, as its manifest says
	Size       int64  `json:"size,omitzero,string"` // of a blob, bytes, as its manifest says
	Type       string `json:"type,omitzero"`        // of a list: the artifact type that is listed; "" for all types
	Artifact   string `json:"artifact,omitzero"`    // of a signature: the digest that it refers to
	Trust      Trust  `json:"trust,omitzero"`       // of a signature and an outcome: what they are verified under
	Demand     string `json:"demand,omitzero"`      // of a document and an outcome: see [AttestationType.Identity]
	Platforms  string `json:"platforms,omitzero"`   // of an outcome: [Task.Platforms]
}

// Trust names what a signature is verified under.
type Trust struct {
	Policy   string `json:"policy,omitzero"`   // name of the trust policy, which outcomes mention
	Revision string `json:"revision,omitzero"` // of the trust policy statement and its trust stores
	Plugins  string `json:"plugins,omitzero"`  // of the installed plugins and their configuration
}

// Descriptor identifies content, and is what a signature signs (OCI image specification, section "Content Descriptors").
type Descriptor struct {
	MediaType string `json:"mediaType,omitzero"`
	Digest    string `json:"digest,omitzero"`      // "algorithm:hex"
	Size      int64  `json:"size,omitzero,string"` // bytes
}

// Answer is the result of a lookup: the field of its kind, unless it failed.
type Answer struct {
	Failure    *Failure      `json:"failure,omitzero"`
	Descriptor Descriptor    `json:"descriptor,omitzero"` // Resolve, Describe
	Warnings   []string      `json:"warnings,omitzero"`   // Resolve: doubts about the descriptor; empty for none
	List       Referrers     `json:"list,omitzero"`
	Manifest   ManifestFacts `json:"manifest,omitzero"`
	Signature  Assessment    `json:"signature,omitzero"`
	Document   Evaluation    `json:"document,omitzero"`
	Index      IndexFacts    `json:"index,omitzero"`
}

// Weight is the memory that an answer takes, bytes. Most of it is untrusted text.
func (a Answer) Weight() int {
	const entry = 400 // of a list, with its texts
	return entry*(len(a.List.Entries)+len(a.Index.Children)) + len(a.Document.Document) + a.Signature.Fact.weight() + findingWeight(a.Signature.Rejected)
}

// Failure says why a lookup has no result.
type Failure struct {
	Finding  reason.Finding `json:"finding"`
	Unusable bool           `json:"unusable,omitzero"` // the artifact's fault, since its digest holds, and not the registry's
	Absent   bool           `json:"absent,omitzero"`   // the registry does not have the named artifact, or it is too large to be read
}

// as gives the finding, with another code where it is the artifact's fault.
func (f *Failure) as(code reason.Code) *reason.Finding {
	finding := f.Finding
	if f.Unusable {
		finding.Code = code
	}
	return &finding
}

// Referrers lists the manifests that refer to a manifest, each digest once per artifact type.
type Referrers struct {
	Entries   []Referrer `json:"entries,omitzero"`
	Truncated bool       `json:"truncated,omitzero"` // a list of one type: there are more than may be listed
	Partial   bool       `json:"partial,omitzero"`   // a list of all types: there are more, since only the first page was read
}

// Referrer is an entry of such a list. Its fields are claims of the registry, or of the client that pushed it.
type Referrer struct {
	Descriptor
	ArtifactType string `json:"artifactType,omitzero"`
	Unspecific   bool   `json:"unspecific,omitzero"` // the artifact type says nothing about the artifact: only the manifest tells its type
}

// ManifestFacts has the parts of an image manifest that decisions depend on. The manifest itself may be large.
type ManifestFacts struct {
	Descriptor   Descriptor   `json:"descriptor,omitzero"` // of the content
	ArtifactType string       `json:"artifactType,omitzero"`
	Subject      Descriptor   `json:"subject,omitzero"` // zero where it has none
	Layers       []Descriptor `json:"layers,omitzero"`  // the first, where there is one
	LayerCount   int          `json:"layerCount,omitzero"`
}

// IndexFacts has what a manifest lists, where it is an index.
type IndexFacts struct {
	IsIndex   bool    `json:"isIndex,omitzero"`
	Children  []Child `json:"children,omitzero"`  // in the order of the index, at most MaxChildren
	Truncated bool    `json:"truncated,omitzero"` // it lists more
}

// MaxChildren bounds the entries of an index that is verified by platform.
const MaxChildren = 256

// Child is an entry of an index. Its fields are those of the index, which its digest vouches for.
type Child struct {
	Descriptor
	Platform image.Platform `json:"platform,omitzero"` // as it is written; zero where the index does not say it
}

// Evidence has the answers so far.
type Evidence map[Lookup]Answer

// Documents gives the documents that were kept to be evaluated again for another time.
func (e Evidence) Documents() map[Lookup][]byte {
	documents := map[Lookup][]byte{}
	for lookup, answer := range e {
		if answer.Document.Document != nil {
			documents[lookup] = answer.Document.Document
		}
	}
	return documents
}

// Weight is the memory that the evidence takes, bytes.
func (e Evidence) Weight() (weight int) {
	const each = 1000 // a lookup, with its texts
	for _, answer := range e {
		weight += each + answer.Weight()
	}
	return weight
}

// At gives the evidence without time dependent evaluations for other times.
func (e Evidence) At(now time.Time) Evidence {
	current := Evidence{}
	for lookup, answer := range e {
		if !answer.Document.TimeDependent || answer.Document.At.Equal(now) {
			current[lookup] = answer
		}
	}
	return current
}

// Repeatable tells whether every time dependent evaluation can be repeated for another time.
func (e Evidence) Repeatable() bool {
	for _, answer := range e {
		if answer.Document.TimeDependent && answer.Document.Document == nil {
			return false
		}
	}
	return true
}

// Step is the next step: lookups, or an outcome.
type Step struct {
	Lookups []Lookup // to make in parallel; empty with an outcome
	Outcome *Outcome // nil while there are lookups to make
}

// Outcome is the result of a task.
type Outcome struct {
	Fact      Fact
	Freshness Freshness
}

// Freshness says how long an answer may be cached. The zero value does not cache it.
type Freshness struct {
	For   time.Duration // at most
	Until time.Time     // the moment from which it counts no more; zero for no such moment

	// TimeDependent tells that the answer holds for its time only, and has to be worked out again from the evidence.
	TimeDependent bool
}

// Limits bound a verification.
type Limits struct {
	MaxReferrers         int           `json:"maxReferrers,omitzero,string"`         // of one artifact type that are examined
	MaxSignatureAttempts int           `json:"maxSignatureAttempts,omitzero,string"` // signatures of an artifact that are tried
	MaxPlatforms         int           `json:"maxPlatforms,omitzero,string"`         // manifests of an index that are verified beside it
	Keep                 time.Duration `json:"keep,omitzero,string"`                 // for which outcomes that admit are cached
	KeepTags             time.Duration `json:"keepTags,omitzero,string"`             // for which the digest of a tag is cached
	Lifetimes            bool          `json:"lifetimes,omitzero"`                   // facts say when signatures end, and which certificates they are trusted by

	// KeepContent is for how long what a registry holds is cached: lists, manifests, signatures, and evaluations of documents. 0 for
	// not at all.
	KeepContent time.Duration `json:"keepContent,omitzero,string"`
}

// keepDenials is how long outcomes that deny are cached: long enough for a controller that retries quickly, short for a person
// who has fixed the cause.
const keepDenials = 10 * time.Second

// freshness of an outcome: only a definitive one may be cached.
func (l Limits) freshness(good, definitive bool, until time.Time) Freshness {
	switch {
	case !definitive:
		return Freshness{}
	case good:
		return Freshness{For: l.Keep, Until: until}
	}
	return Freshness{For: min(keepDenials, l.Keep), Until: until}
}

// Fresh tells how long the answer to a lookup of a task may be cached. A signature that does not satisfy is not kept:
// anyone may attach many, which would drive out what is kept of others.
func Fresh(task Task, lookup Lookup, answer Answer) Freshness {
	switch {
	case answer.Failure != nil:
	case lookup.Kind == Resolve && len(answer.Warnings) == 0:
		return Freshness{For: task.Limits.KeepTags}
	case lookup.Kind == Signature && answer.Signature.Fact.Verified:
		return task.Limits.freshness(true, answer.Signature.Fact.Definitive(), answer.Signature.Fact.KeepUntil())
	case lookup.Kind == Document && answer.Document.Finding != nil && !answer.Document.Finding.Code.Definitive():
	case lookup.Kind == List, lookup.Kind == Manifest, lookup.Kind == Describe, lookup.Kind == Document, lookup.Kind == Index:
		return Freshness{For: task.Limits.KeepContent}
	}
	return Freshness{}
}

// sortedLast moves unspecific entries to the end, so that they do not use up the attempts: anyone with push rights may attach
// any number of them.
func sortedLast(entries []Referrer) []Referrer {
	if !slices.ContainsFunc(entries, func(r Referrer) bool { return r.Unspecific }) {
		return entries
	}
	sorted := slices.Clone(entries)
	slices.SortStableFunc(sorted, func(a, b Referrer) int {
		switch {
		case a.Unspecific == b.Unspecific:
			return 0
		case a.Unspecific:
			return 1
		}
		return -1
	})
	return sorted
}
