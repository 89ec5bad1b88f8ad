package vsa

import (
	"fmt"
	"strings"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// Summarize gives what a record says of an image by its digest. An error says why nothing can be attested: the record does not
// replay, the image is not in it, could not be verified, or was admitted without being verified as its trust policy says.
// repository, with its registry, limits it to one; "" for any. Verifier, Version and Levels are left to the caller.
func Summarize(r record.Record, repository, digest string) (Summary, error) {
	if err := record.Replay(r); err != nil {
		return Summary{}, err
	}
	var refused error = &NotFoundError{digest}
	for _, planned := range r.Plan.Images {
		if planned.Decided != nil || planned.Task >= len(r.Plan.Tasks) || planned.Task >= len(r.Evidence) {
			continue
		}
		task, fact := r.Plan.Tasks[planned.Task], r.Evidence[planned.Task].Fact
		image := task.Reference.Name()
		if fact.Digest != digest || repository != "" && image != repository {
			continue
		}
		for _, result := range r.Verdict.Results {
			if result.Path != planned.Image.Pointer {
				continue
			}
			switch passed, err := passes(result.Code, result.Warnings); {
			case err != nil:
				refused = err
			default:
				summary := Summary{At: r.Time, Image: image, Digest: digest, Policy: task.Policy, Revision: task.Revision, Passed: passed}
				summary.Attestations, summary.Signatures = inputs(fact, r.Evidence[planned.Task].Asked)
				return summary, nil
			}
		}
	}
	return Summary{}, refused
}

// NotFoundError says that a record is of other images.
type NotFoundError struct{ Digest string }

// Error names the digest.
func (e *NotFoundError) Error() string {
	return "no image of the digest " + e.Digest + " was decided on"
}

// passes tells whether an image passed. It is an error where nothing was found out about it.
func passes(code reason.Code, warnings []string) (bool, error) {
	switch {
	case code == reason.Verified && len(warnings) > 0:
		return false, fmt.Errorf("it was admitted although not all was verified: %s", strings.Join(warnings, "; "))
	case code == reason.Verified:
		return true, nil
	case code.Class() == reason.Denied:
		return false, nil
	}
	return false, fmt.Errorf("it was not verified: %s", code)
}

// inputs gives the digests of what speaks for an image: attestations with a signature that is trusted, and the signatures that
// were verified for this decision.
func inputs(fact verification.Fact, asked []record.Asked) (attestations, signatures []string) {
	for _, found := range fact.AllAttestations() {
		for _, candidate := range found.Candidates {
			if candidate.NotApplicable == nil && candidate.Signature.Verified {
				attestations = append(attestations, candidate.Digest)
			}
		}
	}
	for _, each := range asked {
		if each.Lookup.Kind == verification.Signature && each.Answer.Signature.Fact.Verified {
			signatures = append(signatures, each.Lookup.Subject)
		}
	}
	return lo.Uniq(attestations), lo.Uniq(signatures)
}
