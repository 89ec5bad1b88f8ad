package oracle

import (
	"crypto/x509"
	"maps"
	"slices"
	"time"
)

// Case is all that an admission depends on.
type Case struct {
	Registry Registry
	Trust    Trust
	Now      time.Time

	// Plugin is the plugin's true answer for a leaf and the signed attributes; nil leaves it open.
	Plugin func(leaf *x509.Certificate, attributes map[string]string) Opinion

	// Subset tells that the registry may have kept attestations to itself in a way that nobody can notice: then those
	// that it told of decide.
	Subset bool

	// Lying tells that the registry may list for an artifact what its content says is attached to another one. A signature
	// that a trusted signer made for the artifact counts wherever it is attached.
	Lying bool

	// Roaming tells that the registry may have given any of a repository's images for any tag: whose tags they are, is for
	// the registry to say.
	Roaming bool
}

// Request is what is asked.
type Request struct {
	Fields          []Field
	TrustPolicy     string
	ImageReferences []string
	Attestations    []Rule
	RequireDigest   bool
}

// Rule demands attestations of the images that match a pattern.
type Rule struct {
	Pattern string
	Demands []Demand
}

// Judgement is the oracle's on one image.
type Judgement struct {
	Field
	Opinion  Opinion
	Pinned   []string // what may be patched in, "reg.example/app@sha256:..."; empty for an image that is admitted as it is
	Unpinned bool     // it is admitted without being verified
	Why      string   // why not, in few words
}

// Judge gives the judgement on every image, or says that the request must not be answered with an admission at all.
func (w *Case) Judge(request Request) (judgements []Judgement, refused string) {
	for _, pattern := range request.patterns() {
		if Dead(pattern) {
			return nil, "a pattern matches nothing: " + pattern
		}
	}
	if len(request.Fields) == 0 {
		return nil, "it has no image"
	}
	for _, field := range request.Fields {
		judgement := w.image(request, field)
		judgement.Field = field
		judgements = append(judgements, judgement)
	}
	return judgements, ""
}

func (r Request) patterns() []string {
	all := slices.Clone(r.ImageReferences)
	for _, rule := range r.Attestations {
		all = append(all, rule.Pattern)
	}
	return all
}

func (w *Case) image(request Request, field Field) Judgement {
	ref, ok := ParseReference(field.Image)
	if !ok {
		return Judgement{Why: "it is not a reference"}
	}
	if request.RequireDigest && ref.Digest == "" {
		return Judgement{Why: "it is not by digest"}
	}
	if len(request.ImageReferences) > 0 && !slices.ContainsFunc(request.ImageReferences, func(p string) bool { return Matches(p, ref) }) {
		return Judgement{Opinion: Yes, Unpinned: true}
	}
	policy, usable, why := w.Trust.policy(request.TrustPolicy)
	if usable == No {
		return Judgement{Why: why}
	}
	statement, ok := policy.statement(ref.Name)
	if !ok {
		return Judgement{Why: "no statement covers it"}
	}
	judgement := w.under(statement, ref, request.demands(ref))
	judgement.Opinion = min(judgement.Opinion, usable)
	return judgement
}

func (w *Case) under(statement Statement, ref Reference, demands []Demand) Judgement {
	if statement.Level == levelSkip {
		return Judgement{Opinion: when(len(demands) == 0), Unpinned: true, Why: "level skip, and attestations are demanded"}
	}
	return w.verified(ref, statement, demands)
}

func (r Request) demands(ref Reference) []Demand {
	var demands []Demand
	for _, rule := range r.Attestations {
		if Matches(rule.Pattern, ref) {
			demands = append(demands, rule.Demands...)
		}
	}
	return demands
}

// verified judges each digest that the reference may stand for.
func (w *Case) verified(ref Reference, statement Statement, demands []Demand) Judgement {
	repository, ok := w.Registry[ref.Name]
	if !ok {
		return Judgement{Why: "there is no such repository"}
	}
	result := Judgement{Why: "there is no such image"}
	digests := repository.digests(ref)
	if w.Roaming && ref.Digest == "" {
		digests = append(slices.Sorted(maps.Keys(repository.Manifests)), digests...)
	}
	for i, digest := range digests {
		opinion, why := w.artifact(repository, digest, statement, demands)
		if opinion != No {
			result.Pinned = append(result.Pinned, ref.Name+"@"+digest)
		}
		if i == len(digests)-1 {
			result.Why = why
		}
		result.Opinion = max(result.Opinion, opinion)
	}
	if len(digests) > 1 {
		result.Opinion = min(result.Opinion, Either) // which of them, depends on the moment
	}
	return result
}

func (w *Case) artifact(repository *Repository, digest string, statement Statement, demands []Demand) (Opinion, string) {
	artifact, held := repository.descriptorOf(digest)
	if !held {
		return No, "the manifest is not there"
	}
	opinion := w.signed(repository, artifact, statement).opinion
	if opinion == No {
		return No, "no signature satisfies"
	}
	for _, demand := range demands {
		if opinion = min(opinion, w.attested(repository, digest, statement, demand)); opinion == No {
			return No, "no attestation of type " + demand.Type + " satisfies"
		}
	}
	return opinion, ""
}

// attestation is one that is signed, with what its payload comes to.
type attestation struct {
	trusted, met Opinion
	at           []time.Time
}

// attested holds a demand against the attestations of an image.
func (w *Case) attested(repository *Repository, image string, statement Statement, demand Demand) Opinion {
	var found []attestation
	undecided := false
	for _, referrer := range repository.referrers(image, demand.Type) {
		artifact, _ := repository.descriptorOf(referrer.digest)
		signed := w.signed(repository, artifact, statement)
		if signed.opinion != No {
			found = append(found, attestation{signed.opinion, when(repository.meets(referrer, demand)), signed.at})
		}
		undecided = undecided || signed.opinion != Yes && signed.refusedByPlugin
	}
	if w.Subset {
		return min(selected("any", found), Either)
	}
	opinion := selected(demand.Select, found)
	if undecided && demand.Select != "any" {
		opinion = min(opinion, Either) // a plugin that cannot run, does not say that the attestation does not count
	}
	return opinion
}

func (r *Repository) meets(referrer referrer, demand Demand) bool {
	if demand.unconditional() {
		return true
	}
	if len(referrer.fields.Layers) != 1 {
		return false
	}
	layer := referrer.fields.Layers[0]
	payload, held := r.Blobs[layer.Digest]
	return held && int64(len(payload)) == layer.Size && demand.met(payload)
}

// selected applies select. Where it is open which attestations count, so is the answer, unless all say the same.
func selected(by string, found []attestation) Opinion {
	if len(found) == 0 {
		return No
	}
	best, worst, certain, one := No, Yes, Yes, No
	for _, a := range found {
		best, worst, certain, one = max(best, a.met), min(worst, a.met), min(certain, a.trusted), max(one, a.trusted)
	}
	switch {
	case best == worst:
		return min(best, one)
	case certain != Yes:
		return Either
	case by == "any":
		return best
	case by == "latest":
		return latest(found)
	}
	return worst
}

// latest is the answer of those signed last, as long as it is plain which these are.
func latest(found []attestation) Opinion {
	var last int64
	for _, a := range found {
		if len(a.at) != 1 {
			return Either
		}
		last = max(last, a.at[0].Unix())
	}
	opinion := Yes
	for _, a := range found {
		if a.at[0].Unix() == last {
			opinion = min(opinion, a.met)
		}
	}
	return opinion
}
