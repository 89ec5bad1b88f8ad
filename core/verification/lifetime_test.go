package verification_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// TestFactsTellWhatEndsASignature, and whether that is certain.
func TestFactsTellWhatEndsASignature(t *testing.T) {
	day := func(n int) time.Time { return now.AddDate(0, 0, n) }
	leaf := &x509.Certificate{Raw: []byte("leaf"), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: day(-9), NotAfter: day(20)}
	tests := map[string]struct {
		change func(*verification.Task, *verification.Report)
		want   []verification.Cause
	}{
		"its certificates": {func(*verification.Task, *verification.Report) {}, []verification.Cause{verification.EndOfCertificate, verification.EndOfCertificate}},
		"its own expiry too": {func(_ *verification.Task, r *verification.Report) { r.Expiry = day(3) },
			[]verification.Cause{verification.EndOfSignature, verification.EndOfCertificate, verification.EndOfCertificate}},
		"not an expiry that the level only logs": {func(_ *verification.Task, r *verification.Report) {
			r.Expiry, r.Enforced[verification.CheckExpiry] = day(3), false
		}, []verification.Cause{verification.EndOfCertificate, verification.EndOfCertificate}},
		"not certificates, where a timestamp was verified": {func(task *verification.Task, _ *verification.Report) {
			task.Statement.TrustStores = append(task.Statement.TrustStores, "tsa:times")
		}, nil},
		"certificates, unless the timestamp verifies then": {func(task *verification.Task, _ *verification.Report) {
			task.Statement.TrustStores = append(task.Statement.TrustStores, "tsa:times")
			task.Statement.VerifyTimestamp = "afterCertExpiry"
		}, []verification.Cause{verification.NeedsTimestamp, verification.NeedsTimestamp}},
		"the revocation data": {func(_ *verification.Task, r *verification.Report) {
			r.FreshUntil, r.Enforced[verification.CheckRevocation], r.Enforced[verification.CheckAuthenticTimestamp] = day(1), true, false
		}, []verification.Cause{verification.NeedsRevocation}},
		"not revocation data that nothing depends on": {func(_ *verification.Task, r *verification.Report) {
			r.FreshUntil, r.Enforced[verification.CheckAuthenticTimestamp] = day(1), false
		}, nil},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			task := taskFor(t, repository+":v1")
			task.Limits.Lifetimes = true
			report := reportOf(descriptor("image"), "acme")
			report.Chain = []*x509.Certificate{leaf, signers["acme"]}
			report.Enforced[verification.CheckAuthenticTimestamp] = true
			tt.change(&task, &report)
			assessment := verification.Assess(task, report, now)
			if !assessment.Fact.Verified {
				t.Fatalf("rejected: %+v", assessment.Rejected)
			}
			var got []verification.Cause
			for _, end := range assessment.Fact.Ends {
				got = append(got, end.Cause)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("causes %q, want %q", got, tt.want)
			}
			if anchors := assessment.Fact.Anchors; len(anchors) != 1 || anchors[0].Store != "ca:acme" || len(anchors[0].Fingerprint) != 64 {
				t.Errorf("anchors %+v", anchors)
			}
		})
	}
}

// TestAnchorsAreOfTheSignersScheme: a certificate in a store of another type vouches for nothing.
func TestAnchorsAreOfTheSignersScheme(t *testing.T) {
	task := taskFor(t, repository+":v1")
	task.Limits.Lifetimes = true
	authority := trust.StoreRef{Type: trust.StoreSigningAuthority, Name: "acme"}
	task.Stores[authority] = trust.Store{Ref: authority, Certificates: []*x509.Certificate{signers["acme"]}}
	task.Statement.TrustStores = append(task.Statement.TrustStores, authority.String())
	fact := verification.Assess(task, reportOf(descriptor("image"), "acme"), now).Fact
	if len(fact.Anchors) != 1 || fact.Anchors[0].Store != "ca:acme" {
		t.Errorf("anchors %+v", fact.Anchors)
	}
}

// TestLifetimesAreLeftOutUnlessAsked, since the service would keep them with every outcome.
func TestLifetimesAreLeftOutUnlessAsked(t *testing.T) {
	fact := verification.Assess(taskFor(t, repository+":v1"), reportOf(descriptor("image"), "acme"), now).Fact
	if fact.Ends != nil || fact.Anchors != nil {
		t.Errorf("ends %+v, anchors %+v", fact.Ends, fact.Anchors)
	}
}
