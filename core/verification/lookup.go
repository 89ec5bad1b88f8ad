package verification

import (
	"slices"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Kind is what a lookup asks for.
type Kind int

// The kinds.
const (
	Resolve   Kind = iota // the descriptor that a registry gives for a tag
	Describe              // the descriptor of a manifest, worked out from its content
	List                  // the manifests that refer to another one
	Manifest              // what a manifest says
	Signature             // an envelope, verified
	Document              // an attestation's document, held against conditions
	Conclude              // the facts of a task whose digest is known: a key under which they are kept and shared
	LastKnown             // the last descriptor of a tag: a key under which it stands in where the registry fails
	Kinds                 // the number of kinds
)

// String is the kind as a metric's label has it.
func (k Kind) String() string {
	return [Kinds]string{"resolution", "description", "list", "manifest", "signature", "document", "outcome", "known"}[k]
}

// Lookup names one thing to look up. It holds all on which the answer depends, beside what a registry has: two lookups
// that are equal have the same answer. Fields that do not matter to a kind are zero.
type Lookup struct {
	Kind       Kind
	Repository string // canonical, "reg.example/acme/app": the same digest may be signed in one and not in another
	Subject    string // the tag, or the digest of the manifest or blob
	MediaType  string // of a blob: what it is said to be
	Size       int64  // of a blob, bytes: what it is said to have
	Type       string // of a list: the artifact type that is listed; "" for all types
	Artifact   string // of a signature: the digest that it is listed for
	Trust      Trust  // of a signature and an outcome: what it is verified under
	Demand     string // of a document and an outcome: see [AttestationType.Identity]
}

// Trust names what a signature is verified under.
type Trust struct {
	Policy   string // name of the trust policy, which outcomes mention
	Revision string // of the trust policy statement and its trust stores
	Plugins  string // of the installed plugins and their configuration
}

// Descriptor is what a signature speaks of (OCI image specification, section "Content Descriptors").
type Descriptor struct {
	MediaType string
	Digest    string // "algorithm:hex"
	Size      int64  // bytes
}

// Answer is what a lookup brought: the field of its kind, unless it failed.
type Answer struct {
	Failure    *Failure
	Descriptor Descriptor // Resolve, Describe
	Warnings   []string   // Resolve: what is doubtful about it; empty when nothing is
	List       Referrers
	Manifest   ManifestFacts
	Signature  Assessment
	Document   Evaluation
	Fact       Fact // Conclude
}

// concluded gives the facts that were kept or shared under a digest, for one who asked for it with warnings.
func (a Answer) concluded(warnings []string) Fact {
	fact := a.Fact
	if a.Failure != nil {
		fact.Failure = &a.Failure.Finding
	}
	fact.Warnings = warnings
	return fact
}

// Weight is what an answer takes of the memory, bytes: strangers wrote most of it.
func (a Answer) Weight() int {
	const entry = 400 // of a list, with its texts
	return a.Fact.Weight() + entry*len(a.List.Entries) + len(a.Document.Document) + a.Signature.Fact.weight() + findingWeight(a.Signature.Rejected)
}

// Failure is why a lookup brought nothing.
type Failure struct {
	Finding  reason.Finding
	Unusable bool // the artifact is to blame, whose digest vouches for its content, and not the registry
	Absent   bool // it is named, and the registry does not have it, or it is too large to be read
}

// as gives the finding, with another code where the artifact is to blame.
func (f *Failure) as(code reason.Code) *reason.Finding {
	finding := f.Finding
	if f.Unusable {
		finding.Code = code
	}
	return &finding
}

// Referrers is a list of what refers to a manifest, each digest once for each artifact type.
type Referrers struct {
	Entries   []Referrer
	Truncated bool // there are more of the type than may be listed
	Partial   bool // there are more, in a list of all types, of which only the first page was read
}

// Referrer is an entry of such a list, which tells what the registry or a pusher says of it.
type Referrer struct {
	Descriptor
	ArtifactType string
	Unspecific   bool // the artifact type says nothing of the artifact: only its manifest will tell
}

// ManifestFacts is what is read of an image manifest. Anyone may make it large; this is what leads on.
type ManifestFacts struct {
	Descriptor   Descriptor // of the content
	ArtifactType string
	Subject      Descriptor   // zero where it has none
	Layers       []Descriptor // the first, where there is one
	LayerCount   int
}

// Evidence is what was looked up.
type Evidence map[Lookup]Answer

// Documents are those of the evidence that were kept to be evaluated again at another moment.
func (e Evidence) Documents() map[Lookup][]byte {
	documents := map[Lookup][]byte{}
	for lookup, answer := range e {
		if answer.Document.Document != nil {
			documents[lookup] = answer.Document.Document
		}
	}
	return documents
}

// Weight is what the evidence takes of the memory, bytes.
func (e Evidence) Weight() (weight int) {
	const each = 1000 // a lookup, with its texts
	for _, answer := range e {
		weight += each + answer.Weight()
	}
	return weight
}

// At is the evidence without the evaluations that depend on the time and are of another moment.
func (e Evidence) At(now time.Time) Evidence {
	current := Evidence{}
	for lookup, answer := range e {
		if !answer.Document.TimeDependent || answer.Document.At.Equal(now) {
			current[lookup] = answer
		}
	}
	return current
}

// Repeatable tells that all that depends on the time can be evaluated at another moment.
func (e Evidence) Repeatable() bool {
	for _, answer := range e {
		if answer.Document.TimeDependent && answer.Document.Document == nil {
			return false
		}
	}
	return true
}

// Step is what to do next: lookups, or an outcome.
type Step struct {
	Lookups []Lookup // to look up side by side; empty with an outcome
	Outcome *Outcome // nil as long as there is something to look up
	Key     *Lookup  // under which the outcome may be kept and shared; nil before the digest is known, and without lookups
}

// Outcome is what came of a task.
type Outcome struct {
	Fact      Fact
	Freshness Freshness
}

// Freshness is how long an answer may be kept. The zero value does not keep it.
type Freshness struct {
	For   time.Duration // at most so long
	Until time.Time     // and not from this moment on; zero for no such bound

	// TimeDependent tells that it is of its moment only, and may be worked out anew from its evidence.
	TimeDependent bool
}

// Limits bound a course.
type Limits struct {
	MaxReferrers         int           // of one artifact type that are looked at
	MaxSignatureAttempts int           // signatures of an artifact that are tried
	Keep                 time.Duration // for which outcomes are kept that speak for an image
	KeepTags             time.Duration // for which the digest of a tag is kept
}

// keepDenials is how long outcomes are kept that speak against an image: enough for a controller that tries again and
// again, short for a person who mends what was wrong.
const keepDenials = 10 * time.Second

// freshness of an outcome: one that would be the same in a moment may be kept.
func (l Limits) freshness(good, definitive bool, until time.Time) Freshness {
	switch {
	case !definitive:
		return Freshness{}
	case good:
		return Freshness{For: l.Keep, Until: until}
	}
	return Freshness{For: min(keepDenials, l.Keep), Until: until}
}

// Fresh tells how long an answer may be kept that was looked up for a task. A signature that does not satisfy is not kept:
// anyone may attach many, which would drive out what is kept of others.
func Fresh(task Task, lookup Lookup, answer Answer) Freshness {
	switch {
	case answer.Failure != nil:
	case lookup.Kind == Resolve && len(answer.Warnings) == 0:
		return Freshness{For: task.Limits.KeepTags}
	case lookup.Kind == Signature && answer.Signature.Fact.Verified:
		return task.Limits.freshness(true, answer.Signature.Fact.Definitive(), answer.Signature.Fact.KeepUntil())
	}
	return Freshness{}
}

// sortedLast puts the entries behind the others of which the list does not tell what they are: anyone may attach many, and
// they must not hold up the look at the others.
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
