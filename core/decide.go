package core

import (
	"fmt"
	"slices"
	"time"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// Decide judges every image of a plan by the facts, one per task and in the order of the tasks. now is the
// request's clock. Attestations that [Settle] did not settle are evaluated here, with no end but that of the budget of
// conditions: the shell settles all.
func Decide(plan Plan, facts []Fact, now time.Time) Verdict {
	results := make([]Result, 0, len(plan.Images))
	for _, planned := range plan.Images {
		if planned.Early != nil {
			results = append(results, result(planned.Image, *planned.Early))
			continue
		}
		var fact Fact
		if planned.Task < len(facts) {
			fact = facts[planned.Task]
		}
		results = append(results, decideImage(planned.Image, plan.Tasks[planned.Task], fact, now))
	}
	return newVerdict(results)
}

// check looks at one side of the facts. It gives nil where nothing stands against the image.
type check func(task Task, fact Fact, now time.Time) *reason.Finding

// checks in the order in which a person would want to know.
func checks() []check { return []check{resolved, signed, attested} }

func decideImage(image Image, task Task, fact Fact, now time.Time) Result {
	for _, check := range checks() {
		if finding := check(task, fact, now); finding != nil {
			denied := result(image, against(*finding))
			denied.Digest = fact.Digest
			return denied
		}
	}
	if task.Statement.Level == trust.LevelSkip && fact.Signature.Skipped {
		return skipped(image, task, fact)
	}
	return verified(image, fact)
}

// against keeps a finding from admitting: what was found out can stand against an image, never for it.
func against(finding reason.Finding) reason.Finding {
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

func skipped(image Image, task Task, fact Fact) Result {
	text := fmt.Sprintf("statement %q of trust policy %q has level skip", task.Statement.Name, task.Policy)
	r := result(image, reason.Finding{Code: reason.Skipped, Reason: text})
	r.Digest = fact.Digest
	return r
}

func verified(image Image, fact Fact) Result {
	r := result(image, reason.Finding{Code: reason.Verified, Reason: "signed by " + fact.Signature.Signer})
	r.Digest, r.Signer, r.Warnings = fact.Digest, fact.Signature.Signer, logged(fact)
	if image.Ref.Digest == "" {
		r.Image = image.pinned(fact.Digest)
		r.Op, r.Value = "replace", r.Image
	}
	return r
}

// logged is what stands against the image but does not deny it: what was told of its digest, and what the level only
// logs of its signature and of its attestations'.
func logged(fact Fact) []string {
	warnings := slices.Concat(fact.Logged, fact.Signature.Logged)
	for _, found := range fact.Attestations {
		warnings = append(warnings, found.logged()...)
	}
	return warnings
}

func (found AttestationsFact) logged() []string {
	if found.Settled != nil {
		return found.Settled.Logged
	}
	var warnings []string
	for _, attestation := range found.Candidates {
		for _, text := range attestation.Signature.Logged {
			warnings = append(warnings, fmt.Sprintf("attestation %s: %s", attestation.Digest, text))
		}
	}
	return warnings
}

// resolved demands that gathering went through and gave the digest that the image names, if it names one.
func resolved(task Task, fact Fact, _ time.Time) *reason.Finding {
	switch {
	case fact.Failure != nil:
		return fact.Failure
	case fact.Digest == "" && !needsNothing(task):
		return &reason.Finding{Code: reason.NotGathered, Reason: "its digest was not resolved; try again"}
	case task.Ref.Digest != "" && fact.Digest != "" && fact.Digest != task.Ref.Digest:
		return &reason.Finding{Code: reason.RegistryInvalid, Reason: fmt.Sprintf("the registry gave %s for it; that is another image", fact.Digest)}
	}
	return nil
}

// needsNothing tells that a task asks for no fact from a registry.
func needsNothing(task Task) bool {
	return task.Statement.Level == trust.LevelSkip && len(task.Attestations) == 0
}

// signed demands a signature that satisfies the statement, except under the level skip.
func signed(task Task, fact Fact, now time.Time) *reason.Finding {
	if fact.Signature.Skipped && task.Statement.Level == trust.LevelSkip {
		return nil
	}
	return unsatisfied(fact.Signature, task.Ref.Pinned(fact.Digest), now)
}

// unsatisfied says why no signature of an artifact satisfies; nil when one does.
func unsatisfied(signature SignatureFact, artifact string, now time.Time) *reason.Finding {
	switch {
	case signature.Verified:
		return outlived(signature, now)
	case len(signature.Rejected) > 0:
		return rejected(signature)
	case signature.Limited:
		return &reason.Finding{Code: reason.TooManySignatures, Reason: "no signature could be tried under the limit; raise --maxSignatureAttempts"}
	}
	return &reason.Finding{Code: reason.NoSignature, Reason: fmt.Sprintf("no signature is associated with %q, make sure the artifact was signed successfully", artifact)}
}

// outlived tells whether a signature that verified when it was looked at would not do so any more.
func outlived(signature SignatureFact, now time.Time) *reason.Finding {
	if signature.ValidUntil.IsZero() || now.Before(signature.ValidUntil) {
		return nil
	}
	return &reason.Finding{Code: reason.SignatureExpired, Reason: fmt.Sprintf("its signature or the signer's certificate expired at %s", signature.ValidUntil.UTC().Format(time.RFC3339))}
}

// rejected sums up signatures that were tried in vain. Where one attempt failed for a reason that may pass, or with which it
// is open whether the signature is good, that reason counts.
func rejected(signature SignatureFact) *reason.Finding {
	if transient := firstTransient(signature.Rejected); transient != nil {
		return transient
	}
	n, text, code := len(signature.Rejected), reasons(signature.Rejected), signature.Rejected[0].Code
	if unknown := firstOf(signature.Rejected, func(f reason.Finding) bool { return f.Code.LeavesOpen() }); unknown != nil {
		code = unknown.Code
	} else if signature.Limited {
		code = reason.TooManySignatures
	}
	switch {
	case signature.Limited:
		return &reason.Finding{Code: code, Reason: fmt.Sprintf("the first %d of its signatures do not satisfy the trust policy and the rest were not tried: %s", n, text)}
	case n > 1:
		return &reason.Finding{Code: code, Reason: fmt.Sprintf("none of its %d signatures satisfies the trust policy: %s", n, text)}
	}
	return &signature.Rejected[0]
}

// reasons joins the first few reasons of a list that may be long.
func reasons(findings []reason.Finding) string {
	const most = 3
	text := ""
	for i, finding := range findings {
		if i == most {
			return text + fmt.Sprintf("; and %d more", len(findings)-most)
		}
		if i > 0 {
			text += "; "
		}
		text += finding.Reason
	}
	return text
}

// firstUndecided finds a reason with which it is open whether an attestation counts: one that may pass, one for which a
// signature could not be verified although its signer may be trusted, signatures of which not all were tried, or that it is
// signed and cannot be had. The one that counts may be among what anyone may attach to bury it.
func firstUndecided(findings []reason.Finding) *reason.Finding {
	if transient := firstTransient(findings); transient != nil {
		return transient
	}
	return firstOf(findings, func(f reason.Finding) bool {
		return f.Code.LeavesOpen() || f.Code == reason.TooManySignatures || f.Code == reason.AttestationMissing
	})
}

// firstTransient finds a reason that may pass: with it, the facts are not all in hand.
func firstTransient(findings []reason.Finding) *reason.Finding {
	return firstOf(findings, func(f reason.Finding) bool { return f.Code.Class() != reason.Denied })
}

func firstOf(findings []reason.Finding, is func(reason.Finding) bool) *reason.Finding {
	found, ok := lo.Find(findings, is)
	if !ok {
		return nil
	}
	return &found
}
