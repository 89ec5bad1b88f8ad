package core_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// TestAttestationsThatMayCount lets nothing admit an image beside an attestation of which it is open whether it counts. Only
// what is known of a signature that was tried in vain lets its attestation be passed over.
func TestAttestationsThatMayCount(t *testing.T) {
	passedOver := []reason.Code{
		reason.NoSignature, reason.SignatureInvalid, reason.SignatureMismatch, reason.SignatureUntrusted, reason.SignatureExpired,
		reason.CertificateExpired, reason.CertificateRevoked, reason.TimestampInvalid, reason.PluginRefused,
	}
	open := []reason.Code{
		reason.RevocationUnknown, reason.TrustStoreUnavailable, reason.PluginMissing, reason.PluginIncapable, reason.PluginFailed,
		reason.PluginTimeout, reason.Timeout, reason.RegistryUnavailable, reason.RegistryInvalid, reason.RegistryUnauthorized, reason.NotGathered,
	}
	demand := core.AttestationType{Name: "sbom/example", Select: core.SelectAll}
	task := core.Task{Policy: "demo", Statement: trust.Statement{Level: "strict"}, Attestations: []core.AttestationType{demand}}
	good := core.AttestationFact{Digest: "sha256:a", Signature: core.SignatureFact{Verified: true}}
	for _, code := range slices.Concat(passedOver, open) {
		for sentence, rejected := range map[string][]reason.Finding{
			"alone":                         {{Code: code}},
			"behind a stranger's signature": {{Code: reason.SignatureUntrusted}, {Code: code}},
		} {
			other := core.AttestationFact{Digest: "sha256:b", Signature: core.SignatureFact{Rejected: rejected}}
			settled := core.Settle(task, demand, core.AttestationsFact{Candidates: []core.AttestationFact{good, other}}, "sha256:0", time.Now(), nil).Settled
			switch wanted := slices.Contains(open, code); {
			case wanted && (settled.Finding == nil || settled.Finding.Code != code):
				t.Errorf("%s, %s: %+v; want it to deny", code, sentence, settled.Finding)
			case !wanted && settled.Finding != nil:
				t.Errorf("%s, %s: %+v; want it passed over", code, sentence, settled.Finding)
			}
		}
	}
}
