package function_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/notaryproject/notation-core-go/signature"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/veraison/go-cose"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// hugeKey is a public RSA key with a modulus of bits bits. It has no private key.
func hugeKey(t testing.TB, bits int) *rsa.PublicKey {
	t.Helper()
	modulus := make([]byte, bits/8)
	if _, err := rand.Read(modulus); err != nil {
		t.Fatal(err)
	}
	modulus[0] |= 0x80
	modulus[len(modulus)-1] |= 1
	return &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 1<<31 - 1}
}

// hugeSigner is a certificate of the trusted CA with a key of so many bits, or with names of so many bytes.
func hugeSigner(t testing.TB, ca *signingtest.CA, bits, names int) *signingtest.Signer {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if names > 0 {
		template.DNSNames = strings.Split(strings.Repeat("example.com,", names/12), ",")[:names/12]
	}
	var key any = hugeKey(t, bits)
	signer, err := ca.IssueTemplate(template, key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// rewrite puts a certificate chain, a protected header and a signature into an envelope.
func rewrite(t testing.TB, format string, envelope []byte, chain []*x509.Certificate, header map[string]any, signature []byte) []byte {
	t.Helper()
	raw := make([][]byte, len(chain))
	for i, certificate := range chain {
		raw[i] = certificate.Raw
	}
	if format == signingtest.COSE {
		return rewriteCOSE(t, envelope, raw, header, signature)
	}
	var parts map[string]any
	if err := json.Unmarshal(envelope, &parts); err != nil {
		t.Fatal(err)
	}
	text, err := base64.RawURLEncoding.DecodeString(parts["protected"].(string))
	if err != nil {
		t.Fatal(err)
	}
	protected := map[string]any{}
	if err := json.Unmarshal(text, &protected); err != nil {
		t.Fatal(err)
	}
	protected["alg"] = "PS256"
	for key, value := range header {
		protected[key] = value
		protected["crit"] = append(protected["crit"].([]any), key)
	}
	if text, err = json.Marshal(protected); err != nil {
		t.Fatal(err)
	}
	parts["protected"], parts["signature"] = base64.RawURLEncoding.EncodeToString(text), base64.RawURLEncoding.EncodeToString(signature)
	parts["header"].(map[string]any)["x5c"] = raw
	if text, err = json.Marshal(parts); err != nil {
		t.Fatal(err)
	}
	return text
}

func rewriteCOSE(t testing.TB, envelope []byte, chain [][]byte, header map[string]any, signature []byte) []byte {
	t.Helper()
	var message cose.Sign1Message
	if err := message.UnmarshalCBOR(envelope); err != nil {
		t.Fatal(err)
	}
	certificates := make([]any, len(chain))
	for i, der := range chain {
		certificates[i] = der
	}
	message.Headers.RawUnprotected, message.Headers.Unprotected[cose.HeaderLabelX5Chain] = nil, certificates
	if len(header) > 0 {
		message.Headers.RawProtected = nil
		critical := message.Headers.Protected[cose.HeaderLabelCritical].([]any)
		for key, value := range header {
			message.Headers.Protected[key] = value
			critical = append(critical, key)
		}
		message.Headers.Protected[cose.HeaderLabelCritical] = critical
	}
	message.Signature = signature
	text, err := message.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// attach pushes an image and an envelope that is made for it.
func (b *bench) attach(t testing.TB, name, format string, change func(image ocispec.Descriptor, good []byte) []byte) string {
	t.Helper()
	image, err := b.scenario.PushSigned(t.Context(), name, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	good, err := b.scenario.Signer().Sign(t.Context(), signingtest.SignRequest{Subject: image, Format: format})
	if err != nil {
		t.Fatal(err)
	}
	repository, err := signingtest.Repository(b.registry.Host(), "acme/"+name, b.registry.Client(), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signingtest.PushSignature(t.Context(), repository, image, format, change(image, good)); err != nil {
		t.Fatal(err)
	}
	return b.scenario.Reference(name)
}

// TestServiceDeniesCostlyEnvelopes holds that envelopes over the bounds are denied before verification, which cannot be
// interrupted.
func TestServiceDeniesCostlyEnvelopes(t *testing.T) {
	b := start(t, registrytest.Options{}, "", nil)
	const bits = 500_000
	random := bytes.Repeat([]byte{1}, bits/8)
	huge := hugeSigner(t, b.scenario.Trusted, bits, 0)
	wide := hugeSigner(t, b.scenario.Trusted, 2048, 100_000)
	good := b.scenario.Signer().Chain
	deep := append([]*x509.Certificate{}, good...)
	for len(deep) < 40 {
		deep = append(deep, good[len(good)-1])
	}
	// fill is less than the bound on an envelope, as attributes that are all critical: they are compared with each other.
	fill := map[string]any{}
	for i := range 8_000 {
		fill[fmt.Sprintf("a%05d", i)] = 0
	}
	tests := map[string]struct {
		chain     []*x509.Certificate
		header    map[string]any
		signature []byte
		says      string
	}{
		"a leaf with an RSA key of 500,000 bits":     {huge.Chain, nil, random, "RSA key of 500000 bits"},
		"the CA of a good leaf with such a key":      {[]*x509.Certificate{good[0], huge.Certificate}, nil, []byte{1}, "RSA key of 500000 bits"},
		"a certificate with thousands of names":      {wide.Chain, nil, []byte{1}, "over the bound of 32768"},
		"a chain of forty certificates":              {deep, nil, []byte{1}, "more than 10 certificates"},
		"eight thousand critical attributes":         {good, fill, []byte{1}, "protected header"},
		"an envelope that is large for other causes": {good, nil, bytes.Repeat([]byte{1}, 1<<20), "at most 524288 are read"},
	}
	number := 0
	for sentence, test := range tests {
		for _, format := range []string{signingtest.JWS, signingtest.COSE} {
			number++
			name := fmt.Sprintf("costly-%d", number)
			t.Run(sentence+" as "+format, func(t *testing.T) {
				reference := b.attach(t, name, format, func(_ ocispec.Descriptor, good []byte) []byte {
					return rewrite(t, format, good, test.chain, test.header, test.signature)
				})
				began := time.Now()
				got := b.verdict(t, pod(reference)).Results[0]
				if got.Code != reason.SignatureInvalid || !strings.Contains(got.Reason, test.says) {
					t.Errorf("code %s: %s; want %q", got.Code, got.Reason, test.says)
				}
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("it took %s", took)
				}
			})
		}
	}
}

// TestServiceDeniesCostlyTimestamps holds that the certificates of a timestamp, which the signer chooses, are bounded too.
func TestServiceDeniesCostlyTimestamps(t *testing.T) {
	clock, err := signingtest.NewCA(signingtest.Options{CommonName: "Clock Root"})
	if err != nil {
		t.Fatal(err)
	}
	b := startTrusting(t, func(*bench) string {
		return statement(scenariotest.PolicyName, "strict", "", `"ca:acme", "tsa:clock"`, everyone)
	}, func(*bench) []string {
		return []string{strings.Replace(scenariotest.TrustStore("clock", clock.PEM()), "type: ca", "type: tsa", 1)}
	})
	authority := clock
	for range 12 {
		if authority, err = authority.Intermediate(signingtest.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	request := signingtest.SignRequest{SigningScheme: signature.SigningSchemeX509, TimestampRoots: x509.NewCertPool()}
	request.TimestampRoots.AddCert(clock.Certificate)
	if request.Timestamper, err = signingtest.NewTSA(authority, time.Now); err != nil {
		t.Fatal(err)
	}
	if _, err := b.scenario.PushSigned(t.Context(), "stamped", b.scenario.Signer(), &request); err != nil {
		t.Fatal(err)
	}
	if got := b.verdict(t, pod(b.scenario.Reference("stamped"))).Results[0]; got.Code != reason.SignatureInvalid || !strings.Contains(got.Reason, "its timestamp: it has more than 10 certificates") {
		t.Errorf("code %s: %s", got.Code, got.Reason)
	}
}

// TestServiceRefusesCostlyTrustStores holds that a trust store over the bounds is reported as the fault of its owner.
func TestServiceRefusesCostlyTrustStores(t *testing.T) {
	b := startTrusting(t, func(*bench) string {
		return statement(scenariotest.PolicyName, "strict", "", `"ca:costly"`, everyone)
	}, func(b *bench) []string {
		costly := hugeSigner(t, b.scenario.Trusted, 500_000, 0)
		return []string{scenariotest.TrustStore("costly", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: costly.Certificate.Raw}))}
	})
	reference, _ := b.publish(t, "signed")
	if got := b.verdict(t, pod(reference)).Results[0]; got.Code != reason.TrustStoreUnavailable || !strings.Contains(got.Reason, "RSA key of 500000 bits") {
		t.Errorf("code %s: %s", got.Code, got.Reason)
	}
}

// TestRevocationReportsFailedAddresses looks revocation up at addresses of all kinds, and expects failures to name the
// address.
func TestRevocationReportsFailedAddresses(t *testing.T) {
	tests := map[string]struct {
		options func(*signingtest.RevocationServer) signingtest.LeafOptions
		change  func(*signingtest.RevocationServer)
		revoke  bool
		want    reason.Code
		says    string
	}{
		"a directory before a list is passed over": {
			options: func(s *signingtest.RevocationServer) signingtest.LeafOptions {
				return signingtest.LeafOptions{OtherCRLURL: "ldap:///CN=list?certificateRevocationList", CRLURL: s.CRLURL()}
			},
			want: reason.Verified,
		},
		"and the list counts": {
			options: func(s *signingtest.RevocationServer) signingtest.LeafOptions {
				return signingtest.LeafOptions{OtherCRLURL: "ldap:///CN=list?certificateRevocationList", CRLURL: s.CRLURL()}
			},
			revoke: true, want: reason.CertificateRevoked,
		},
		"a directory alone cannot be asked": {
			options: func(*signingtest.RevocationServer) signingtest.LeafOptions {
				return signingtest.LeafOptions{OtherCRLURL: "ldap:///CN=list?certificateRevocationList"}
			},
			want: reason.RevocationUnknown, says: "unsupported scheme",
		},
		"a list as PEM is read": {
			options: func(s *signingtest.RevocationServer) signingtest.LeafOptions {
				return signingtest.LeafOptions{CRLURL: s.PEMCRLURL()}
			},
			want: reason.Verified,
		},
		"a list as PEM counts": {
			options: func(s *signingtest.RevocationServer) signingtest.LeafOptions {
				return signingtest.LeafOptions{CRLURL: s.PEMCRLURL()}
			},
			revoke: true, want: reason.CertificateRevoked,
		},
		"a list that is not served": {
			options: func(s *signingtest.RevocationServer) signingtest.LeafOptions {
				return signingtest.LeafOptions{CRLURL: s.CRLURL()}
			},
			change: func(s *signingtest.RevocationServer) { s.SetDown(true) },
			want:   reason.RevocationUnknown, says: "/crl: ",
		},
		"a responder that is down": {
			options: func(s *signingtest.RevocationServer) signingtest.LeafOptions {
				return signingtest.LeafOptions{OCSPURL: s.OCSPURL()}
			},
			change: func(s *signingtest.RevocationServer) { s.SetDown(true) },
			want:   reason.RevocationUnknown, says: "/ocsp: ",
		},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			b := start(t, registrytest.Options{}, "", nil)
			responder, err := signingtest.NewRevocationServer(b.scenario.Trusted)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = responder.Close() })
			options := test.options(responder)
			options.CommonName = "Revocable"
			signer := issue(t, b.scenario.Trusted, options)
			if test.revoke {
				responder.Revoke(signer.Certificate.SerialNumber)
			}
			if test.change != nil {
				test.change(responder)
			}
			if _, err := b.scenario.PushSigned(t.Context(), "revocable", signer, &signingtest.SignRequest{}); err != nil {
				t.Fatal(err)
			}
			if got := b.verdict(t, pod(b.scenario.Reference("revocable"))).Results[0]; got.Code != test.want || !strings.Contains(got.Reason, test.says) {
				t.Errorf("code %s: %s; want %s, %q", got.Code, got.Reason, test.want, test.says)
			}
		})
	}
}

// TestRevocationAcceptsDesignatedRespondersOnly accepts OCSP answers of the CA and of responders that it designated, but
// not of the signer itself, nor of responders with a key that takes seconds to verify with.
func TestRevocationAcceptsDesignatedRespondersOnly(t *testing.T) {
	tests := map[string]struct {
		responder func(t *testing.T, ca *signingtest.CA, signer *signingtest.Signer) *signingtest.Signer
		want      reason.Code
	}{
		"one whom the CA marked": {func(t *testing.T, ca *signingtest.CA, _ *signingtest.Signer) *signingtest.Signer {
			return template(t, ca, x509.ExtKeyUsageOCSPSigning)
		}, reason.Verified},
		"the signer": {func(_ *testing.T, _ *signingtest.CA, signer *signingtest.Signer) *signingtest.Signer { return signer }, reason.RevocationUnknown},
		"another signer": {func(t *testing.T, ca *signingtest.CA, _ *signingtest.Signer) *signingtest.Signer {
			return template(t, ca, x509.ExtKeyUsageCodeSigning)
		}, reason.RevocationUnknown},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			b := start(t, registrytest.Options{}, "", nil)
			server, err := signingtest.NewRevocationServer(b.scenario.Trusted)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.Close() })
			signer := issue(t, b.scenario.Trusted, signingtest.LeafOptions{CommonName: "Revocable", OCSPURL: server.OCSPURL()})
			server.SetResponder(test.responder(t, b.scenario.Trusted, signer))
			if _, err := b.scenario.PushSigned(t.Context(), "revocable", signer, &signingtest.SignRequest{}); err != nil {
				t.Fatal(err)
			}
			if got := b.verdict(t, pod(b.scenario.Reference("revocable"))).Results[0]; got.Code != test.want {
				t.Errorf("code %s: %s; want %s", got.Code, got.Reason, test.want)
			}
		})
	}
}

// template is a certificate of the CA for one use.
func template(t *testing.T, ca *signingtest.CA, use x509.ExtKeyUsage) *signingtest.Signer {
	t.Helper()
	key, err := signingtest.NewKey(signingtest.ECDSA256)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ca.IssueTemplate(&x509.Certificate{
		SerialNumber: big.NewInt(7), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// TestNewRefusesInvalidPluginSettings holds that settings without a host or a version are refused.
func TestNewRefusesInvalidPluginSettings(t *testing.T) {
	for sentence, change := range map[string]setting{
		"a URL for a host":      func(s *function.Settings) { s.PluginX5UHosts = []string{"https://tpp.example.com"} },
		"a path behind a host":  func(s *function.Settings) { s.PluginX5UHosts = []string{"tpp.example.com/vedsdk"} },
		"a wildcard for a host": func(s *function.Settings) { s.PluginX5UHosts = []string{"*"} },
		"a plugin, no version":  func(s *function.Settings) { s.PluginVerifies = []string{"venafi-csp"} },
		"a path for a plugin":   func(s *function.Settings) { s.PluginVerifies = []string{"../venafi-csp@1.0.0"} },
	} {
		t.Run(sentence, func(t *testing.T) {
			b := prepare(t, registrytest.Options{}, "")
			settings := function.Settings{TrustDir: b.trustDir, MaxRequests: 1, MaxVerifications: 1, MaxParallel: 1}
			change(&settings)
			if _, err := function.New(settings, noEnvironment, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "plugin") {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestPluginVerifiesRunsUndeclaredVersions runs a plugin version that declares no capability and that a setting names.
func TestPluginVerifiesRunsUndeclaredVersions(t *testing.T) {
	b := start(t, registrytest.Options{}, "no-capability", func(s *function.Settings) { s.PluginVerifies = []string{"venafi-csp@0.9.0"} })
	reference, _ := b.publish(t, "plugin-signed")
	if answer := b.post(t, "/checkimages", pod(reference)); answer.status != http.StatusOK {
		t.Errorf("answer %d %s", answer.status, answer.text)
	}
}
