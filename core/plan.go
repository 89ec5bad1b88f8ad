package core

import (
	"fmt"
	"slices"
	"strings"

	"github.com/samber/lo"
)

// Plan says, for each image of a request, what has to be found out about it, or why nothing has to be.
type Plan struct {
	Policy string         // name of the trust policy, which need not exist
	Images []PlannedImage // in the request's order
	Tasks  []Task         // one per distinct reference, so that a tag is resolved once
}

// PlannedImage is an image and either the index of its Task, or the reason why it has none.
type PlannedImage struct {
	Image Image
	Task  int      // index into Plan.Tasks; meaningless when Early is set
	Early *Finding // decided without facts; nil when facts are needed
}

// Finding is a code with the sentence that explains it.
type Finding struct {
	Code   Code
	Reason string
}

// Task asks the shell for one Fact.
type Task struct {
	Ref          Reference
	Policy       string            // name of the trust policy
	Statement    Statement         // that covers the reference
	Revision     string            // hash of the statement and its trust stores
	Attestations []AttestationType // that the image must carry, in the request's order
}

// MissingPolicyError is what a request gets that names no trust policy where there is no default either.
func MissingPolicyError(snapshot Snapshot) error {
	return invalid("trustPolicy", "is missing and the service has no default; name one of: %s", names(snapshot))
}

// NewPlan plans a request under a snapshot of trust. defaultPolicy serves requests that name no trust policy.
func NewPlan(request Request, snapshot Snapshot, defaultPolicy string) (Plan, error) {
	name, _ := lo.Coalesce(request.TrustPolicy, defaultPolicy)
	if name == "" {
		return Plan{}, MissingPolicyError(snapshot)
	}
	plan := Plan{Policy: name}
	planned := map[string]PlannedImage{} // by reference: nothing else of an image matters to its task
	policy, unusable := snapshot.usable(name)
	p := planner{
		request: request, snapshot: snapshot, policy: policy, unusable: unusable,
		patterns: lo.Uniq(request.ImageReferences), revisions: map[int]string{}, demands: map[string][]AttestationType{}, left: maxMatching,
	}
	for _, image := range request.Images {
		entry, ok := planned[image.Ref.String()]
		if !ok {
			entry = plan.add(p.image(image.Ref))
			planned[image.Ref.String()] = entry
		}
		if p.left < 0 {
			return Plan{}, invalid("imageReferences", "and the patterns of attestations have too many wildcards for so many images; use fewer and shorter patterns")
		}
		entry.Image = image
		plan.Images = append(plan.Images, entry)
	}
	return plan, nil
}

// usable gives a trust policy with its scopes read, or says why no image can be verified under it.
func (s Snapshot) usable(name string) (TrustPolicy, *Finding) {
	policy, ok := s.Policies[name]
	if !ok {
		return policy, &Finding{TrustPolicyNotFound, fmt.Sprintf("trust policy %q does not exist; known are: %s", name, names(s))}
	}
	if policy.Problem == "" && policy.scopes == nil {
		scopes, err := policy.ReadScopes()
		if err != nil {
			policy.Problem = err.Error()
		}
		policy.scopes = scopes
	}
	if policy.Problem != "" {
		return policy, &Finding{TrustPolicyInvalid, fmt.Sprintf("trust policy %q cannot be used: %s", name, policy.Problem)}
	}
	return policy, nil
}

// add takes in the task for a reference, unless it was decided early.
func (p *Plan) add(task Task, early *Finding) PlannedImage {
	if early != nil {
		return PlannedImage{Early: early}
	}
	p.Tasks = append(p.Tasks, task)
	return PlannedImage{Task: len(p.Tasks) - 1}
}

// planner plans the images of one request. What many of them have in common it makes once.
type planner struct {
	request   Request
	snapshot  Snapshot
	policy    TrustPolicy
	unusable  *Finding                     // why the policy cannot be used; nil when it can
	patterns  []string                     // of imageReferences
	revisions map[int]string               // by statement
	demands   map[string][]AttestationType // by the rules that add up to them
	left      effort
}

func (p *planner) image(ref Reference) (Task, *Finding) {
	var spellings []string
	if len(p.patterns)+len(p.request.Attestations) > 0 {
		spellings = ref.spellings()
	}
	switch {
	case len(p.patterns) > 0 && !slices.ContainsFunc(p.patterns, func(pattern string) bool { return p.matches(pattern, ref, spellings) }):
		return Task{}, &Finding{NotSelected, "no pattern of imageReferences matches it"}
	case p.unusable != nil:
		return Task{}, p.unusable
	}
	i := p.policy.statementFor(ref)
	if i < 0 {
		return Task{}, &Finding{ScopeNotCovered, fmt.Sprintf("no statement of trust policy %q covers %s; add it to a statement's registryScopes", p.policy.Name, ref.Name())}
	}
	statement := p.policy.Statements[i]
	if p.request.RequireDigest && ref.Digest == "" && statement.Level != LevelSkip {
		return Task{}, &Finding{NotPinned, "it is not named by digest, and the request demands that it is; name it by digest, or have the policy that pins images run before"}
	}
	if _, ok := p.revisions[i]; !ok {
		p.revisions[i] = p.snapshot.revision(p.policy, i)
	}
	return Task{
		Ref:          ref,
		Policy:       p.policy.Name,
		Statement:    statement,
		Revision:     p.revisions[i],
		Attestations: p.attestations(ref, spellings),
	}, nil
}

// matches tells whether a pattern matches an image. Where a digest names the image, no runtime reads its tag, and anyone may
// leave it out or write another. So the tag of a pattern is not held against it: an image that was pinned stays demanded of.
func (p *planner) matches(pattern string, ref Reference, spellings []string) bool {
	if matches(pattern, spellings, &p.left) {
		return true
	}
	tagless := withoutTag(pattern)
	return ref.Digest != "" && tagless != pattern && matches(tagless, spellings, &p.left)
}

// attestations adds up the types of every rule whose pattern matches. Images that the same rules match share them.
func (p *planner) attestations(ref Reference, spellings []string) []AttestationType {
	if len(p.request.Attestations) == 0 {
		return nil
	}
	matching := make([]byte, len(p.request.Attestations)) // a key, with a byte per rule
	for i, rule := range p.request.Attestations {
		if p.matches(rule.ImageReference, ref, spellings) {
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

// names lists the trust policies for a person, cut where a cluster has very many.
func names(snapshot Snapshot) string {
	const most = 20
	known := sortedKeys(snapshot.Policies)
	if len(known) == 0 {
		return "none"
	}
	if len(known) > most {
		return strings.Join(known[:most], ", ") + fmt.Sprintf(" and %d more", len(known)-most)
	}
	return strings.Join(known, ", ")
}
