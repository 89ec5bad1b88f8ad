package signing_test

import (
	"context"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/notaryproject/notation-core-go/revocation"
	"github.com/notaryproject/notation-core-go/revocation/purpose"
	"github.com/notaryproject/notation-core-go/signature"
	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/testdata/signing"
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

func TestSign(t *testing.T) {
	now := time.Now()
	tests := map[string]struct {
		ca      signing.Options
		leaf    signing.LeafOptions
		request signing.SignRequest
		refusal string // part of the verifier's error; empty is success
	}{
		"an ECDSA signature in a JWS envelope is good":  {},
		"an ECDSA signature in a COSE envelope is good": {request: signing.SignRequest{Format: signing.COSE}},
		"a P-384 signature in a JWS envelope is good":   {leaf: signing.LeafOptions{KeyType: signing.ECDSA384}},
		"a P-521 signature in a COSE envelope is good": {
			leaf:    signing.LeafOptions{KeyType: signing.ECDSA521},
			request: signing.SignRequest{Format: signing.COSE},
		},
		"an RSA signature in a JWS envelope is good": {
			ca:   signing.Options{KeyType: signing.RSA2048},
			leaf: signing.LeafOptions{KeyType: signing.RSA2048},
		},
		"an RSA signature in a COSE envelope is good": {
			leaf:    signing.LeafOptions{KeyType: signing.RSA3072},
			request: signing.SignRequest{Format: signing.COSE},
		},
		"a signature that has not expired yet is good": {request: signing.SignRequest{Expiry: hour}},
		"a signature that expired is refused": {
			request: signing.SignRequest{SigningTime: now.Add(-2 * hour), Expiry: hour},
			refusal: "digital signature has expired",
		},
		"a COSE signature that expired is refused": {
			request: signing.SignRequest{Format: signing.COSE, SigningTime: now.Add(-2 * hour), Expiry: hour},
			refusal: "digital signature has expired",
		},
		"a certificate that expired since is refused": {
			leaf:    signing.LeafOptions{NotBefore: now.Add(-2 * hour), NotAfter: now.Add(-hour)},
			refusal: "verification time is after certificate",
		},
		"a certificate that is not valid yet is refused": {
			leaf:    signing.LeafOptions{NotBefore: now.Add(hour)},
			refusal: "verification time is before certificate",
		},
		"a signing authority vouches for the time of a certificate that expired since": {
			leaf:    signing.LeafOptions{NotBefore: now.Add(-2 * hour), NotAfter: now.Add(-hour)},
			request: signing.SignRequest{SigningScheme: signature.SigningSchemeX509SigningAuthority},
		},
		"a signature that asks for a plugin is refused without plugins": {
			request: signing.SignRequest{Plugin: signing.Venafi()},
			refusal: "plugin unsupported",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := must(signing.NewCA(test.ca))
			signer := must(ca.Issue(test.leaf))
			test.request.Subject = anArtifact()
			envelope, err := signer.Sign(t.Context(), test.request)
			if err != nil {
				t.Fatalf("sign: %v", err)
			}
			format := test.request.Format
			if format == "" {
				format = signing.JWS
			}
			_, err = verify(t, envelope, format, trusted{ca.Certificate})
			expectError(t, err, test.refusal)
		})
	}
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
