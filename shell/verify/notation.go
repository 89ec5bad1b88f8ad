package verify

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	trusted "github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// report has notation-go verify an envelope, and reports what was observed. It first checks the bounds on the envelope. It
// passes the envelope's own payload as the target: the core decides whether that is the artifact. Until the signer is known to
// be authentic, no plugin sees the signature and no address in it is connected to.
func (c course) report(ctx context.Context, lookup verification.Lookup, envelope []byte) verification.Report {
	read := contentsOf(lookup.MediaType, envelope)
	if err := read.bound(); err != nil {
		return refused(reason.SignatureInvalid, err)
	}
	statement := c.task.Statement
	statement.RegistryScopes = []string{"*"} // the core has chosen the statement
	ctx, freshness := withFreshness(ctx)
	a := newAttempt(c, read.chain)
	notary, err := verifier.NewWithOptions(trust.Document(statement), a.stores, a.plugins, verifier.VerifierOptions{
		RevocationCodeSigningValidator: &a.signing, RevocationTimestampingValidator: &a.timestamping,
	})
	if err != nil {
		return refused(reason.TrustPolicyInvalid, err)
	}
	began := time.Now()
	outcome, err := notary.Verify(ctx, targetOf(read.payload), envelope, notation.VerifierVerifyOptions{
		ArtifactReference:  "registry.example/" + c.task.Ref.Repository + "@" + lookup.Artifact, // only selects the statement; the real registry may be an IPv6 address, which notation-go refuses
		SignatureMediaType: lookup.MediaType,
		PluginConfig:       c.plugins.Config(),
	})
	report := verification.Report{
		Ended: ctx.Err() != nil, Began: began, StoreUnusable: a.stores.unusable, Plugin: a.plugins.report(ctx),
		Signing: a.signing.report(), Timestamping: a.timestamping.report(), FreshUntil: freshness.bound(),
	}
	if err != nil {
		report.Problem = sentence(err)
	}
	return withOutcome(report, outcome)
}

func refused(code reason.Code, err error) verification.Report {
	return verification.Report{Refused: &reason.Finding{Code: code, Reason: err.Error()}}
}

// attempt holds the parts of one verification of a signature, which record what notation-go has them do: it returns the texts
// of their errors, but not always the errors.
type attempt struct {
	stores                *stores
	plugins               *pluginWatch
	signing, timestamping watchedRevocation
}

// newAttempt makes the parts. chain is the envelope's, as far as it could be parsed.
func newAttempt(c course, chain []*x509.Certificate) *attempt {
	stores := &stores{stores: c.task.Stores}
	authentic := func(chain []*x509.Certificate) error { return c.task.Authentic(stores.scheme, chain) }
	return &attempt{
		stores:       stores,
		plugins:      &pluginWatch{next: c.plugins, task: c.task, stores: stores},
		signing:      watchedRevocation{next: c.revocation.signing, authentic: authentic},
		timestamping: watchedRevocation{next: c.revocation.timestamping, authentic: func([]*x509.Certificate) error { return authentic(chain) }},
	}
}

// targetOf gives the signed artifact of a payload. It can be trusted only after the envelope was verified.
func targetOf(payload []byte) ocispec.Descriptor {
	var read struct {
		TargetArtifact ocispec.Descriptor `json:"targetArtifact"`
	}
	if json.Unmarshal(payload, &read) != nil {
		return ocispec.Descriptor{}
	}
	return read.TargetArtifact
}

// withOutcome adds notation-go's outcome to a report.
func withOutcome(report verification.Report, outcome *notation.VerificationOutcome) verification.Report {
	if outcome == nil {
		return report
	}
	for _, result := range outcome.VerificationResults {
		check := verification.CheckReport{Name: string(result.Type)}
		if result.Error != nil {
			check.Problem = sentence(result.Error)
		}
		report.Checks = append(report.Checks, check)
	}
	report.Enforced = map[string]bool{}
	for check, action := range outcome.VerificationLevel.Enforcement {
		report.Enforced[string(check)] = action == trustpolicy.ActionEnforce
	}
	if outcome.EnvelopeContent == nil {
		return report
	}
	signer := outcome.EnvelopeContent.SignerInfo
	report.Target = described(targetOf(outcome.EnvelopeContent.Payload.Content))
	report.Scheme = trusted.Scheme(signer.SignedAttributes.SigningScheme)
	report.SignedAt, report.Expiry, report.Chain = signer.SignedAttributes.SigningTime, signer.SignedAttributes.Expiry, signer.CertificateChain
	for _, attribute := range signer.SignedAttributes.ExtendedAttributes {
		name, named := attribute.Key.(string)
		if !named {
			name = fmt.Sprint(attribute.Key)
		}
		value, _ := attribute.Value.(string)
		report.Attributes = append(report.Attributes, verification.Attribute{
			Name: reason.Clip(name, reason.MaxName), Named: named, Critical: attribute.Critical, Value: reason.Clip(value, reason.MaxName),
		})
	}
	return report
}

// stores implements notation-go's X509TrustStore for one verification.
type stores struct {
	stores   trusted.Stores
	unusable bool           // a needed store does not exist or cannot be used
	scheme   trusted.Scheme // of the signature, known by the type of store that notation-go asks for
}

// GetCertificates gives a store's certificates.
func (s *stores) GetCertificates(_ context.Context, kind truststore.Type, name string) ([]*x509.Certificate, error) {
	certificates, err := s.stores.Certificates(trusted.StoreRef{Type: string(kind), Name: name})
	s.unusable = s.unusable || err != nil
	switch kind {
	case truststore.TypeCA:
		s.scheme = trusted.SchemeX509
	case truststore.TypeSigningAuthority:
		s.scheme = trusted.SchemeSigningAuthority
	}
	return certificates, err
}

// sentence is an error's text on one line, clipped since it may contain untrusted text.
func sentence(err error) string {
	return strings.Join(strings.Fields(reason.Clip(err.Error(), reason.MaxWords)), " ")
}
