package core

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kyverno/kyverno/ext/wildcard"
	"github.com/samber/lo"
)

// Plan says, for each image of a request, what has to be found out about it, or why nothing has to be.
type Plan struct {
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
	var plan Plan
	tasks := map[string]int{}
	for _, image := range request.Images {
		planned := PlannedImage{Image: image}
		task, early := planImage(image, request, snapshot, name)
		if early != nil {
			planned.Early = early
		} else {
			planned.Task = plan.add(tasks, task)
		}
		plan.Images = append(plan.Images, planned)
	}
	return plan, nil
}

// add gives the index of the task for a reference. One reference always plans to the same task: policy and
// attestations depend on nothing else.
func (p *Plan) add(tasks map[string]int, task Task) int {
	key := task.Ref.String()
	if i, ok := tasks[key]; ok {
		return i
	}
	tasks[key] = len(p.Tasks)
	p.Tasks = append(p.Tasks, task)
	return tasks[key]
}

func planImage(image Image, request Request, snapshot Snapshot, name string) (Task, *Finding) {
	if !selected(image.Ref, request.ImageReferences) {
		return Task{}, &Finding{NotSelected, "no pattern of imageReferences matches it"}
	}
	policy, ok := snapshot.Policies[name]
	if !ok {
		return Task{}, &Finding{TrustPolicyNotFound, fmt.Sprintf("trust policy %q does not exist; known are: %s", name, names(snapshot))}
	}
	if policy.Problem != "" {
		return Task{}, &Finding{TrustPolicyInvalid, fmt.Sprintf("trust policy %q cannot be used: %s", name, policy.Problem)}
	}
	statement, ok := policy.statementFor(image.Ref)
	if !ok {
		return Task{}, &Finding{ScopeNotCovered, fmt.Sprintf("no statement of trust policy %q covers %s; add it to a statement's registryScopes", name, image.Ref.Name())}
	}
	return Task{
		Ref:          image.Ref,
		Policy:       name,
		Statement:    statement,
		Revision:     snapshot.revision(policy, statement),
		Attestations: attestationsFor(image.Ref, request.Attestations),
	}, nil
}

func selected(ref Reference, patterns []string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, ref) })
}

// matches compares as Kyverno does, with each spelling of the reference.
func matches(pattern string, ref Reference) bool {
	return slices.ContainsFunc(ref.spellings(), func(s string) bool { return wildcard.Match(pattern, s) })
}

// attestationsFor adds up the types of every rule whose pattern matches.
func attestationsFor(ref Reference, rules []AttestationRule) []AttestationType {
	var types []AttestationType
	for _, rule := range rules {
		if matches(rule.ImageReference, ref) {
			types = append(types, rule.Types...)
		}
	}
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
