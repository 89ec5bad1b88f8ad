package verify_test

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/notaryproject/notation-core-go/signature"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/testdata/registry"
	"github.com/nirmata/kyverno-notation-venafi/testdata/signing"
)

// TestValidUntil bounds how long a verification holds by what was verified, not by what a signature carries.
func TestValidUntil(t *testing.T) {
	b := newBed(t, registry.Options{}, 10)
	clock := must(signing.NewCA(signing.Options{CommonName: "Clock Root"}))
	mint := func(notAfter time.Time) *signing.Signer {
		return must(b.scenario.Trusted.Issue(signing.LeafOptions{CommonName: "Stamped", NotBefore: today.AddDate(-3, 0, 0), NotAfter: notAfter}))
	}
	soon, past, expiry := today.Add(time.Hour).UTC(), today.AddDate(-1, 0, 0).UTC(), today.Add(30*time.Minute).UTC()
	tests := map[string]struct {
		notAfter        time.Time
		stamped, tsa    bool
		verifyTimestamp string
		expires         bool
		want            time.Time
	}{
		"the certificate's end":                                        {notAfter: soon, want: soon},
		"the signature's expiry, where that comes first":               {notAfter: soon, expires: true, want: expiry},
		"the certificate's end, for a timestamp that nobody looked at": {notAfter: soon, stamped: true, want: soon},
		"no end, for a timestamp that was verified":                    {notAfter: soon, stamped: true, tsa: true},
		"the certificate's end, before which no timestamp is needed":   {notAfter: soon, stamped: true, tsa: true, verifyTimestamp: "afterCertExpiry", want: soon},
		"no end, for a timestamp that was needed":                      {notAfter: past, stamped: true, tsa: true, verifyTimestamp: "afterCertExpiry"},
		"the expiry, beside a timestamp that was verified":             {notAfter: soon, stamped: true, tsa: true, expires: true, want: expiry},
	}
	number := 0
	for sentence, test := range tests {
		number++
		name := fmt.Sprintf("until-%d", number)
		t.Run(sentence, func(t *testing.T) {
			request := signing.SignRequest{SigningScheme: signature.SigningSchemeX509, SigningTime: today.AddDate(-2, 0, 0)}
			if test.expires {
				request.Expiry = expiry.Sub(request.SigningTime)
			}
			if test.stamped {
				request.Timestamper = must(signing.NewTSA(clock, func() time.Time { return request.SigningTime }))
				request.TimestampRoots = x509.NewCertPool()
				request.TimestampRoots.AddCert(clock.Certificate)
			}
			on := *b
			on.T = t
			x := &target{bed: &on, name: name, image: must(b.scenario.PushSigned(t.Context(), name, mint(test.notAfter), &request))}
			plan, snapshot := x.plan("strict", nil)
			plan.Tasks[0].Statement.VerifyTimestamp = test.verifyTimestamp
			if test.tsa {
				store := core.StoreRef{Type: "tsa", Name: "clock"}
				plan.Tasks[0].Statement.TrustStores = []string{"ca:acme", store.String()}
				snapshot.Stores[store] = core.TrustStore{Ref: store, Certificates: []*x509.Certificate{clock.Certificate}}
			}
			got := b.gatherer.Gather(t.Context(), plan.Tasks, snapshot)[0].Signature
			if !got.Verified || !got.ValidUntil.Equal(test.want) {
				t.Errorf("valid until %s; want %s: %+v", got.ValidUntil, test.want, got)
			}
		})
	}
}

// TestCriticalAttributes that nobody has understood deny, under the mildest level too.
func TestCriticalAttributes(t *testing.T) {
	b := newBed(t, registry.Options{}, 10)
	for number, format := range []string{signing.JWS, signing.COSE} {
		name := fmt.Sprintf("critical-%d", number)
		request := signing.SignRequest{Format: format, Plugin: &signing.PluginAttributes{Other: map[string]string{"com.example.onlyOn": "Mondays"}}}
		x := &target{bed: b, name: name, image: must(b.scenario.PushSigned(t.Context(), name, b.scenario.Signer(), &request))}
		for _, level := range []string{"strict", "audit"} {
			if got := x.decide(b.gatherer, level, nil); got.Code != core.SignatureInvalid || !strings.Contains(got.Reason, `"com.example.onlyOn"`) {
				t.Errorf("%s under %s: %s, %s", format, level, got.Code, got.Reason)
			}
		}
	}
}
