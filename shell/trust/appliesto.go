package trust

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
)

// ConditionAppliesTo tells whether a policy's appliesTo can be read. A policy without one has no such condition. Requests do not
// depend on it.
const ConditionAppliesTo = "AppliesTo"

// AppliesTo gives in which namespaces the policies say that they apply. A policy whose selector cannot be read is not among them;
// where only its attestations cannot, it is, and says so. Both are problems.
func (r Resources) AppliesTo() (applied []audit.AppliesTo, problems []Problem) {
	for _, policy := range r.Policies {
		if policy.Spec.AppliesTo == nil {
			continue
		}
		one, err := policy.appliesTo()
		if err != nil {
			problems = append(problems, Problem{Kind: "TrustPolicy", Name: policy.Name, Reason: err.Error(), Usable: true})
		}
		if one != nil {
			applied = append(applied, *one)
		}
	}
	return applied, problems
}

// appliesTo reads the field. It gives nil where it is not known which namespaces are selected.
func (r PolicyResource) appliesTo() (*audit.AppliesTo, error) {
	applied, err := audit.ParseAppliesTo(r.Spec.TrustPolicyName, r.Spec.AppliesTo)
	switch {
	case err != nil:
		return nil, fmt.Errorf("spec.appliesTo cannot be read: %s", bounded(err.Error()))
	case applied.Unreadable != "":
		return &applied, fmt.Errorf("spec.appliesTo.%s", bounded(applied.Unreadable))
	}
	return &applied, nil
}

// applying sets ConditionAppliesTo, or removes it where a policy has no such field.
func (s Status) applying(r PolicyResource, now time.Time) Status {
	if r.Spec.AppliesTo == nil {
		meta.RemoveStatusCondition(&s.Conditions, ConditionAppliesTo)
		return s
	}
	condition := metav1.Condition{
		Type: ConditionAppliesTo, Status: metav1.ConditionTrue, ObservedGeneration: r.Generation,
		LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)), Reason: ReasonValid,
	}
	applied, err := r.appliesTo()
	if err != nil {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, ReasonInvalid, err.Error()
	} else {
		condition.Message = fmt.Sprintf("audits go by it: %d requirements on namespaces, %d rules on attestations", len(applied.Namespaces), len(applied.Rules))
	}
	meta.SetStatusCondition(&s.Conditions, condition)
	return s
}
