package verification_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// TestCheckLeavesUndecidedWhatAnAttestationMayDecide checks that no image is admitted beside an attestation that may
// count and could not be verified. Only a definitive finding on its signature lets an attestation be skipped.
func TestCheckLeavesUndecidedWhatAnAttestationMayDecide(t *testing.T) {
	passedOver := []reason.Code{
		reason.NoSignature, reason.SignatureInvalid, reason.SignatureMismatch, reason.SignatureUntrusted, reason.SignatureExpired,
		reason.CertificateExpired, reason.CertificateRevoked, reason.TimestampInvalid, reason.PluginRefused,
	}
	open := []reason.Code{
		reason.RevocationUnknown, reason.TrustStoreUnavailable, reason.PluginMissing, reason.PluginIncapable, reason.PluginFailed,
		reason.PluginTimeout, reason.Timeout, reason.RegistryUnavailable, reason.RegistryInvalid, reason.RegistryUnauthorized, reason.NotGathered,
	}
	demand := verification.AttestationType{Name: "sbom/example", Select: verification.SelectAll}
	task := verification.Task{Policy: "demo", Statement: trust.Statement{Level: "strict"}, Attestations: []verification.AttestationType{demand}}
	good := verification.AttestationFact{Digest: "sha256:a", Signature: verification.SignatureFact{Verified: true}}
	for _, code := range slices.Concat(passedOver, open) {
		for sentence, rejected := range map[string][]reason.Finding{
			"alone":                         {{Code: code}},
			"behind a stranger's signature": {{Code: reason.SignatureUntrusted}, {Code: code}},
		} {
			other := verification.AttestationFact{Digest: "sha256:b", Signature: verification.SignatureFact{Rejected: rejected}}
			fact := verification.Fact{Digest: "sha256:0", Signature: good.Signature}
			fact.Attestations = []verification.AttestationsFact{{Candidates: []verification.AttestationFact{good, other}}}
			finding := verification.Check(task, fact, time.Now())
			switch wanted := slices.Contains(open, code); {
			case wanted && (finding == nil || finding.Code != code):
				t.Errorf("%s, %s: %+v; want it to deny", code, sentence, finding)
			case !wanted && finding != nil:
				t.Errorf("%s, %s: %+v; want it passed over", code, sentence, finding)
			}
		}
	}
}
