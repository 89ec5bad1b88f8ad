// Package scenariotest fills a registry with images in every state of trust, and a directory with the trust
// resources that tell them apart. Tests, benchmarks and the demonstration share it.
package scenariotest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// PolicyName is the trust policy that trusts Trusted.
const PolicyName = "demo"

// Scenario is a registry's content and the trust that goes with it.
type Scenario struct {
	Host    string // of the registry
	Trusted *signingtest.CA
	Foreign *signingtest.CA

	// Platform serves the certificates of those who sign with the venafi-csp plugin; nil lets their signatures name an
	// address that nobody answers.
	Platform *signingtest.Platform

	client    *http.Client
	plainHTTP bool

	rsa, ecdsa, foreign, expired *signingtest.Signer
}

// Case is an image in one state of trust.
type Case struct {
	Name  string
	Tells string // a sentence for people
	Want  reason.Code

	// Demands is the request's attestations, JSON; "" demands none.
	Demands string

	make func(ctx context.Context, s *Scenario, name string) (ocispec.Descriptor, error)
}

// New makes keys and certificates for a registry that speaks plain HTTP, or is reached through client.
func New(host string, client *http.Client, plainHTTP bool) (*Scenario, error) {
	s := &Scenario{Host: host, client: client, plainHTTP: plainHTTP}
	var err error
	if s.Trusted, err = signingtest.NewCA(signingtest.Options{CommonName: "Acme Root", Organization: "Acme"}); err != nil {
		return nil, err
	}
	if s.Foreign, err = signingtest.NewCA(signingtest.Options{CommonName: "Mallory Root", Organization: "Mallory"}); err != nil {
		return nil, err
	}
	now := time.Now()
	for signer, options := range map[**signingtest.Signer]signingtest.LeafOptions{
		&s.rsa:     {CommonName: "Acme Release", KeyType: signingtest.RSA2048},
		&s.ecdsa:   {CommonName: "Acme Build"},
		&s.expired: {CommonName: "Acme Former", NotBefore: now.AddDate(-2, 0, 0), NotAfter: now.AddDate(-1, 0, 0)},
	} {
		if *signer, err = s.Trusted.Issue(options); err != nil {
			return nil, err
		}
	}
	s.foreign, err = s.Foreign.Issue(signingtest.LeafOptions{CommonName: "Mallory"})
	return s, err
}

// Signer is the one whom the policy trusts.
func (s *Scenario) Signer() *signingtest.Signer { return s.ecdsa }

// Reference names a case's image.
func (s *Scenario) Reference(name string) string { return s.Host + "/acme/" + name + ":v1" }

// Request is the body of a request for a pod with the image in its only container, "app".
func (c Case) Request(image string) string {
	attestations := ""
	if c.Demands != "" {
		attestations = `"attestations":` + c.Demands + ","
	}
	return fmt.Sprintf(`{%s"object":{"kind":"Pod","spec":{"containers":[{"name":"app","image":%q}]}}}`, attestations, image)
}

// sbomType is the artifact type of the scenario's attestations, and licences what is demanded of them.
const (
	sbomType = "application/vnd.cyclonedx+json"
	licences = `[{"imageReference":"*","type":[{"name":"application/vnd.cyclonedx+json","conditions":{"all":[{"key":"{{ components[].licenses[].expression }}","operator":"AllNotIn","value":["GPL-3.0"],"message":"GPL is not allowed"}]}}]}]`
)

// Cases lists the images: by their signatures, and then by their attestations.
func Cases() []Case {
	return append(signatureCases(),
		Case{"sbom-met", "with a signed SBOM that meets the licence rule", reason.Verified, licences, attested("MIT", ecdsa)},
		Case{"sbom-unmet", "with a signed SBOM that names the GPL", reason.ConditionUnmet, licences, attested("GPL-3.0", ecdsa)},
		Case{"sbom-unsigned", "with an SBOM that is not signed", reason.AttestationUntrusted, licences, attested("MIT", nobody)},
		Case{"sbom-missing", "without the SBOM that is demanded", reason.AttestationMissing, licences, signedBy(ecdsa, signingtest.SignRequest{})},
	)
}

func signatureCases() []Case {
	return []Case{
		{"signed", "signed with RSA, JWS envelope", reason.Verified, "", signedBy(rsa, signingtest.SignRequest{Format: signingtest.JWS})},
		{"signed-cose", "signed with ECDSA, COSE envelope", reason.Verified, "", signedBy(ecdsa, signingtest.SignRequest{Format: signingtest.COSE})},
		{"signed-ecdsa", "signed with ECDSA, JWS envelope", reason.Verified, "", signedBy(ecdsa, signingtest.SignRequest{Format: signingtest.JWS})},
		{"plugin-signed", "signed with the venafi-csp plugin", reason.Verified, "", signedBy(ecdsa, signingtest.SignRequest{Plugin: signingtest.Venafi()})},
		{"beside-foreign", "a good signature beside a foreign one", reason.Verified, "", besideForeign},
		{"multi-arch", "an index of two platforms, signed as a whole", reason.Verified, "", multiArch},
		{"unsigned", "not signed", reason.NoSignature, "", unsigned},
		{"foreign", "signed by someone else", reason.SignatureUntrusted, "", signedBy(foreign, signingtest.SignRequest{})},
		{"expired-certificate", "the signer's certificate has expired", reason.CertificateExpired, "", signedBy(expired, signingtest.SignRequest{})},
		{"expired-signature", "the signature itself has expired", reason.SignatureExpired, "", signedBy(ecdsa, signingtest.SignRequest{SigningTime: time.Now().Add(-2 * time.Hour), Expiry: time.Hour})},
		{"tampered", "the envelope was changed after signing", reason.SignatureInvalid, "", tampered},
		{"replayed", "carries the signature of another image", reason.SignatureMismatch, "", replayed},
		{"plugin-without-x5u", "signed with the plugin, without the x5u attribute", reason.PluginRefused, "", signedBy(ecdsa, signingtest.SignRequest{Plugin: &signingtest.PluginAttributes{Name: "venafi-csp", MinVersion: "0.2.0"}})},
		{"plugin-missing", "demands a plugin that is not installed", reason.PluginMissing, "", signedBy(ecdsa, signingtest.SignRequest{Plugin: &signingtest.PluginAttributes{Name: "not-installed", MinVersion: "1.0.0"}})},
	}
}

// Publish pushes a case's image and its signatures.
func (s *Scenario) Publish(ctx context.Context, c Case) (ocispec.Descriptor, error) {
	image, err := c.make(ctx, s, c.Name)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("publishing %s: %w", c.Name, err)
	}
	return image, nil
}

// PublishAll pushes every case.
func (s *Scenario) PublishAll(ctx context.Context) error {
	for _, c := range Cases() {
		if _, err := s.Publish(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// PushSigned pushes one more image under a name, signed as the request says; nil leaves it unsigned.
func (s *Scenario) PushSigned(ctx context.Context, name string, signer *signingtest.Signer, request *signingtest.SignRequest) (ocispec.Descriptor, error) {
	image, err := s.push(ctx, name)
	if err != nil || request == nil {
		return image, err
	}
	return image, s.Sign(ctx, name, image, signer, *request)
}

// Sign signs an artifact of a repository and pushes the signature.
func (s *Scenario) Sign(ctx context.Context, name string, subject ocispec.Descriptor, signer *signingtest.Signer, request signingtest.SignRequest) error {
	request.Subject = subject
	if request.Format == "" {
		request.Format = signingtest.JWS
	}
	if p := request.Plugin; p != nil && p.X5U == signingtest.UnansweredX5U && s.Platform != nil {
		served := *p
		served.X5U = s.Platform.X5U(signer.Certificate)
		request.Plugin = &served
	}
	envelope, err := signer.Sign(ctx, request)
	if err != nil {
		return err
	}
	return s.attach(ctx, name, subject, request.Format, envelope)
}

// PushWithSampleAttestations pushes a signed image with the three attestations that the sample policy
// config/samples/clusterpolicy-attestations.yaml asks for. Of the SBOM's components one has the licence.
func (s *Scenario) PushWithSampleAttestations(ctx context.Context, name, licence string) error {
	image, err := s.PushSigned(ctx, name, s.ecdsa, &signingtest.SignRequest{})
	if err != nil {
		return err
	}
	for artifactType, document := range map[string]string{
		"sbom/cyclone-dx":           `{"creationInfo":{"licenseListVersion":"3.17"}}`,
		"application/vnd.cyclonedx": fmt.Sprintf(`{"bomFormat":"CycloneDX","components":[{"name":"a","licenses":[{"expression":"MIT"}]},{"name":"b","licenses":[{"expression":%q}]}]}`, licence),
		"application/sarif+json":    `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"Trivy"}},"results":[]}]}`,
	} {
		if _, err := s.Attest(ctx, name, image, artifactType, []byte(document), s.ecdsa); err != nil {
			return err
		}
	}
	return nil
}

// Attest pushes a referrer of an image with a JSON payload; signer nil leaves it unsigned.
func (s *Scenario) Attest(ctx context.Context, name string, image ocispec.Descriptor, artifactType string, payload []byte, signer *signingtest.Signer) (ocispec.Descriptor, error) {
	repository, err := signingtest.Repository(s.Host, "acme/"+name, s.client, s.plainHTTP)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	attestation, err := signingtest.PushReferrer(ctx, repository, image, artifactType, payload, "application/json")
	if err != nil || signer == nil {
		return attestation, err
	}
	return attestation, s.Sign(ctx, name, attestation, signer, signingtest.SignRequest{})
}

func (s *Scenario) push(ctx context.Context, name string) (ocispec.Descriptor, error) {
	repository, err := signingtest.Repository(s.Host, "acme/"+name, s.client, s.plainHTTP)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return signingtest.PushImage(ctx, repository, "v1", signingtest.Image{Layers: [][]byte{[]byte(name)}})
}

func (s *Scenario) attach(ctx context.Context, name string, subject ocispec.Descriptor, format string, envelope []byte) error {
	repository, err := signingtest.Repository(s.Host, "acme/"+name, s.client, s.plainHTTP)
	if err != nil {
		return err
	}
	_, err = signingtest.PushSignature(ctx, repository, subject, format, envelope)
	return err
}

// The signers of a scenario, for the table.
func rsa(s *Scenario) *signingtest.Signer     { return s.rsa }
func ecdsa(s *Scenario) *signingtest.Signer   { return s.ecdsa }
func foreign(s *Scenario) *signingtest.Signer { return s.foreign }
func expired(s *Scenario) *signingtest.Signer { return s.expired }
func nobody(*Scenario) *signingtest.Signer    { return nil }

func signedBy(signer func(*Scenario) *signingtest.Signer, request signingtest.SignRequest) func(context.Context, *Scenario, string) (ocispec.Descriptor, error) {
	return func(ctx context.Context, s *Scenario, name string) (ocispec.Descriptor, error) {
		return s.PushSigned(ctx, name, signer(s), &request)
	}
}

func unsigned(ctx context.Context, s *Scenario, name string) (ocispec.Descriptor, error) {
	return s.push(ctx, name)
}

func besideForeign(ctx context.Context, s *Scenario, name string) (ocispec.Descriptor, error) {
	image, err := s.PushSigned(ctx, name, s.foreign, &signingtest.SignRequest{})
	if err != nil {
		return image, err
	}
	return image, s.Sign(ctx, name, image, s.ecdsa, signingtest.SignRequest{})
}

// attested signs an image and attaches an SBOM with one component under a licence.
func attested(licence string, signer func(*Scenario) *signingtest.Signer) func(context.Context, *Scenario, string) (ocispec.Descriptor, error) {
	return func(ctx context.Context, s *Scenario, name string) (ocispec.Descriptor, error) {
		image, err := s.PushSigned(ctx, name, s.ecdsa, &signingtest.SignRequest{})
		if err != nil {
			return image, err
		}
		sbom := fmt.Sprintf(`{"bomFormat":"CycloneDX","specVersion":"1.5","components":[{"name":"parser","licenses":[{"expression":%q}]}]}`, licence)
		_, err = s.Attest(ctx, name, image, sbomType, []byte(sbom), signer(s))
		return image, err
	}
}

func multiArch(ctx context.Context, s *Scenario, name string) (ocispec.Descriptor, error) {
	repository, err := signingtest.Repository(s.Host, "acme/"+name, s.client, s.plainHTTP)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	index, err := signingtest.PushIndex(ctx, repository, "v1")
	if err != nil {
		return index, err
	}
	return index, s.Sign(ctx, name, index, s.ecdsa, signingtest.SignRequest{})
}

func tampered(ctx context.Context, s *Scenario, name string) (ocispec.Descriptor, error) {
	image, err := s.push(ctx, name)
	if err != nil {
		return image, err
	}
	envelope, err := s.ecdsa.Sign(ctx, signingtest.SignRequest{Subject: image, Format: signingtest.JWS})
	if err != nil {
		return image, err
	}
	envelope, err = signingtest.Tamper(envelope, signingtest.JWS)
	if err != nil {
		return image, err
	}
	return image, s.attach(ctx, name, image, signingtest.JWS, envelope)
}

// replayed attaches a signature that is good for another image.
func replayed(ctx context.Context, s *Scenario, name string) (ocispec.Descriptor, error) {
	image, err := s.push(ctx, name)
	if err != nil {
		return image, err
	}
	repository, err := signingtest.Repository(s.Host, "acme/"+name, s.client, s.plainHTTP)
	if err != nil {
		return image, err
	}
	other, err := signingtest.PushImage(ctx, repository, "other", signingtest.Image{Layers: [][]byte{[]byte("another image")}})
	if err != nil {
		return image, err
	}
	envelope, err := s.ecdsa.Sign(ctx, signingtest.SignRequest{Subject: other, Format: signingtest.JWS})
	if err != nil {
		return image, err
	}
	return image, s.attach(ctx, name, image, signingtest.JWS, envelope)
}

// WriteTrust writes the trust resources, as they would be applied to a cluster, into a directory.
func (s *Scenario) WriteTrust(dir string) error {
	files := map[string]string{
		"truststore-acme.yaml":   TrustStore("acme", s.Trusted.PEM()),
		"trustpolicy-demo.yaml":  TrustPolicy(PolicyName, "strict", "ca:acme"),
		"trustpolicy-audit.yaml": TrustPolicy("audit", "audit", "ca:acme"),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// TrustStore writes a TrustStore of type ca.
func TrustStore(name string, pem []byte) string {
	return fmt.Sprintf(`apiVersion: notation.nirmata.io/v1alpha1
kind: TrustStore
metadata:
  name: %[1]s
spec:
  trustStoreName: %[1]s
  type: ca
  caBundle: |
    %[2]s
`, name, strings.ReplaceAll(strings.TrimSpace(string(pem)), "\n", "\n    "))
}

// TrustPolicy writes a TrustPolicy with one statement for every repository.
func TrustPolicy(name, level, store string) string {
	return fmt.Sprintf(`apiVersion: notation.nirmata.io/v1alpha1
kind: TrustPolicy
metadata:
  name: %[1]s
spec:
  version: "1.0"
  trustPolicyName: %[1]s
  trustPolicies:
  - name: everything
    registryScopes: ["*"]
    signatureVerification:
      level: %[2]s
    trustStores: ["%[3]s"]
    trustedIdentities: ["*"]
`, name, level, store)
}
