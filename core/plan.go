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

// Plan has, for each image of a request, the task of verifying it, or the finding that decides it without facts.
type Plan struct {
	Policy string              // name of the trust policy, which may not exist
	Images []PlannedImage      // in the request's order
	Tasks  []verification.Task // one per distinct reference, so that each tag is resolved once
}

// PlannedImage is an image and either the index of its Task, or the reason why it has none.
type PlannedImage struct {
	Image   Image
	Task    int             // index into Plan.Tasks; meaningless when Decided is set
	Decided *reason.Finding // decided without facts; nil when facts are needed
}

// MissingPolicyError is the error of a request that names no trust policy, where there is no default.
func MissingPolicyError(snapshot trust.Snapshot) error {
	return invalid("trustPolicy", "is missing and the service has no default; name one of: %s", snapshot.PolicyNames())
}

// NewPlan plans a request under a snapshot of trust. defaultPolicy serves requests that name no trust policy.
func NewPlan(request Request, snapshot trust.Snapshot, defaultPolicy string) (Plan, error) {
	name, _ := lo.Coalesce(request.TrustPolicy, defaultPolicy)
	if name == "" {
		return Plan{}, MissingPolicyError(snapshot)
	}
	plan := Plan{Policy: name}
	planned := map[string]PlannedImage{} // by reference, since a task depends on nothing else of an image
	policy, unusable := snapshot.Usable(name)
	p := planner{
		request: request, snapshot: snapshot, policy: policy, unusable: unusable,
		patterns: lo.Uniq(request.ImageReferences), revisions: map[int]string{}, demands: map[string][]verification.AttestationType{}, matcher: image.NewMatcher(),
	}
	for _, image := range request.Images {
		entry, ok := planned[image.Ref.String()]
		if !ok {
			entry = plan.add(p.image(image.Ref))
			planned[image.Ref.String()] = entry
		}
		if p.matcher.Exhausted() {
			return Plan{}, invalid("imageReferences", "and the patterns of attestations have too many wildcards for so many images; use fewer and shorter patterns")
		}
		entry.Image = image
		plan.Images = append(plan.Images, entry)
	}
	return plan, nil
}

// add adds the task for a reference, unless it was decided without facts.
func (p *Plan) add(task verification.Task, decided *reason.Finding) PlannedImage {
	if decided != nil {
		return PlannedImage{Decided: decided}
	}
	p.Tasks = append(p.Tasks, task)
	return PlannedImage{Task: len(p.Tasks) - 1}
}

// planner plans the images of one request. It works out once what several of them share.
type planner struct {
	request   Request
	snapshot  trust.Snapshot
	policy    trust.Policy
	unusable  *reason.Finding                           // why the policy cannot be used; nil when it can
	patterns  []string                                  // of imageReferences
	revisions map[int]string                            // by statement
	demands   map[string][]verification.AttestationType // by the set of rules that match
	matcher   *image.Matcher
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
	if _, ok := p.revisions[i]; !ok {
		p.revisions[i] = p.snapshot.Revision(p.policy, i)
	}
	return verification.Task{
		Ref:          ref,
		Policy:       p.policy.Name,
		Statement:    statement,
		Stores:       p.snapshot.Stores,
		Revision:     p.revisions[i],
		Attestations: p.attestations(ref, spellings),
	}, nil
}

// attestations collects the types of every rule whose pattern matches. Images that match the same rules share the list.
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
	p.demands[string(matching)] = types
	return types
}
