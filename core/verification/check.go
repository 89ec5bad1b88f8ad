package verification

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/condition"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// Check decides whether the facts about an image satisfy its task: the digest first, then the signature, then those of the
// manifests of its index, then the attestations. It gives the first finding that denies the image, or nil where it may be admitted.
func Check(task Task, fact Fact, now time.Time) *reason.Finding {
	for _, check := range []func(Task, Fact, time.Time) *reason.Finding{resolved, signed, platformsSigned, attested} {
		if finding := check(task, fact, now); finding != nil {
			return finding
		}
	}
	return nil
}

// resolved demands a digest, which must be the one that the image names, if it names one.
func resolved(task Task, fact Fact, _ time.Time) *reason.Finding {
	switch {
	case fact.Failure != nil:
		return fact.Failure
	case fact.Digest == "" && !task.needsNothing():
		return &reason.Finding{Code: reason.NotGathered, Reason: "its digest was not resolved; try again"}
	case task.Ref.Digest != "" && fact.Digest != "" && fact.Digest != task.Ref.Digest:
		return &reason.Finding{Code: reason.RegistryInvalid, Reason: fmt.Sprintf("the registry gave %s for it; that is another image", fact.Digest)}
	}
	return nil
}

// signed demands a signature that satisfies the statement, except under the level skip.
func signed(task Task, fact Fact, now time.Time) *reason.Finding {
	if fact.Signature.Skipped && task.Statement.Level == trust.LevelSkip {
		return nil
	}
	return notSatisfied(fact.Signature, task, fact.Digest, now)
}

// notSatisfied says why no signature of an artifact satisfies the statement; nil when one does. The artifact is the one with
// the digest in the image's repository.
func notSatisfied(signature SignatureFact, task Task, digest string, now time.Time) *reason.Finding {
	switch {
	case signature.Verified:
		return expired(signature, now)
	case len(signature.Rejected) > 0:
		return rejected(signature)
	case signature.Truncated:
		return &reason.Finding{Code: reason.TooManySignatures, Reason: "no signature could be tried under the limit; raise --maxSignatureAttempts"}
	}
	return &reason.Finding{Code: reason.NoSignature, Reason: fmt.Sprintf("no signature is associated with %q%s, make sure the artifact was signed successfully", task.Ref.Pinned(digest), task.inRepository())}
}

// expired gives the finding for a signature that was valid when it was verified and has expired since; nil for others.
func expired(signature SignatureFact, now time.Time) *reason.Finding {
	if signature.ValidUntil.IsZero() || now.Before(signature.ValidUntil) {
		return nil
	}
	return &reason.Finding{Code: reason.SignatureExpired, Reason: fmt.Sprintf("its signature or the signer's certificate expired at %s", signature.ValidUntil.UTC().Format(time.RFC3339))}
}

// rejected sums up the signatures that were tried in vain. A transient failure, or one that leaves open whether its signature
// is good, takes precedence over the others.
func rejected(signature SignatureFact) *reason.Finding {
	if transient := firstTransient(signature.Rejected); transient != nil {
		return transient
	}
	n, text, code := len(signature.Rejected), reasons(signature.Rejected), signature.Rejected[0].Code
	if unknown := firstOf(signature.Rejected, func(f reason.Finding) bool { return f.Code.LeavesOpen() }); unknown != nil {
		code = unknown.Code
	} else if signature.Truncated {
		code = reason.TooManySignatures
	}
	switch {
	case signature.Truncated:
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

// firstUndecided finds a finding that leaves open whether an attestation counts: a transient failure, a signature that could
// not be verified although its signer may be trusted, more signatures than are tried, or a signed attestation that is
// missing. Otherwise anyone with push rights could hide a trusted attestation behind others.
func firstUndecided(findings []reason.Finding) *reason.Finding {
	if transient := firstTransient(findings); transient != nil {
		return transient
	}
	return firstOf(findings, func(f reason.Finding) bool {
		return f.Code.LeavesOpen() || f.Code == reason.TooManySignatures || f.Code == reason.AttestationMissing
	})
}

// firstTransient finds a finding of a transient failure, which leaves the facts incomplete.
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

// attested demands every attestation type of the task.
func attested(task Task, fact Fact, now time.Time) *reason.Finding {
	if task.byPlatform() && !fact.Index.Single {
		return platformsAttested(task, fact, now)
	}
	return attestedBy(task, fact.Attestations, fact.Digest, now)
}

// attestedBy demands every attestation type of the task of one manifest.
func attestedBy(task Task, found []AttestationsFact, digest string, now time.Time) *reason.Finding {
	for i, demand := range task.Attestations {
		if i >= len(found) {
			return &reason.Finding{Code: reason.NotGathered, Reason: fmt.Sprintf("its attestations of type %q were not gathered; try again", demand.Name)}
		}
		if finding := attestedType(task, demand, found[i], digest, now); finding != nil {
			return finding
		}
	}
	return nil
}

// attestedType demands attestations of one type: of the trusted ones, those that select chooses must meet the conditions.
func attestedType(task Task, demand AttestationType, found AttestationsFact, digest string, now time.Time) *reason.Finding {
	switch {
	case found.Failure != nil:
		return found.Failure
	case len(found.Candidates) == 0:
		return &reason.Finding{Code: reason.AttestationMissing, Reason: fmt.Sprintf("no attestation of type %q is attached to %q%s; attach one and sign it", demand.Name, task.Ref.Pinned(digest), task.inRepository())}
	}
	trusted, passedOver := sortOut(found.Candidates, task, now)
	if undecided := firstUndecided(passedOver); undecided != nil && demand.Select != SelectAny {
		return undecided
	}
	if len(trusted) == 0 {
		return untrusted(task, demand, passedOver)
	}
	if demand.Conditions.Empty() {
		return nil
	}
	return meets(demand, applySelect(demand.Select, trusted), passedOver)
}

// sortOut separates the trusted attestations from the findings on the others.
func sortOut(candidates []AttestationFact, task Task, now time.Time) (trusted []AttestationFact, passedOver []reason.Finding) {
	for _, candidate := range candidates {
		finding := candidate.NotApplicable
		if finding == nil {
			finding = notSatisfied(candidate.Signature, task, candidate.Digest, now)
			if finding != nil && finding.Code != reason.NoSignature { // the image has signatures of its own
				finding = &reason.Finding{Code: finding.Code, Reason: fmt.Sprintf("attestation %s: %s", candidate.Digest, finding.Reason)}
			}
		}
		if finding == nil {
			finding = candidate.Missing
		}
		if finding == nil {
			trusted = append(trusted, candidate)
		} else {
			passedOver = append(passedOver, *finding)
		}
	}
	return trusted, passedOver
}

func untrusted(task Task, demand AttestationType, passedOver []reason.Finding) *reason.Finding {
	if undecided := firstUndecided(passedOver); undecided != nil {
		return undecided
	}
	if task.Statement.Level == trust.LevelSkip {
		return &reason.Finding{Code: reason.AttestationUntrusted, Reason: fmt.Sprintf("statement %q of trust policy %q has level skip, under which no attestation of type %q can be trusted; raise the level", task.Statement.Name, task.Policy, demand.Name)}
	}
	return &reason.Finding{Code: reason.AttestationUntrusted, Reason: fmt.Sprintf("no attestation of type %q is signed as trust policy %q demands: %s", demand.Name, task.Policy, reasons(passedOver))}
}

// applySelect chooses the trusted attestations that must meet the conditions: for SelectLatest the most recently signed one,
// or all that were signed in the same second as it, else all.
func applySelect(by Select, trusted []AttestationFact) []AttestationFact {
	if by != SelectLatest || len(trusted) == 0 {
		return trusted
	}
	latest := slices.MaxFunc(trusted, func(a, b AttestationFact) int {
		return cmp.Compare(a.Signature.SignedAt.Unix(), b.Signature.SignedAt.Unix())
	})
	return lo.Filter(trusted, func(a AttestationFact, _ int) bool {
		return a.Signature.SignedAt.Unix() == latest.Signature.SignedAt.Unix()
	})
}

// meets demands that all selected attestations meet the conditions, or one of them for SelectAny. Then an attestation that was
// skipped undecided could be the one.
func meets(demand AttestationType, selected []AttestationFact, passedOver []reason.Finding) *reason.Finding {
	var unmet []reason.Finding
	for _, attestation := range selected {
		finding := meet(demand, attestation)
		switch {
		case finding == nil && demand.Select == SelectAny:
			return nil
		case finding != nil && demand.Select != SelectAny:
			return finding
		case finding != nil:
			unmet = append(unmet, *finding)
		}
	}
	if len(unmet) == 0 {
		return nil
	}
	if undecided := firstUndecided(slices.Concat(unmet, passedOver)); undecided != nil {
		return undecided
	}
	return &reason.Finding{Code: unmet[0].Code, Reason: reasons(unmet)}
}

func meet(demand AttestationType, attestation AttestationFact) *reason.Finding {
	finding := attestation.Unusable
	switch {
	case finding != nil:
	case attestation.Evaluation == nil:
		finding = &reason.Finding{Code: reason.NotGathered, Reason: "its document was not evaluated; try again"}
	default:
		finding = attestation.Evaluation.Finding
	}
	if finding == nil {
		return nil
	}
	return &reason.Finding{Code: finding.Code, Reason: fmt.Sprintf("attestation %s of type %q: %s", attestation.Digest, demand.Name, finding.Reason)}
}

// Evaluation is the result of evaluating a demand's conditions on one document.
type Evaluation struct {
	Finding       *reason.Finding `json:"finding,omitzero"`       // why they are not met; nil when they are
	Met           []string        `json:"met,omitzero"`           // what conditions that are met saw, a sentence each, bounded; whether or not all are met
	At            time.Time       `json:"at,omitzero"`            // the time for which they were evaluated
	TimeDependent bool            `json:"timeDependent,omitzero"` // they read the clock, so the evaluation holds for that time only
	Document      []byte          `json:"-"`                      // the document, where it is kept to be evaluated for another time; nil where it is not
}

// Evaluate evaluates a demand's conditions on a document as soon as it is read, so that the documents of a task need not be in
// memory together. ended tells whether the request has ended, which makes the finding a Timeout; nil for never.
func Evaluate(demand AttestationType, document []byte, now time.Time, ended func() bool) Evaluation {
	result := condition.Evaluate(demand.Conditions, document, condition.Environment{Now: now, Ended: ended})
	evaluation := Evaluation{Met: result.Met, At: now, TimeDependent: result.TimeDependent}
	switch result.Outcome {
	case condition.Met:
	case condition.Unmet:
		evaluation.Finding = &reason.Finding{Code: reason.ConditionUnmet, Reason: result.Reason}
	case condition.DocumentInvalid:
		evaluation.Finding = &reason.Finding{Code: reason.AttestationInvalid, Reason: result.Reason}
	case condition.Ended:
		evaluation.Finding = &reason.Finding{Code: reason.Timeout, Reason: result.Reason}
	default:
		evaluation.Finding = &reason.Finding{Code: reason.ConditionInvalid, Reason: result.Reason}
	}
	return evaluation
}
