package vsa_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	vsav1 "github.com/in-toto/attestation/go/predicates/vsa/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/secure-systems-lab/go-securesystemslib/signerverifier"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/nirmata/kyverno-notation-venafi/core/vsa"
)

func summary() vsa.Summary {
	return vsa.Summary{
		Verifier: "https://platform.acme.example/verifier", Version: "v1.2.3", At: time.Date(2030, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)),
		Image: "ghcr.io:443/acme/App", Digest: "sha256:" + strings.Repeat("a1", 32), Policy: "acme", Revision: strings.Repeat("b2", 32),
		Passed: true, Attestations: []string{"sha256:" + strings.Repeat("c3", 32)}, Signatures: []string{"sha512:" + strings.Repeat("d4", 64)}, Levels: []string{"ACME_REVIEWED"},
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// opened verifies an envelope as others do, with libraries of DSSE and in-toto.
func opened(t *testing.T, encoded []byte, key *ecdsa.PrivateKey) (*intoto.Statement, *vsav1.VerificationSummary, error) {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	public := signerverifier.SSLibKey{
		KeyID: hex.EncodeToString(sum[:]), KeyType: signerverifier.ECDSAKeyType, Scheme: signerverifier.ECDSAKeyScheme,
		KeyVal: signerverifier.KeyVal{Public: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))},
	}
	verifier, err := signerverifier.NewECDSASignerVerifierFromSSLibKey(&public)
	if err != nil {
		t.Fatal(err)
	}
	envelopes, err := dsse.NewEnvelopeVerifier(verifier)
	if err != nil {
		t.Fatal(err)
	}
	var envelope dsse.Envelope
	if err := json.Unmarshal(encoded, &envelope); err != nil {
		return nil, nil, err
	}
	if _, err := envelopes.Verify(context.Background(), &envelope); err != nil {
		return nil, nil, err
	}
	payload, err := envelope.DecodeB64Payload()
	if err != nil || envelope.PayloadType != "application/vnd.in-toto+json" {
		t.Fatalf("payload type %s: %v", envelope.PayloadType, err)
	}
	// protojson refuses fields that the schema does not have, and values of other types.
	statement, predicate := &intoto.Statement{}, &vsav1.VerificationSummary{}
	if err := protojson.Unmarshal(payload, statement); err != nil {
		return nil, nil, err
	}
	if err := statement.Validate(); err != nil {
		return nil, nil, err
	}
	// SLSA's verifier.version is the one field that in-toto's schema lacks.
	delete(statement.GetPredicate().GetFields()["verifier"].GetStructValue().GetFields(), "version")
	text, err := statement.GetPredicate().MarshalJSON()
	if err != nil {
		return nil, nil, err
	}
	return statement, predicate, protojson.Unmarshal(text, predicate)
}

func TestOthersVerifyIt(t *testing.T) {
	key := newKey(t)
	text, err := summary().Statement()
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := vsa.Sign(text, key)
	if err != nil {
		t.Fatal(err)
	}
	statement, predicate, err := opened(t, encoded, key)
	if err != nil {
		t.Fatal(err)
	}
	image := "pkg:oci/app@sha256%3A" + strings.Repeat("a1", 32) + "?repository_url=ghcr.io%3A443/acme/App"
	for what, pair := range map[string][2]string{
		"type":      {statement.GetPredicateType(), "https://slsa.dev/verification_summary/v1"},
		"subject":   {statement.GetSubject()[0].GetName() + " " + statement.GetSubject()[0].GetDigest()["sha256"], "ghcr.io:443/acme/App " + strings.Repeat("a1", 32)},
		"resource":  {predicate.GetResourceUri(), image},
		"verifier":  {predicate.GetVerifier().GetId(), "https://platform.acme.example/verifier"},
		"SLSA":      {predicate.GetSlsaVersion(), "1.0"},
		"time":      {predicate.GetTimeVerified().AsTime().Format(time.RFC3339), "2030-01-02T02:04:05Z"},
		"policy":    {predicate.GetPolicy().GetUri(), "kubernetes:notation.nirmata.io/v1alpha1/trustpolicies/acme"},
		"revision":  {predicate.GetPolicy().GetDigest()["sha256"], strings.Repeat("b2", 32)},
		"result":    {predicate.GetVerificationResult(), "PASSED"},
		"levels":    {strings.Join(predicate.GetVerifiedLevels(), " "), "SLSA_BUILD_LEVEL_UNEVALUATED ACME_REVIEWED"},
		"an input":  {predicate.GetInputAttestations()[0].GetDigest()["sha256"], strings.Repeat("c3", 32)},
		"another":   {predicate.GetInputAttestations()[1].GetDigest()["sha512"], strings.Repeat("d4", 64)},
		"a blob":    {predicate.GetInputAttestations()[1].GetUri(), ""},
		"the input": {predicate.GetInputAttestations()[0].GetUri(), strings.ReplaceAll(image, "a1", "c3")},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %q, want %q", what, pair[0], pair[1])
		}
	}
	if want := `"verifier":{"id":"https://platform.acme.example/verifier","version":{"kyverno-notation-venafi":"v1.2.3"}}`; !strings.Contains(string(text), want) {
		t.Errorf("the verifier is not %s in %s", want, text)
	}
	if _, _, err := opened(t, encoded, newKey(t)); err == nil {
		t.Error("another key verifies it")
	}
	forged := strings.Replace(string(encoded), `"payload":"`, `"payload":"IA`, 1)
	if _, _, err := opened(t, []byte(forged), key); err == nil {
		t.Error("another payload verifies")
	}
}

func TestFailedImages(t *testing.T) {
	s := summary()
	s.Passed, s.Attestations, s.Signatures, s.Version = false, nil, nil, ""
	text, err := s.Statement()
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	encoded, err := vsa.Sign(text, key)
	if err != nil {
		t.Fatal(err)
	}
	_, predicate, err := opened(t, encoded, key)
	if err != nil {
		t.Fatal(err)
	}
	if predicate.GetVerificationResult() != "FAILED" || strings.Join(predicate.GetVerifiedLevels(), " ") != "FAILED" || len(predicate.GetInputAttestations()) > 0 {
		t.Errorf("%v", predicate)
	}
}

func TestWhatIsRefused(t *testing.T) {
	tests := map[string]func(*vsa.Summary){
		"a verifier that is no URI":         func(s *vsa.Summary) { s.Verifier = "me" },
		"no verifier":                       func(s *vsa.Summary) { s.Verifier = "" },
		"a level of SLSA":                   func(s *vsa.Summary) { s.Levels = []string{"SLSA_BUILD_LEVEL_3"} },
		"the level of a failure":            func(s *vsa.Summary) { s.Levels = []string{"FAILED"} },
		"a level in small letters":          func(s *vsa.Summary) { s.Levels = []string{"slsa"} },
		"an image without a digest":         func(s *vsa.Summary) { s.Digest = "" },
		"a digest that is short":            func(s *vsa.Summary) { s.Digest = "sha256:abcd" },
		"a digest of an unknown algorithm":  func(s *vsa.Summary) { s.Digest = "md5:" + strings.Repeat("a", 32) },
		"a trust policy without a revision": func(s *vsa.Summary) { s.Revision = "" },
		"an input without a digest":         func(s *vsa.Summary) { s.Attestations = []string{"v1"} },
	}
	for sentence, change := range tests {
		t.Run(sentence, func(t *testing.T) {
			s := summary()
			change(&s)
			if text, err := s.Statement(); err == nil {
				t.Errorf("it gives %s", text)
			}
		})
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vsa.Sign(nil, key); err == nil {
		t.Error("an RSA key signs")
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vsa.Sign(nil, large); err == nil {
		t.Error("a key of P-384 signs")
	}
}
