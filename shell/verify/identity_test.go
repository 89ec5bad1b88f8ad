package verify_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// roots is a trust store with the same certificates in every store.
type roots []*x509.Certificate

func (r roots) GetCertificates(context.Context, truststore.Type, string) ([]*x509.Certificate, error) {
	return r, nil
}

// nameOf draws a subject of few words, so that identities and subjects meet: some attributes, now and then one twice,
// two in one part, or one that only a number names.
func nameOf(r *mathrand.Rand) pkix.RDNSequence {
	kinds := []asn1.ObjectIdentifier{{2, 5, 4, 6}, {2, 5, 4, 8}, {2, 5, 4, 10}, {2, 5, 4, 3}, {2, 5, 4, 11}, {1, 2, 3}}
	values := []string{"US", "WA", "A", "A, Inc.", "a", " A", "A+B", `A\`, "#A", "A=B", `"A"`, "Ä"}
	var name pkix.RDNSequence
	for i, kind := range kinds {
		if i < 3 && r.IntN(12) == 0 || i >= 3 && r.IntN(3) > 0 || i == 5 && r.IntN(6) > 0 {
			continue
		}
		attribute := pkix.AttributeTypeAndValue{Type: kind, Value: values[r.IntN(len(values))]}
		switch r.IntN(25) {
		case 0:
			name = append(name, pkix.RelativeDistinguishedNameSET{attribute}, pkix.RelativeDistinguishedNameSET{attribute})
		case 1:
			name = append(name, pkix.RelativeDistinguishedNameSET{attribute, {Type: asn1.ObjectIdentifier{2, 5, 4, 7}, Value: "X"}})
		default:
			name = append(name, pkix.RelativeDistinguishedNameSET{attribute})
		}
	}
	return name
}

// identitiesOf draws what a trust policy says: names near the subject, as notation's trust policy accepts them.
func identitiesOf(r *mathrand.Rand, subject string) []string {
	drawn := nameOf(r).String()
	candidates := []string{"x509.subject:" + subject, "x509.subject: " + drawn, "x509.subject:" + strings.ReplaceAll(subject, "ST=", "S="), "other:" + subject}
	if parts := strings.Split(subject, ","); len(parts) > 3 {
		candidates = append(candidates, "x509.subject: "+strings.Join(parts[1:], ", "))
	}
	r.Shuffle(len(candidates), func(i, j int) { candidates[i], candidates[j] = candidates[j], candidates[i] })
	return candidates[:1+r.IntN(2)]
}

func TestIdentitiesMatchAsInNotation(t *testing.T) {
	ca := must(signingtest.NewCA(signingtest.Options{}))
	key := must(signingtest.NewKey(signingtest.ECDSA256))
	image := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("x"), Size: 1}
	const worlds = 1500
	compared, trusted := 0, 0
	for seed := range uint64(worlds) {
		r := mathrand.New(mathrand.NewPCG(seed, 0))
		name := nameOf(r)
		signer := signerNamed(t, ca, key, name)
		subject := signer.Certificate.Subject.String()
		identities := identitiesOf(r, subject)
		v, err := verifier.New(&trustpolicy.Document{Version: "1.0", TrustPolicies: []trustpolicy.TrustPolicy{{
			Name: "all", RegistryScopes: []string{"*"}, TrustStores: []string{"ca:test"}, TrustedIdentities: identities,
			SignatureVerification: trustpolicy.SignatureVerification{VerificationLevel: "strict"},
		}}}, roots{ca.Certificate}, nil)
		if err != nil {
			continue // no such trust policy is ever in use
		}
		envelope, err := signer.Sign(t.Context(), signingtest.SignRequest{Subject: image})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		_, theirs := v.Verify(t.Context(), image, envelope, notation.VerifierVerifyOptions{ArtifactReference: "example.com/app@" + image.Digest.String(), SignatureMediaType: signingtest.JWS})
		if ours := trust.CheckIdentity(identities, subject); (ours == nil) != (theirs == nil) {
			t.Errorf("seed %d: subject %q, identities %q: ours %v, notation's %v", seed, subject, identities, ours, theirs)
		}
		compared++
		if theirs == nil {
			trusted++
		}
	}
	if compared < worlds/4 || trusted < compared/10 || trusted > compared*9/10 {
		t.Errorf("of %d worlds %d were compared, and %d trusted: they do not tell much", worlds, compared, trusted)
	}
}

// signerNamed makes a signer of the CA with any subject.
func signerNamed(t *testing.T, ca *signingtest.CA, key crypto.Signer, name pkix.RDNSequence) *signingtest.Signer {
	t.Helper()
	raw, err := asn1.Marshal(name)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ca.IssueTemplate(&x509.Certificate{
		SerialNumber: must(rand.Int(rand.Reader, big.NewInt(1<<62))), RawSubject: raw,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}, key)
	if err != nil {
		t.Fatal(fmt.Errorf("subject %s: %w", name, err))
	}
	return signer
}
