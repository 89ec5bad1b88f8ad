package verification

import (
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// after is noon and so much later; no bound for 0.
func after(d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return noon.Add(d)
}

func TestFactsAreFreshUntilTheirFirstBound(t *testing.T) {
	signature := func(valid, fresh time.Duration) SignatureFact {
		return SignatureFact{Verified: true, ValidUntil: after(valid), FreshUntil: after(fresh)}
	}
	tests := map[string]struct {
		signatures []SignatureFact // of the image, and of its attestations
		want       time.Duration   // from noon; 0 for never
	}{
		"nothing ends":                   {[]SignatureFact{signature(0, 0)}, 0},
		"the signature ends":             {[]SignatureFact{signature(time.Hour, 0)}, time.Hour},
		"a list ends":                    {[]SignatureFact{signature(0, time.Hour)}, time.Hour},
		"both end":                       {[]SignatureFact{signature(time.Hour, time.Minute)}, time.Minute},
		"of several, the first one ends": {[]SignatureFact{signature(0, 0), signature(time.Hour, 0), signature(time.Minute, 0)}, time.Minute},
	}
	for sentence, test := range tests {
		fact := Fact{Digest: "sha256:a", Signature: test.signatures[0]}
		task := Task{Limits: Limits{Keep: time.Hour}}
		for _, s := range test.signatures[1:] {
			task.Attestations = append(task.Attestations, AttestationType{Select: SelectAll})
			fact.Attestations = append(fact.Attestations, AttestationsFact{Candidates: []AttestationFact{{Signature: s}}})
		}
		if got := FreshFact(task, fact, noon); !got.Until.Equal(after(test.want)) || got.For != time.Hour {
			t.Errorf("%s: %+v; want %s", sentence, got, after(test.want))
		}
	}
}

func TestDefinitiveFactsMayBeKept(t *testing.T) {
	rejected := func(codes ...reason.Code) SignatureFact {
		var s SignatureFact
		for _, code := range codes {
			s.Rejected = append(s.Rejected, reason.Finding{Code: code})
		}
		return s
	}
	good := SignatureFact{Verified: true}
	tests := map[string]struct {
		signature SignatureFact
		want      time.Duration
	}{
		"a good signature":                      {good, time.Hour},
		"a good one of unknown revocation":      {SignatureFact{Verified: true, RevocationUnknown: true}, 0},
		"no signature":                          {SignatureFact{}, keepDenials},
		"a foreign signature":                   {rejected(reason.SignatureUntrusted), keepDenials},
		"one that could not be fetched":         {rejected(reason.SignatureUntrusted, reason.RegistryUnavailable), 0},
		"one whose revocation is unknown":       {rejected(reason.RevocationUnknown), 0},
		"one such beside a foreign one":         {rejected(reason.SignatureUntrusted, reason.RevocationUnknown), 0},
		"one that a plugin had no time for":     {rejected(reason.PluginTimeout), 0},
		"a good one beside one out of reach":    {SignatureFact{Verified: true, Rejected: rejected(reason.Timeout).Rejected}, time.Hour},
		"one that the service had no place for": {rejected(reason.Overloaded), 0},
	}
	limits := Limits{Keep: time.Hour}
	for sentence, test := range tests {
		if got := FreshFact(Task{Limits: limits}, Fact{Digest: "sha256:a", Signature: test.signature}, noon).For; got != test.want {
			t.Errorf("%s: kept for %s; want %s", sentence, got, test.want)
		}
		task := Task{Limits: limits, Attestations: []AttestationType{{Select: SelectAll}}}
		fact := Fact{Digest: "sha256:a", Signature: good, Attestations: []AttestationsFact{{Candidates: []AttestationFact{{Signature: test.signature}}}}}
		if got := FreshFact(task, fact, noon).For; got != test.want {
			t.Errorf("%s, of an attestation: kept for %s; want %s", sentence, got, test.want)
		}
	}
	failed := Fact{Failure: &reason.Finding{Code: reason.ImageNotFound}}
	if got := FreshFact(Task{Limits: limits}, failed, noon).For; got != 0 {
		t.Errorf("a course that ended early is kept for %s", got)
	}
	skip := Task{Limits: limits, Statement: trust.Statement{Level: trust.LevelSkip}, Attestations: []AttestationType{{Select: SelectAll}}}
	if got := FreshFact(skip, Fact{Digest: "sha256:a", Signature: SignatureFact{Skipped: true}, Attestations: []AttestationsFact{{}}}, noon).For; got != keepDenials {
		t.Errorf("a missing attestation under the level skip is kept for %s", got)
	}
}
