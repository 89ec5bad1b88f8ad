package audit

import (
	"slices"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// Verdict is the outcome of a check. The zero value could not be told.
type Verdict struct {
	Code     reason.Code
	Reason   string // a sentence
	Digest   string // that was verified; "" when it was not resolved
	Signer   string
	Warnings []string

	Ends    []End // of an admitted image
	Anchors []verification.Anchor
}

// Verdicts are those of the checks that were made.
type Verdicts map[Check]Verdict

// End is when a signature of an image or of one of its attestations stops, or may stop, verifying.
type End struct {
	verification.End
	Attestation string // digest of the attestation; "" for the image's own signature

	trustPolicy string // of the check; set where ends of several are compared
}

// Judge makes the verdict of a check from its plan, which has one image, and the facts about it.
func Judge(plan core.Plan, facts []verification.Fact, now time.Time) Verdict {
	decided := core.Decide(plan, facts, now)
	if len(decided.Results) != 1 {
		return Verdict{}
	}
	result := decided.Results[0]
	verdict := Verdict{Code: result.Code, Reason: result.Reason, Digest: result.Digest, Signer: result.Signer, Warnings: result.Warnings}
	if result.Code != reason.Verified || len(facts) != 1 {
		return verdict
	}
	verdict.add(facts[0].Signature, "")
	for _, manifest := range facts[0].Manifests() {
		verdict.add(manifest.Signature, "")
	}
	for _, found := range facts[0].AllAttestations() {
		for _, attestation := range found.Candidates {
			if attestation.NotApplicable == nil && attestation.Missing == nil && attestation.Signature.Verified {
				verdict.add(attestation.Signature, attestation.Digest)
			}
		}
	}
	verdict.Ends = slices.DeleteFunc(verdict.Ends, func(end End) bool { // another attestation carries the image on
		return end.Cause.Certain() && end.Attestation != "" && core.Decide(plan, facts, end.At).Class == reason.Admitted
	})
	return verdict
}

// Foreseen adds that the image is not admitted at a later time, by a condition that reads the clock, from the verdict for that time.
// When before it the condition ends is not known.
func (v Verdict) Foreseen(later Verdict, at time.Time) Verdict {
	switch {
	case !v.admitted():
	case later.undecided():
		return later
	case later.Code == reason.ConditionUnmet || later.Code == reason.ConditionInvalid:
		v.Ends = append(slices.Clone(v.Ends), End{End: verification.End{Cause: verification.EndOfCondition, At: at, Subject: later.Reason}})
	}
	return v
}

// Refused is the verdict on an image, or under a trust policy, that cannot be verified at all.
func Refused(why string) Verdict { return Verdict{Code: reason.RequestInvalid, Reason: why} }

func (v *Verdict) add(signature verification.SignatureFact, attestation string) {
	for _, end := range signature.Ends {
		v.Ends = append(v.Ends, End{End: end, Attestation: attestation})
	}
	v.Anchors = append(v.Anchors, signature.Anchors...)
}

// admitted, denied and undecided: one of them is true.
func (v Verdict) admitted() bool  { return v.Code != "" && v.Code.Class() == reason.Admitted }
func (v Verdict) undecided() bool { return !v.admitted() && !v.denied() }
func (v Verdict) denied() bool {
	class := v.Code.Class()
	return v.Code != "" && (class == reason.Denied || class == reason.Rejected)
}

// hides tells whether one trust denies for want of a service or a plugin, which says nothing against the signer, and the other
// for something else: elsewhere, or a moment later, the first may admit.
func (v Verdict) hides(other Verdict) bool {
	return v.wanting() && other.denied() && other.Code != v.Code
}

func (v Verdict) wanting() bool {
	return v.Code == reason.RevocationUnknown || v.Code == reason.PluginMissing || v.Code == reason.PluginIncapable
}

// of gives the verdict on a check; one that could not be told where it was not made.
func (v Verdicts) of(check Check) Verdict {
	verdict, ok := v[check]
	if !ok || verdict.Code == "" {
		return Verdict{Code: reason.NotGathered, Reason: "it was not verified; try again"}
	}
	return verdict
}

// rank is lowest for the worst verdicts.
func (v Verdict) rank() int {
	switch {
	case v.denied() && !v.wanting():
		return 0
	case v.denied():
		return 1
	case v.undecided():
		return 2
	case v.Code != reason.Verified:
		return 3
	}
	return 4
}

// Decided tells whether a verdict admits or denies: a registry, a plugin or time did not keep it from that.
func (v Verdict) Decided() bool { return !v.undecided() }
