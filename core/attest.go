package core

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/condition"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// clock is the moment at which conditions are evaluated.
type clock struct {
	now   time.Time
	ended func() bool // tells that the request has ended; nil where it never does
	read  bool        // an expression asked for the time: its outcome does not hold for another moment
}

// attested demands every attestation type of the task.
func attested(task Task, fact Fact, now time.Time) *reason.Finding {
	for i, demand := range task.Attestations {
		if i >= len(fact.Attestations) {
			return &reason.Finding{Code: reason.NotGathered, Reason: fmt.Sprintf("its attestations of type %q were not gathered; try again", demand.Name)}
		}
		if finding := attestedType(task, demand, fact.Attestations[i], fact.Digest, &clock{now: now}); finding != nil {
			return finding
		}
	}
	return nil
}

// Settle judges the attestations of one type as [Decide] would, so that the outcome can be kept without their
// payloads. Where conditions read the clock, the outcome is that of this moment, and the attestations stay beside it, to
// be judged anew. Once ended tells that the request has ended, what is left to evaluate is a [Timeout].
func Settle(task Task, demand AttestationType, found AttestationsFact, digest string, now time.Time, ended func() bool) AttestationsFact {
	clock := &clock{now: now, ended: ended}
	finding := attestedType(task, demand, found, digest, clock)
	settled := AttestationsFact{Settled: &Settlement{
		Finding:   finding,
		Clocked:   clock.read,
		Lasting:   (finding == nil || finding.Code.Definitive()) && !found.revocationOpen(),
		KeepUntil: found.KeepUntil(),
		Logged:    found.logged(),
	}}
	if clock.read {
		settled.Candidates = found.Candidates
	}
	return settled
}

func attestedType(task Task, demand AttestationType, found AttestationsFact, digest string, clock *clock) *reason.Finding {
	switch {
	case found.Failure != nil:
		return found.Failure
	case found.Settled != nil && len(found.Candidates) == 0:
		return found.Settled.Finding
	case len(found.Candidates) == 0:
		return &reason.Finding{Code: reason.AttestationMissing, Reason: fmt.Sprintf("no attestation of type %q is attached to %q; attach one and sign it", demand.Name, task.Ref.Pinned(digest))}
	}
	trusted, passedOver := sortOut(found.Candidates, task.Ref, clock.now)
	if undecided := firstUndecided(passedOver); undecided != nil && demand.Select != SelectAny {
		return undecided
	}
	if len(trusted) == 0 {
		return untrusted(task, demand, passedOver)
	}
	if demand.Conditions.Empty() {
		return nil
	}
	return meets(demand, Decisive(demand.Select, trusted), passedOver, clock)
}

// sortOut parts the attestations that count from the findings on those that do not.
func sortOut(candidates []AttestationFact, ref image.Reference, now time.Time) (trusted []AttestationFact, passedOver []reason.Finding) {
	for _, candidate := range candidates {
		finding := candidate.Foreign
		if finding == nil {
			finding = unsigned(candidate, ref, now)
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

// unsigned is unsatisfied for an attestation, which the reason names: the image has signatures of its own.
func unsigned(candidate AttestationFact, ref image.Reference, now time.Time) *reason.Finding {
	finding := unsatisfied(candidate.Signature, ref.Pinned(candidate.Digest), now)
	if finding == nil || finding.Code == reason.NoSignature {
		return finding
	}
	return &reason.Finding{Code: finding.Code, Reason: fmt.Sprintf("attestation %s: %s", candidate.Digest, finding.Reason)}
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

// Decisive picks those of the trusted attestations that the conditions are held against: the most recently
// signed one for SelectLatest (all of them, where several were signed in the same second), else each.
func Decisive(by Select, trusted []AttestationFact) []AttestationFact {
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

// meets holds the conditions against the decisive attestations: each of them must meet, or one of them for
// SelectAny. What was passed over without being decided could be that one.
func meets(demand AttestationType, decisive []AttestationFact, passedOver []reason.Finding, clock *clock) *reason.Finding {
	var unmet []reason.Finding
	for _, attestation := range decisive {
		finding := meet(demand, attestation, clock)
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

func meet(demand AttestationType, attestation AttestationFact, clock *clock) *reason.Finding {
	finding := attestation.Unusable
	if finding == nil {
		judged := attestation.judged(demand, clock)
		finding, clock.read = judged.Finding, clock.read || judged.Clocked
	}
	if finding == nil {
		return nil
	}
	return &reason.Finding{Code: finding.Code, Reason: fmt.Sprintf("attestation %s of type %q: %s", attestation.Digest, demand.Name, finding.Reason)}
}

// Judgement is what holding a demand's conditions against one payload gave.
type Judgement struct {
	Finding *reason.Finding // why they are not met; nil when they are
	At      time.Time       // the moment
	Clocked bool            // they read the clock, so that it is of that moment only
}

// Judge holds a demand's conditions against a payload, so that attestations can be settled without having all of their
// payloads at once. Once ended, where it is not nil, tells that the request has ended, the finding is a [Timeout].
func Judge(demand AttestationType, payload []byte, now time.Time, ended func() bool) Judgement {
	result := condition.Evaluate(demand.Conditions, payload, condition.Environment{Now: now, Ended: ended})
	judged := Judgement{At: now, Clocked: result.TimeDependent}
	switch result.Outcome {
	case condition.Met:
	case condition.Unmet:
		judged.Finding = &reason.Finding{Code: reason.ConditionUnmet, Reason: result.Reason}
	case condition.DocumentInvalid:
		judged.Finding = &reason.Finding{Code: reason.AttestationInvalid, Reason: result.Reason}
	case condition.Ended:
		judged.Finding = &reason.Finding{Code: reason.Timeout, Reason: result.Reason}
	default:
		judged.Finding = &reason.Finding{Code: reason.ConditionInvalid, Reason: result.Reason}
	}
	return judged
}

// judged gives the judgement of a moment: that which is there, if it holds, or else a new one.
func (a AttestationFact) judged(demand AttestationType, clock *clock) Judgement {
	if a.Judged != nil && (!a.Judged.Clocked || a.Judged.At.Equal(clock.now)) {
		return *a.Judged
	}
	return Judge(demand, a.Payload, clock.now, clock.ended)
}
