package core

import (
	"fmt"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// Decide decides on every image of a plan. facts has one entry per task, in the order of the tasks; now is the request's
// clock.
func Decide(plan Plan, facts []verification.Fact, now time.Time) Verdict {
	results := make([]Result, 0, len(plan.Images))
	for _, planned := range plan.Images {
		if planned.Decided != nil {
			results = append(results, result(planned.Image, *planned.Decided))
			continue
		}
		var fact verification.Fact
		if planned.Task < len(facts) {
			fact = facts[planned.Task]
		}
		results = append(results, decideImage(planned.Image, plan.Tasks[planned.Task], fact, now))
	}
	return newVerdict(results)
}

func decideImage(image Image, task verification.Task, fact verification.Fact, now time.Time) Result {
	if finding := verification.Check(task, fact, now); finding != nil {
		denied := result(image, denying(*finding))
		denied.Digest = fact.Digest
		return denied
	}
	if task.Statement.Level == trust.LevelSkip && fact.Signature.Skipped {
		return skipped(image, task, fact)
	}
	return verified(image, fact)
}

// denying is the finding with a code that does not admit: a finding against an image must never admit it.
func denying(finding reason.Finding) reason.Finding {
	if finding.Code.Class() == reason.Admitted {
		finding.Code = reason.NotGathered
	}
	return finding
}

func result(image Image, finding reason.Finding) Result {
	return Result{
		Name: image.Name, Kind: image.Kind, Path: image.Pointer, Image: image.Written, Requested: image.Written,
		Verified: finding.Code.Class() == reason.Admitted, Code: finding.Code, Reason: finding.Reason,
	}
}

func skipped(image Image, task verification.Task, fact verification.Fact) Result {
	text := fmt.Sprintf("statement %q of trust policy %q has level skip", task.Statement.Name, task.Policy)
	r := result(image, reason.Finding{Code: reason.Skipped, Reason: text})
	r.Digest = fact.Digest
	return r
}

func verified(image Image, fact verification.Fact) Result {
	text := "signed by " + fact.Signature.Signer
	if fact.Index != nil && !fact.Index.Single {
		text += fmt.Sprintf(", and so are %d manifests of its index", len(fact.Index.Manifests))
	}
	r := result(image, reason.Finding{Code: reason.Verified, Reason: text})
	r.Digest, r.Signer, r.Warnings = fact.Digest, fact.Signature.Signer, fact.AllWarnings()
	if image.Ref.Digest == "" {
		r.Image = image.pinned(fact.Digest)
		r.Op, r.Value = "replace", r.Image
	}
	return r
}
