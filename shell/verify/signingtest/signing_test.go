package signingtest_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/notaryproject/notation-core-go/revocation"
	"github.com/notaryproject/notation-core-go/revocation/purpose"
	"github.com/notaryproject/notation-core-go/signature"
	corex509 "github.com/notaryproject/notation-core-go/x509"
	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	"github.com/notaryproject/tspclient-go"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

const hour = time.Hour

// trusted is a trust store of every kind with the same certificates in each.
type trusted []*x509.Certificate

func (t trusted) GetCertificates(context.Context, truststore.Type, string) ([]*x509.Certificate, error) {
	return t, nil
}

// anArtifact is a descriptor to sign; nothing of it exists.
func anArtifact() ocispec.Descriptor {
	content := []byte("an artifact")
	return ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest,
		Digest:    digest.FromBytes(content),
		Size:      int64(len(content)),
	}
}

// verify asks notation-go about an envelope, under a strict policy.
func verify(t *testing.T, envelope []byte, format string, roots trusted, stores ...string) (*notation.VerificationOutcome, error) {
	t.Helper()
	policy := &trustpolicy.Document{
		Version: "1.0",
		TrustPolicies: []trustpolicy.TrustPolicy{{
			Name:                  "everything",
			RegistryScopes:        []string{"*"},
			SignatureVerification: trustpolicy.SignatureVerification{VerificationLevel: "strict"},
			TrustStores:           append([]string{"ca:test", "signingAuthority:test"}, stores...),
			TrustedIdentities:     []string{"*"},
		}},
	}
	codeSigning := must(revocation.NewWithOptions(revocation.Options{CertChainPurpose: purpose.CodeSigning}))
	timestamping := must(revocation.NewWithOptions(revocation.Options{CertChainPurpose: purpose.Timestamping}))
	v, err := verifier.NewWithOptions(policy, roots, nil, verifier.VerifierOptions{
		RevocationCodeSigningValidator:  codeSigning,
		RevocationTimestampingValidator: timestamping,
	})
	if err != nil {
		t.Fatalf("make the verifier: %v", err)
	}
	return v.Verify(t.Context(), anArtifact(), envelope, notation.VerifierVerifyOptions{
		ArtifactReference:  "registry.example.com/app@" + string(anArtifact().Digest),
		SignatureMediaType: format,
	})
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// signCase is how something is signed, and what notation-go thinks of it.
type signCase struct {
	ca      signingtest.Options
	leaf    signingtest.LeafOptions
	request signingtest.SignRequest
	refusal string // part of the verifier's error; empty is success
}

func TestSignInEveryFormat(t *testing.T) {
	runSign(t, map[string]signCase{
		"an ECDSA signature in a JWS envelope is good":  {},
		"an ECDSA signature in a COSE envelope is good": {request: signingtest.SignRequest{Format: signingtest.COSE}},
		"a P-384 signature in a JWS envelope is good":   {leaf: signingtest.LeafOptions{KeyType: signingtest.ECDSA384}},
		"a P-521 signature in a COSE envelope is good": {
			leaf:    signingtest.LeafOptions{KeyType: signingtest.ECDSA521},
			request: signingtest.SignRequest{Format: signingtest.COSE},
		},
		"an RSA signature in a JWS envelope is good": {
			ca:   signingtest.Options{KeyType: signingtest.RSA2048},
			leaf: signingtest.LeafOptions{KeyType: signingtest.RSA2048},
		},
		"an RSA signature in a COSE envelope is good": {
			leaf:    signingtest.LeafOptions{KeyType: signingtest.RSA3072},
			request: signingtest.SignRequest{Format: signingtest.COSE},
		},
	})
}

func TestSignAtAnyTime(t *testing.T) {
	now := time.Now()
	runSign(t, map[string]signCase{
		"a signature that has not expired yet is good": {request: signingtest.SignRequest{Expiry: hour}},
		"a signature that expired is refused": {
			request: signingtest.SignRequest{SigningTime: now.Add(-2 * hour), Expiry: hour},
			refusal: "digital signature has expired",
		},
		"a COSE signature that expired is refused": {
			request: signingtest.SignRequest{Format: signingtest.COSE, SigningTime: now.Add(-2 * hour), Expiry: hour},
			refusal: "digital signature has expired",
		},
		"a certificate that expired since is refused": {
			leaf:    signingtest.LeafOptions{NotBefore: now.Add(-2 * hour), NotAfter: now.Add(-hour)},
			refusal: "verification time is after certificate",
		},
		"a certificate that is not valid yet is refused": {
			leaf:    signingtest.LeafOptions{NotBefore: now.Add(hour)},
			refusal: "verification time is before certificate",
		},
		"a signing authority vouches for the time of a certificate that expired since": {
			leaf:    signingtest.LeafOptions{NotBefore: now.Add(-2 * hour), NotAfter: now.Add(-hour)},
			request: signingtest.SignRequest{SigningScheme: signature.SigningSchemeX509SigningAuthority},
		},
		"a signature that asks for a plugin is refused without plugins": {
			request: signingtest.SignRequest{Plugin: signingtest.Venafi()},
			refusal: "plugin unsupported",
		},
	})
}

func runSign(t *testing.T, tests map[string]signCase) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := must(signingtest.NewCA(test.ca))
			signer := must(ca.Issue(test.leaf))
			test.request.Subject = anArtifact()
			envelope, err := signer.Sign(t.Context(), test.request)
			if err != nil {
				t.Fatalf("sign: %v", err)
			}
			format := cmp.Or(test.request.Format, signingtest.JWS)
			_, err = verify(t, envelope, format, trusted{ca.Certificate})
			expectError(t, err, test.refusal)
		})
	}
}

func TestChains(t *testing.T) {
	key := must(signingtest.NewKey(signingtest.RSA2048))
	root := must(signingtest.NewCA(signingtest.Options{CommonName: "Root", Organization: "Acme"}))
	intermediate := must(root.Intermediate(signingtest.Options{Key: key}))
	other := must(signingtest.NewCA(signingtest.Options{}))
	tests := map[string]struct {
		signer  *signingtest.Signer
		roots   trusted
		refusal string
	}{
		"a chain of two ends at the trusted root":     {signer: must(root.Issue(signingtest.LeafOptions{})), roots: trusted{root.Certificate}},
		"a chain of three ends at the trusted root":   {signer: must(intermediate.Issue(signingtest.LeafOptions{})), roots: trusted{root.Certificate}},
		"a trusted intermediate is enough":            {signer: must(intermediate.Issue(signingtest.LeafOptions{})), roots: trusted{intermediate.Certificate}},
		"a key may be shared by several certificates": {signer: must(root.Issue(signingtest.LeafOptions{Key: key})), roots: trusted{root.Certificate}},
		"a root of the same name with another key is not": {
			signer:  must(must(signingtest.NewCA(signingtest.Options{CommonName: "Root", Organization: "Acme"})).Issue(signingtest.LeafOptions{})),
			roots:   trusted{root.Certificate},
			refusal: "does not contain any trusted certificate",
		},
		"another root is not trusted": {
			signer:  must(other.Issue(signingtest.LeafOptions{})),
			roots:   trusted{root.Certificate},
			refusal: "does not contain any trusted certificate",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			chain := test.signer.Chain
			if err := corex509.ValidateCodeSigningCertChain(chain, nil); err != nil {
				t.Errorf("the chain does not meet the requirements: %v", err)
			}
			envelope := must(test.signer.Sign(t.Context(), signingtest.SignRequest{Subject: anArtifact()}))
			_, err := verify(t, envelope, signingtest.JWS, test.roots)
			expectError(t, err, test.refusal)
		})
	}
}

func TestSignRefuses(t *testing.T) {
	signer := must(must(signingtest.NewCA(signingtest.Options{})).Issue(signingtest.LeafOptions{}))
	tests := map[string]struct {
		request signingtest.SignRequest
		refusal string
	}{
		"a time before the certificate": {
			request: signingtest.SignRequest{SigningTime: time.Now().Add(-3 * 365 * 24 * hour)},
			refusal: "invalid at signing time",
		},
		"a format that is not known": {
			request: signingtest.SignRequest{Format: "text/plain"},
			refusal: "text/plain",
		},
		"a scheme that is not known": {
			request: signingtest.SignRequest{SigningScheme: "made.up"},
			refusal: "made.up",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.request.Subject = anArtifact()
			_, err := signer.Sign(t.Context(), test.request)
			expectError(t, err, test.refusal)
		})
	}
}

func TestSignedContent(t *testing.T) {
	signer := must(must(signingtest.NewCA(signingtest.Options{Organization: "Acme"})).Issue(signingtest.LeafOptions{CommonName: "release"}))
	for _, format := range []string{signingtest.JWS, signingtest.COSE} {
		t.Run("as "+format, func(t *testing.T) {
			plugin := signingtest.Venafi()
			plugin.Other = map[string]string{"com.example.other": "value"}
			envelope := must(signer.Sign(t.Context(), signingtest.SignRequest{
				Subject:      anArtifact(),
				Format:       format,
				Plugin:       plugin,
				UserMetadata: map[string]string{"build": "7"},
			}))
			content := must(must(signature.ParseEnvelope(format, envelope)).Verify())
			for key, want := range map[string]string{
				"io.cncf.notary.verificationPlugin":           "venafi-csp",
				"io.cncf.notary.verificationPluginMinVersion": "0.2.0",
				"com.venafi.notation.plugin.x5u":              plugin.X5U,
				"com.example.other":                           "value",
			} {
				got, err := content.SignerInfo.ExtendedAttribute(key)
				if err != nil || got.Value != want || got.Critical != (want != plugin.X5U) {
					t.Errorf("attribute %s is %+v (%v), want %q, and it critical unless it is x5u", key, got, err, want)
				}
			}
			if !bytes.Contains(content.Payload.Content, []byte(`"build":"7"`)) {
				t.Errorf("payload %s has no user metadata", content.Payload.Content)
			}
		})
	}
	want := "x509.subject: CN=release,O=Acme,ST=WA,C=US"
	if got := signer.TrustedIdentity(); got != want {
		t.Errorf("trusted identity %q, want %q", got, want)
	}
}

func TestTamper(t *testing.T) {
	ca := must(signingtest.NewCA(signingtest.Options{}))
	signer := must(ca.Issue(signingtest.LeafOptions{}))
	foreign := anArtifact()
	foreign.Digest = digest.FromString("another artifact")
	for _, format := range []string{signingtest.JWS, signingtest.COSE} {
		t.Run("as "+format, func(t *testing.T) {
			original := must(signer.Sign(t.Context(), signingtest.SignRequest{Subject: anArtifact(), Format: format}))
			tampered := must(signingtest.Tamper(original, format))
			_, err := verify(t, tampered, format, trusted{ca.Certificate})
			expectError(t, err, "signature is invalid")

			elsewhere := must(signer.Sign(t.Context(), signingtest.SignRequest{Subject: foreign, Format: format}))
			_, err = verify(t, elsewhere, format, trusted{ca.Certificate})
			expectError(t, err, "content descriptor mismatch")

			retargeted := must(signingtest.Retarget(elsewhere, format, anArtifact()))
			_, err = verify(t, retargeted, format, trusted{ca.Certificate})
			expectError(t, err, "signature is invalid")

			if _, err := signingtest.Tamper([]byte("no envelope"), format); err == nil {
				t.Error("what is no envelope was changed")
			}
		})
	}
}

func TestTimestamps(t *testing.T) {
	now := time.Now()
	past := func() time.Time { return now.Add(-90 * time.Minute) }
	tests := map[string]struct {
		clock   func() time.Time // nil is no timestamp
		format  string
		refusal string
	}{
		"a timestamp of when the certificate was valid makes up for its expiry": {clock: past, format: signingtest.JWS},
		"it does so in COSE as well":               {clock: past, format: signingtest.COSE},
		"a timestamp of after the expiry does not": {clock: time.Now, format: signingtest.JWS, refusal: "timestamp can be after certificate"},
		"without a timestamp nothing does":         {format: signingtest.COSE, refusal: "no timestamp countersignature"},
	}
	ca := must(signingtest.NewCA(signingtest.Options{}))
	signer := must(ca.Issue(signingtest.LeafOptions{NotBefore: now.Add(-2 * hour), NotAfter: now.Add(-hour)}))
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			request := signingtest.SignRequest{Subject: anArtifact(), Format: test.format}
			if test.clock != nil {
				request.Timestamper = must(signingtest.NewTSA(ca, test.clock))
				request.TimestampRoots = roots
			}
			envelope, err := signer.Sign(t.Context(), request)
			if err != nil {
				t.Fatalf("sign: %v", err)
			}
			_, err = verify(t, envelope, test.format, trusted{ca.Certificate}, "tsa:test")
			expectError(t, err, test.refusal)
		})
	}
}

func TestTimestampAnswersTheRequest(t *testing.T) {
	tsa := must(signingtest.NewTSA(must(signingtest.NewCA(signingtest.Options{})), time.Now))
	request := must(tspclient.NewRequest(tspclient.RequestOptions{Content: []byte("content"), HashAlgorithm: crypto.SHA384}))
	response := must(tsa.Timestamp(t.Context(), request))
	if err := response.Validate(request); err != nil {
		t.Errorf("the answer does not fit the request: %v", err)
	}
}

func TestRevocation(t *testing.T) {
	type by struct{ crl, ocsp bool }
	tests := map[string]struct {
		by      by
		prepare func(*signingtest.RevocationServer, *signingtest.Signer)
		refusal string
		asked   bool // the server was
	}{
		"a certificate that cannot be revoked needs no server": {},
		"a certificate that is on no CRL is good":              {by: by{crl: true}, asked: true},
		"a certificate that OCSP knows as good is good":        {by: by{ocsp: true}, asked: true},
		"a certificate on the CRL is revoked":                  {by: by{crl: true}, prepare: revoke, refusal: "is revoked", asked: true},
		"a certificate that OCSP knows as revoked is revoked":  {by: by{ocsp: true}, prepare: revoke, refusal: "is revoked", asked: true},
		"another certificate on the CRL does no harm":          {by: by{crl: true}, prepare: revokeAnother, asked: true},
		"a CRL server that is down leaves it unknown":          {by: by{crl: true}, prepare: stop, refusal: "status is unknown", asked: true},
		"an OCSP server that is down leaves it unknown":        {by: by{ocsp: true}, prepare: stop, refusal: "status is unknown", asked: true},
		"a CRL that is out of date leaves it unknown":          {by: by{crl: true}, prepare: outdate, refusal: "status is unknown", asked: true},
		"OCSP is asked before the CRL":                         {by: by{crl: true, ocsp: true}, prepare: revoke, refusal: "is revoked", asked: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ca := must(signingtest.NewCA(signingtest.Options{}))
			server := must(signingtest.NewRevocationServer(ca))
			defer func() {
				if err := server.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}()
			var options signingtest.LeafOptions
			if test.by.crl {
				options.CRLURL = server.CRLURL()
			}
			if test.by.ocsp {
				options.OCSPURL = server.OCSPURL()
			}
			signer := must(ca.Issue(options))
			if test.prepare != nil {
				test.prepare(server, signer)
			}
			envelope := must(signer.Sign(t.Context(), signingtest.SignRequest{Subject: anArtifact()}))
			_, err := verify(t, envelope, signingtest.JWS, trusted{ca.Certificate})
			expectError(t, err, test.refusal)
			if asked := server.Requests() > 0; asked != test.asked {
				t.Errorf("server was asked: %t, want %t", asked, test.asked)
			}
		})
	}
}

func revoke(server *signingtest.RevocationServer, signer *signingtest.Signer) {
	server.Revoke(signer.Certificate.SerialNumber)
}

func revokeAnother(server *signingtest.RevocationServer, _ *signingtest.Signer) {
	server.Revoke(big.NewInt(7))
}

func stop(server *signingtest.RevocationServer, _ *signingtest.Signer) { server.SetDown(true) }

func outdate(server *signingtest.RevocationServer, _ *signingtest.Signer) {
	server.SetNextUpdate(-30 * time.Second)
}

// expectError fails unless the error contains the text, or there is none where
// none is expected.
func expectError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Fatalf("unexpected error: %v", err)
	case want != "" && err == nil:
		t.Fatalf("no error, want one with %q", want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Fatalf("error %q, want one with %q", err, want)
	}
}
