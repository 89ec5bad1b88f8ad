package core

import (
	"fmt"
	"slices"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// Plan says, for each image of a request, what has to be found out about it, or why nothing has to be.
type Plan struct {
	Policy string              // name of the trust policy, which need not exist
	Images []PlannedImage      // in the request's order
	Tasks  []verification.Task // one per distinct reference, so that a tag is resolved once
}

// PlannedImage is an image and either the index of its Task, or the reason why it has none.
type PlannedImage struct {
	Image   Image           `json:"image"`
	Task    int             `json:"task"`             // index into Plan.Tasks; meaningless when Decided is set
	Decided *reason.Finding `json:"decided,omitzero"` // decided without facts; nil when facts are needed
}

// MissingPolicyError is what a request gets that names no trust policy where there is no default either.
func MissingPolicyError(snapshot trust.Snapshot) error {
	return invalid("trustPolicy", "is missing and the service has no default; name one of: %s", snapshot.PolicyNames())
}

// NewPlan plans a request under a snapshot of trust. defaultPolicy serves requests that name no trust policy.
func NewPlan(request Request, snapshot trust.Snapshot, defaultPolicy string) (Plan, error) {
	name, _ := lo.Coalesce(request.TrustPolicy, defaultPolicy)
	if name == "" {
		return Plan{}, MissingPolicyError(snapshot)
	}
	plan := Plan{Policy: name, Images: make([]PlannedImage, 0, len(request.Images))}
	var first map[image.Reference]int // index of the first image of a reference: nothing else of an image matters to its task
	if len(request.Images) > 1 {
		first = make(map[image.Reference]int, len(request.Images))
	}
	policy, unusable := snapshot.Usable(name)
	p := planner{
		request: request, snapshot: snapshot, policy: policy, unusable: unusable,
		patterns: lo.Uniq(request.ImageReferences), matcher: image.NewMatcher(),
	}
	for i, image := range request.Images {
		var entry PlannedImage
		if same, ok := first[image.Ref]; ok {
			entry = plan.Images[same]
		} else {
			entry = plan.add(p.image(image.Ref))
			if first != nil {
				first[image.Ref] = i
			}
		}
		if p.matcher.Exhausted() {
			return Plan{}, invalid("imageReferences", "and the patterns of attestations have too many wildcards for so many images; use fewer and shorter patterns")
		}
		entry.Image = image
		plan.Images = append(plan.Images, entry)
	}
	return plan, nil
}

// add takes in the task for a reference, unless it was decided early.
func (p *Plan) add(task verification.Task, decided *reason.Finding) PlannedImage {
	if decided != nil {
		return PlannedImage{Decided: decided}
	}
	p.Tasks = append(p.Tasks, task)
	return PlannedImage{Task: len(p.Tasks) - 1}
}

// planner plans the images of one request. What many of them have in common it makes once.
type planner struct {
	request  Request
	snapshot trust.Snapshot
	policy   trust.Policy
	unusable *reason.Finding                           // why the policy cannot be used; nil when it can
	patterns []string                                  // of imageReferences
	demands  map[string][]verification.AttestationType // by the rules that add up to them
	matcher  *image.Matcher
}

func (p *planner) image(ref image.Reference) (verification.Task, *reason.Finding) {
	var spellings []string
	if len(p.patterns)+len(p.request.Attestations) > 0 {
		spellings = ref.Spellings()
	}
	switch {
	case len(p.patterns) > 0 && !slices.ContainsFunc(p.patterns, func(pattern string) bool { return p.matcher.Matches(pattern, ref, spellings) }):
		return verification.Task{}, &reason.Finding{Code: reason.NotSelected, Reason: "no pattern of imageReferences matches it"}
	case p.unusable != nil:
		return verification.Task{}, p.unusable
	}
	i := p.policy.StatementFor(ref)
	if i < 0 {
		return verification.Task{}, &reason.Finding{Code: reason.ScopeNotCovered, Reason: fmt.Sprintf("no statement of trust policy %q covers %s; add it to a statement's registryScopes", p.policy.Name, ref.Name())}
	}
	statement := p.policy.Statements[i]
	if p.request.RequireDigest && ref.Digest == "" && statement.Level != trust.LevelSkip {
		return verification.Task{}, &reason.Finding{Code: reason.NotPinned, Reason: "it is not named by digest, and the request demands that it is; name it by digest, or have the policy that pins images run before"}
	}
	return verification.Task{
		Ref:          ref,
		Policy:       p.policy.Name,
		Statement:    statement,
		Stores:       p.snapshot.Stores,
		Revision:     p.snapshot.Revision(p.policy, i),
		Attestations: p.attestations(ref, spellings),
		Platforms:    statement.Chosen().With(p.request.Platforms),
	}, nil
}

// attestations adds up the types of every rule whose pattern matches. Images that the same rules match share them.
func (p *planner) attestations(ref image.Reference, spellings []string) []verification.AttestationType {
	if len(p.request.Attestations) == 0 {
		return nil
	}
	matching := make([]byte, len(p.request.Attestations)) // a key, with a byte per rule
	for i, rule := range p.request.Attestations {
		if p.matcher.Matches(rule.ImageReference, ref, spellings) {
			matching[i] = 1
		}
	}
	types, known := p.demands[string(matching)]
	if known {
		return types
	}
	for i, rule := range p.request.Attestations {
		if matching[i] == 1 {
			types = append(types, rule.Types...)
		}
	}
	if p.demands == nil {
		p.demands = map[string][]verification.AttestationType{}
	}
	p.demands[string(matching)] = types
	return types
}
