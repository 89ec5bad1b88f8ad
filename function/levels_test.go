package function_test

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/notaryproject/notation-core-go/signature"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// statement writes a TrustPolicy of one statement, in which more is what follows the level.
func statement(name, level, more, stores, identities string) string {
	if level == "skip" {
		stores, identities = "", ""
	} else {
		stores, identities = "    trustStores: ["+stores+"]\n", "    trustedIdentities: ["+identities+"]\n"
	}
	return fmt.Sprintf(`apiVersion: notation.nirmata.io/v1alpha1
kind: TrustPolicy
metadata:
  name: %[1]s
spec:
  version: "1.0"
  trustPolicyName: %[1]s
  trustPolicies:
  - name: only
    registryScopes: ["*"]
    signatureVerification:
      level: %[2]s
%[3]s%[4]s%[5]s`, name, level, more, stores, identities)
}

// trustOnly puts one TrustPolicy, named as the scenario's, beside the scenario's trust store.
func (b *bench) trustOnly(t *testing.T, policy string, stores ...string) {
	t.Helper()
	for _, name := range []string{"trustpolicy-audit.yaml", "trustpolicy-demo.yaml"} {
		if err := os.Remove(filepath.Join(b.trustDir, name)); err != nil {
			t.Fatal(err)
		}
	}
	text := strings.Join(append(stores, policy), "\n---\n")
	if err := os.WriteFile(filepath.Join(b.trustDir, "test.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// startTrusting brings up a service over one policy.
func startTrusting(t *testing.T, policy func(*bench) string, stores func(*bench) []string) *bench {
	t.Helper()
	b := prepare(t, registrytest.Options{}, "")
	var extra []string
	if stores != nil {
		extra = stores(b)
	}
	b.trustOnly(t, policy(b), extra...)
	b.serve(t, nil)
	return b
}

const everyone = `"*"`

// TestLevelsFollowTheSpecification verifies images under each level and override of the Notary Project's trust policy
// specification.
func TestLevelsFollowTheSpecification(t *testing.T) {
	override := func(kind, action string) string {
		return fmt.Sprintf("      override: {%s: %s}\n", kind, action)
	}
	tests := map[string]struct {
		level, more, identities, image string
		want                           reason.Code
		warns                          string
	}{
		"strict denies an expired signature":                      {"strict", "", everyone, "expired-signature", reason.SignatureExpired, ""},
		"permissive logs an expired signature":                    {"permissive", "", everyone, "expired-signature", reason.Verified, "expiry: digital signature has expired"},
		"permissive logs an expired certificate":                  {"permissive", "", everyone, "expired-certificate", reason.Verified, "authenticTimestamp: "},
		"permissive denies a foreign signer":                      {"permissive", "", everyone, "foreign", reason.SignatureUntrusted, ""},
		"audit logs a foreign signer":                             {"audit", "", everyone, "foreign", reason.Verified, "authenticity: "},
		"audit denies a tampered envelope":                        {"audit", "", everyone, "tampered", reason.SignatureInvalid, ""},
		"audit denies another image's signature":                  {"audit", "", everyone, "replayed", reason.SignatureMismatch, ""},
		"audit denies an unsigned image":                          {"audit", "", everyone, "unsigned", reason.NoSignature, ""},
		"audit logs what the plugin refuses":                      {"audit", "", everyone, "plugin-without-x5u", reason.Verified, "TPP 23.1+"},
		"skip admits an unsigned image":                           {"skip", "", "", "unsigned", reason.Skipped, ""},
		"strict with expiry logged admits an expired signature":   {"strict", override("expiry", "log"), everyone, "expired-signature", reason.Verified, "expiry: "},
		"permissive with expiry enforced denies it":               {"permissive", override("expiry", "enforce"), everyone, "expired-signature", reason.SignatureExpired, ""},
		"audit with authenticity enforced denies a foreign one":   {"audit", override("authenticity", "enforce"), everyone, "foreign", reason.SignatureUntrusted, ""},
		"a trusted identity admits its signer":                    {"strict", "", `"x509.subject: C=US, ST=WA, O=Acme, CN=Acme Release"`, "signed", reason.Verified, ""},
		"a trusted identity denies another signer of the same CA": {"strict", "", `"x509.subject: C=US, ST=WA, O=Acme, CN=Acme Release"`, "signed-ecdsa", reason.SignatureUntrusted, ""},
		"strict with authenticity logged admits a foreign one":    {"strict", override("authenticity", "log"), everyone, "foreign", reason.Verified, "authenticity: "},
		"another signer of the same CA is logged under audit":     {"audit", "", `"x509.subject: C=US, ST=WA, O=Acme, CN=Acme Release"`, "signed-ecdsa", reason.Verified, "is not among the trusted identities"},
		"a plugin does not decide on the trusted identity":        {"strict", "", `"x509.subject: C=US, ST=WA, O=Acme, CN=Someone"`, "plugin-signed", reason.SignatureUntrusted, ""},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			b := startTrusting(t, func(*bench) string {
				return statement(scenariotest.PolicyName, test.level, test.more, `"ca:acme"`, test.identities)
			}, nil)
			reference, _ := b.publish(t, test.image)
			verdict := b.verdict(t, pod(reference))
			got := verdict.Results[0]
			if got.Code != test.want {
				t.Fatalf("code %s; want %s: %s", got.Code, test.want, got.Reason)
			}
			if test.warns != "" && !strings.Contains(verdict.Message, "only logged: "+test.warns) && !strings.Contains(verdict.Message, test.warns) {
				t.Errorf("the message %q does not tell what was only logged: %q", verdict.Message, test.warns)
			}
			if test.want == reason.Skipped && (got.Op != "" || !strings.Contains(verdict.Message, "level skip")) {
				t.Errorf("skip must leave the image unpatched and say so: %+v, %q", got, verdict.Message)
			}
		})
	}
}

// TestUnusableTrustStoresAreReported verifies with trust stores that are missing, broken or of the wrong type.
func TestUnusableTrustStoresAreReported(t *testing.T) {
	tests := map[string]struct {
		stores string
		extra  func(*bench) []string
		want   reason.Code
		says   string
	}{
		"a store that does not exist denies and is named": {`"ca:absent"`, nil, reason.TrustStoreUnavailable, `"ca:absent" does not exist`},
		"a store without a certificate denies and says so": {`"ca:broken"`, func(*bench) []string {
			return []string{scenariotest.TrustStore("broken", []byte("no certificate"))}
		}, reason.TrustStoreUnavailable, "not PEM"},
		"two stores of one name deny, both named": {`"ca:twin"`, func(b *bench) []string {
			twin := scenariotest.TrustStore("twin", b.scenario.Trusted.PEM())
			return []string{twin, strings.Replace(twin, "name: twin", "name: other", 1)}
		}, reason.TrustStoreUnavailable, "all claim the name"},
		"a store of another CA denies":    {`"ca:mallory"`, func(b *bench) []string { return []string{scenariotest.TrustStore("mallory", b.scenario.Foreign.PEM())} }, reason.SignatureUntrusted, "trusted certificate"},
		"one good store of two is enough": {`"ca:mallory", "ca:acme"`, func(b *bench) []string { return []string{scenariotest.TrustStore("mallory", b.scenario.Foreign.PEM())} }, reason.Verified, ""},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			b := startTrusting(t, func(*bench) string {
				return statement(scenariotest.PolicyName, "strict", "", test.stores, everyone)
			}, test.extra)
			reference, _ := b.publish(t, "signed")
			if got := b.verdict(t, pod(reference)).Results[0]; got.Code != test.want || !strings.Contains(got.Reason, test.says) {
				t.Errorf("code %s, %q; want %s, %q", got.Code, got.Reason, test.want, test.says)
			}
		})
	}
}

// TestRevocationByCRLAndOCSP looks revocation up at a real responder.
func TestRevocationByCRLAndOCSP(t *testing.T) {
	tests := map[string]struct {
		ocsp, revoke, down bool
		level              string
		want               reason.Code
	}{
		"a certificate that its CRL does not list is good":      {false, false, false, "strict", reason.Verified},
		"a certificate that its CRL lists denies":               {false, true, false, "strict", reason.CertificateRevoked},
		"a certificate that OCSP calls good is good":            {true, false, false, "strict", reason.Verified},
		"a certificate that OCSP calls revoked denies":          {true, true, false, "strict", reason.CertificateRevoked},
		"a CRL that cannot be had denies under strict":          {false, false, true, "strict", reason.RevocationUnknown},
		"a CRL that cannot be had is logged under permissive":   {false, false, true, "permissive", reason.Verified},
		"a revoked certificate is only logged under permissive": {true, true, false, "permissive", reason.Verified},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			b := startTrusting(t, func(*bench) string {
				return statement(scenariotest.PolicyName, test.level, "", `"ca:acme"`, everyone)
			}, nil)
			responder, err := signingtest.NewRevocationServer(b.scenario.Trusted)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = responder.Close() })
			options := signingtest.LeafOptions{CommonName: "Revocable", CRLURL: responder.CRLURL()}
			if test.ocsp {
				options = signingtest.LeafOptions{CommonName: "Revocable", OCSPURL: responder.OCSPURL()}
			}
			signer, err := b.scenario.Trusted.Issue(options)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.scenario.PushSigned(t.Context(), "revocable", signer, &signingtest.SignRequest{}); err != nil {
				t.Fatal(err)
			}
			if test.revoke {
				responder.Revoke(signer.Certificate.SerialNumber)
			}
			responder.SetDown(test.down)
			if got := b.verdict(t, pod(b.scenario.Reference("revocable"))).Results[0]; got.Code != test.want {
				t.Errorf("code %s; want %s: %s", got.Code, test.want, got.Reason)
			}
		})
	}
}

// TestTimestampsVerifyExpiredCertificates verifies signatures whose certificate has expired since, with and without a
// timestamp.
func TestTimestampsVerifyExpiredCertificates(t *testing.T) {
	tests := map[string]struct {
		stamped, unknown bool
		stores           string
		want             reason.Code
	}{
		"a trusted timestamp from when the certificate was valid": {true, false, `"ca:acme", "tsa:clock"`, reason.Verified},
		"a timestamp of an authority that is not trusted":         {true, false, `"ca:acme"`, reason.CertificateExpired},
		"no timestamp at all": {false, false, `"ca:acme", "tsa:clock"`, reason.CertificateExpired},
		"a timestamp of an authority whose revocation cannot be looked up": {true, true, `"ca:acme", "tsa:clock"`, reason.RevocationUnknown},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			clock, err := signingtest.NewCA(signingtest.Options{CommonName: "Clock Root"})
			if err != nil {
				t.Fatal(err)
			}
			b := startTrusting(t, func(*bench) string {
				return statement(scenariotest.PolicyName, "strict", "", test.stores, everyone)
			}, func(*bench) []string {
				return []string{strings.Replace(scenariotest.TrustStore("clock", clock.PEM()), "type: ca", "type: tsa", 1)}
			})
			then := time.Now().AddDate(-1, -1, 0)
			former, err := b.scenario.Trusted.Issue(signingtest.LeafOptions{CommonName: "Former", NotBefore: then.AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(-1, 0, 0)})
			if err != nil {
				t.Fatal(err)
			}
			request := signingtest.SignRequest{SigningTime: then, SigningScheme: signature.SigningSchemeX509}
			if test.stamped {
				authority := clock
				if test.unknown {
					if authority, err = clock.Intermediate(signingtest.Options{CommonName: "Clock", CRLURL: "http://" + b.registry.Host() + "/no.crl"}); err != nil {
						t.Fatal(err)
					}
				}
				if request.Timestamper, err = signingtest.NewTSA(authority, func() time.Time { return then }); err != nil {
					t.Fatal(err)
				}
				request.TimestampRoots = x509.NewCertPool()
				request.TimestampRoots.AddCert(clock.Certificate)
			}
			if _, err := b.scenario.PushSigned(t.Context(), "stamped", former, &request); err != nil {
				t.Fatal(err)
			}
			if got := b.verdict(t, pod(b.scenario.Reference("stamped"))).Results[0]; got.Code != test.want {
				t.Errorf("code %s; want %s: %s", got.Code, test.want, got.Reason)
			}
		})
	}
}
