// Package vsa makes a Verification Summary Attestation of a decision about an image: an in-toto Statement v1 with the predicate
// https://slsa.dev/verification_summary/v1, in a DSSE envelope with an ECDSA P-256 signature. Who trusts the verifier learns from it what
// was verified of the image, without asking its registry again.
//
// It claims no more than was decided. A trust policy says who may sign and what attestations must say; it does not evaluate a level of
// SLSA, so that the level of an image that passed is SLSA_BUILD_LEVEL_UNEVALUATED, beside levels of the policy's own that whoever
// exports it names. Nothing is made of an image that could not be verified, or that was admitted unverified.
package vsa

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

// The types that stand in an attestation.
const (
	StatementType = "https://in-toto.io/Statement/v1"
	PredicateType = "https://slsa.dev/verification_summary/v1"
	PayloadType   = "application/vnd.in-toto+json"

	slsaVersion = "1.0"
	unevaluated = "SLSA_BUILD_LEVEL_UNEVALUATED"
	failed      = "FAILED"
)

// Summary is what an attestation says.
type Summary struct {
	Verifier string // URI
	Version  string // of this software; "" where it is not known
	At       time.Time
	Image    string   // repository with its registry
	Digest   string   // of the image, "sha256:hex"
	Policy   string   // name of the TrustPolicy
	Revision string   // SHA-256 of its statement and trust stores, hexadecimal
	Passed   bool     // the image was verified; else it was denied
	Levels   []string // of the policy's own, where it passed

	Attestations []string // digests of the manifests of attestations that were taken into account
	Signatures   []string // digests of the envelopes of signatures that were verified
}

// digestSet is one digest by its algorithm.
type digestSet map[string]string

// resource is a ResourceDescriptor of in-toto.
type resource struct {
	Name   string    `json:"name,omitempty"`
	URI    string    `json:"uri,omitempty"`
	Digest digestSet `json:"digest"`
}

// statement is the in-toto Statement.
type statement struct {
	Type          string     `json:"_type"`
	Predicate     predicate  `json:"predicate"`
	PredicateType string     `json:"predicateType"`
	Subject       []resource `json:"subject"`
}

type predicate struct {
	InputAttestations  []resource `json:"inputAttestations,omitempty"`
	Policy             resource   `json:"policy"`
	ResourceURI        string     `json:"resourceUri"`
	SLSAVersion        string     `json:"slsaVersion"`
	TimeVerified       string     `json:"timeVerified"`
	VerificationResult string     `json:"verificationResult"`
	VerifiedLevels     []string   `json:"verifiedLevels"`
	Verifier           verifier   `json:"verifier"`
}

type verifier struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version,omitempty"`
}

// Statement gives the statement as JSON.
func (s Summary) Statement() ([]byte, error) {
	id, err := url.Parse(s.Verifier)
	if err != nil || !id.IsAbs() {
		return nil, fmt.Errorf("verifier %q is no URI", s.Verifier)
	}
	subject, err := digestOf(s.Digest)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	policy, err := digestOf("sha256:" + s.Revision)
	if err != nil {
		return nil, fmt.Errorf("revision of the trust policy: %w", err)
	}
	uri := purl(s.Image, s.Digest)
	p := predicate{
		Policy:      resource{URI: "kubernetes:notation.nirmata.io/v1alpha1/trustpolicies/" + url.PathEscape(s.Policy), Digest: policy},
		ResourceURI: uri, SLSAVersion: slsaVersion, TimeVerified: s.At.UTC().Format(time.RFC3339),
		VerificationResult: failed, VerifiedLevels: []string{failed}, Verifier: verifier{ID: s.Verifier},
	}
	if s.Version != "" {
		p.Verifier.Version = map[string]string{"kyverno-notation-venafi": s.Version}
	}
	if p.InputAttestations, err = s.inputs(); err != nil {
		return nil, fmt.Errorf("input attestation: %w", err)
	}
	if s.Passed {
		p.VerificationResult = "PASSED"
		p.VerifiedLevels = []string{unevaluated}
		for _, level := range s.Levels {
			if err := validateLevel(level); err != nil {
				return nil, err
			}
			p.VerifiedLevels = append(p.VerifiedLevels, level)
		}
	}
	return json.Marshal(statement{Type: StatementType, PredicateType: PredicateType, Subject: []resource{{Name: s.Image, Digest: subject}}, Predicate: p})
}

func (s Summary) inputs() ([]resource, error) {
	var inputs []resource
	for _, input := range slices.Concat(s.Attestations, s.Signatures) {
		digest, err := digestOf(input)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, resource{URI: purl(s.Image, input), Digest: digest})
	}
	for i := range s.Signatures { // a package URL names no blob
		inputs[len(s.Attestations)+i].URI = ""
	}
	return inputs, nil
}

// validateLevel refuses a level that is not one of a policy's own (SLSA v1.0, verification summary, SlsaResult).
func validateLevel(level string) error {
	if level == "" || level == failed || strings.HasPrefix(level, "SLSA_") || strings.Trim(level, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
		return fmt.Errorf("level %q: name one of your own in capital letters, digits and _; levels that begin with SLSA_ are not evaluated here", level)
	}
	return nil
}

// digestOf splits a digest.
func digestOf(text string) (digestSet, error) {
	algorithm, digest, found := strings.Cut(text, ":")
	size, known := map[string]int{"sha256": 32, "sha384": 48, "sha512": 64}[algorithm]
	if raw, err := hex.DecodeString(digest); !found || !known || err != nil || len(raw) != size {
		return nil, fmt.Errorf("%q is no digest", text)
	}
	return digestSet{algorithm: digest}, nil
}

// purl is the package URL (type oci) of a manifest.
func purl(repository, digest string) string {
	return "pkg:oci/" + url.PathEscape(strings.ToLower(path.Base(repository))) + "@" + url.QueryEscape(digest) + "?repository_url=" + strings.ReplaceAll(url.QueryEscape(repository), "%2F", "/")
}

// envelope is a DSSE envelope.
type envelope struct {
	Payload     []byte      `json:"payload"`
	PayloadType string      `json:"payloadType"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// Sign puts a statement into a signed DSSE envelope. The key is one of ECDSA P-256; the ID of the key is the SHA-256 of its
// SubjectPublicKeyInfo, hexadecimal.
func Sign(statement []byte, key crypto.Signer) ([]byte, error) {
	public, ok := key.Public().(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, errors.New("the key is not one of ECDSA P-256")
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(der)
	sum := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(PayloadType), PayloadType, len(statement), statement)) // PAE
	sig, err := key.Sign(nil, sum[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return json.Marshal(envelope{Payload: statement, PayloadType: PayloadType, Signatures: []signature{{KeyID: hex.EncodeToString(id[:]), Sig: sig}}})
}
