package core

import (
	"fmt"
	"slices"
	"strings"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/condition"
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
	p := planner{request: request, snapshot: snapshot, policy: name, revisions: map[int]string{}, demands: map[string][]AttestationType{}}
	for _, image := range request.Images {
		entry, ok := planned[image.Ref.String()]
		if !ok {
			entry = plan.add(p.image(image.Ref))
			planned[image.Ref.String()] = entry
		}
		entry.Image = image
		plan.Images = append(plan.Images, entry)
	}
	return plan, nil
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
	policy    string                       // its name
	revisions map[int]string               // by statement
	demands   map[string][]AttestationType // by the rules that add up to them
}

func (p *planner) image(ref Reference) (Task, *Finding) {
	name := p.policy
	if !selected(ref, p.request.ImageReferences) {
		return Task{}, &Finding{NotSelected, "no pattern of imageReferences matches it"}
	}
	policy, ok := p.snapshot.Policies[name]
	if !ok {
		return Task{}, &Finding{TrustPolicyNotFound, fmt.Sprintf("trust policy %q does not exist; known are: %s", name, names(p.snapshot))}
	}
	if policy.Problem != "" {
		return Task{}, &Finding{TrustPolicyInvalid, fmt.Sprintf("trust policy %q cannot be used: %s", name, policy.Problem)}
	}
	i := policy.statementFor(ref)
	if i < 0 {
		return Task{}, &Finding{ScopeNotCovered, fmt.Sprintf("no statement of trust policy %q covers %s; add it to a statement's registryScopes", name, ref.Name())}
	}
	statement := policy.Statements[i]
	if p.request.RequireDigest && ref.Digest == "" && statement.Level != LevelSkip {
		return Task{}, &Finding{NotPinned, "it is not named by digest, and the request demands that it is; name it by digest, or have the policy that pins images run before"}
	}
	if _, ok := p.revisions[i]; !ok {
		p.revisions[i] = p.snapshot.revision(policy, i)
	}
	return Task{
		Ref:          ref,
		Policy:       name,
		Statement:    statement,
		Revision:     p.revisions[i],
		Attestations: p.attestations(ref),
	}, nil
}

func selected(ref Reference, patterns []string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, ref) })
}

// matches compares as Kyverno does, with each spelling of the reference.
func matches(pattern string, ref Reference) bool {
	pattern = canonicalRegistry(pattern)
	return slices.ContainsFunc(ref.spellings(), func(s string) bool { return condition.Match(pattern, s) })
}

// attestations adds up the types of every rule whose pattern matches. Images that the same rules match share them.
func (p *planner) attestations(ref Reference) []AttestationType {
	matching := make([]byte, len(p.request.Attestations)) // a key, with a byte per rule
	for i, rule := range p.request.Attestations {
		if matches(rule.ImageReference, ref) {
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
