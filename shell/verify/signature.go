package verify

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/notaryproject/notation-core-go/signature"
	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// signature verifies one signature. It gives the fact of a signature that satisfies, or else the finding. In order: the
// envelope is bounded, notation-go verifies it, the trusted identities are held against the leaf whatever a plugin said,
// and critical attributes that nobody understood deny. Until the signer is found authentic no plugin sees the signature
// and no address that it names is asked.
func (g *Gatherer) signature(ctx context.Context, a artifact, subject ocispec.Descriptor, envelope []byte, mediaType string) (core.SignatureFact, *reason.Finding) {
	read := contentsOf(mediaType, envelope)
	if err := read.bound(); err != nil {
		return core.SignatureFact{}, &reason.Finding{Code: reason.SignatureInvalid, Reason: err.Error()}
	}
	statement := a.task.Statement
	statement.RegistryScopes = []string{"*"} // the core has chosen the statement
	stores := &stores{trust: a.trust}
	authentic := func(chain []*x509.Certificate) error {
		if !stores.trusts(chain) {
			return errors.New("the signer's certificate is of no CA in the trust stores of the trust policy")
		}
		return trust.CheckIdentity(statement.TrustedIdentities, chain[0].Subject.String())
	}
	v := &attempt{began: time.Now(), stores: stores, authentic: authentic, plugins: &pluginWatch{next: g.plugins, authentic: authentic}}
	v.signing = watchedRevocation{next: g.revocation.signing, authentic: authentic}
	v.timestamping = watchedRevocation{next: g.revocation.timestamping, authentic: func([]*x509.Certificate) error { return authentic(read.chain) }}
	notary, err := verifier.NewWithOptions(shelltrust.Document(statement), stores, v.plugins, verifier.VerifierOptions{
		RevocationCodeSigningValidator: &v.signing, RevocationTimestampingValidator: &v.timestamping,
	})
	if err != nil {
		return core.SignatureFact{}, &reason.Finding{Code: reason.TrustPolicyInvalid, Reason: err.Error()}
	}
	ctx, horizon := withHorizon(ctx)
	v.outcome, v.err = notary.Verify(ctx, subject, envelope, notation.VerifierVerifyOptions{
		ArtifactReference:  "registry.example/" + a.task.Ref.Repository + "@" + subject.Digest.String(), // for the choice of a statement only, and refused with an IPv6 address
		SignatureMediaType: mediaType,
		PluginConfig:       g.plugins.Config(),
	})
	v.holdIdentity(statement)
	if v.err != nil || v.enforced() != nil {
		return core.SignatureFact{}, v.finding(ctx, statement)
	}
	if name, found := unprocessed(v.outcome, v.plugins); found {
		return core.SignatureFact{}, &reason.Finding{Code: reason.SignatureInvalid, Reason: fmt.Sprintf("its critical attribute %q is not understood, and no plugin has processed it", name)}
	}
	fact := v.satisfied(statement)
	fact.RevocationOpen = v.logged(reason.RevocationUnknown) && !v.signing.withheld && !v.timestamping.withheld
	fact.FreshUntil = horizon.bound()
	return fact, nil
}

// holdIdentity holds the trusted identities against the certificate that signed, which notation-go may have left to a
// plugin, and tells in one sentence who is not trusted or why a plugin was not asked.
func (v *attempt) holdIdentity(statement trust.Statement) {
	if v.outcome == nil {
		return
	}
	i := slices.IndexFunc(v.outcome.VerificationResults, func(r *notation.ValidationResult) bool { return r.Type == trustpolicy.TypeAuthenticity })
	if i < 0 {
		v.err = cmp.Or(v.err, errors.New("the signer's authenticity was not looked at"))
		return
	}
	result, chain := v.outcome.VerificationResults[i], v.outcome.EnvelopeContent.SignerInfo.CertificateChain
	if v.plugins.withheld != nil {
		result.Error = errors.New(v.plugins.withheld.Reason)
		return
	}
	err := trust.CheckIdentity(statement.TrustedIdentities, chain[0].Subject.String())
	if err != nil && (result.Error == nil || v.stores.trusts(chain)) {
		result.Error, v.impostor = err, true
	}
}

// unprocessed gives a critical attribute that nobody has understood, with which a signature may not be accepted
// (Notary Project, signature specification, section "Extended attributes"). notation-go looks for them only where it
// ran a plugin, and then only at those with a string for a name.
func unprocessed(outcome *notation.VerificationOutcome, plugins *pluginWatch) (name string, found bool) {
	for _, attribute := range outcome.EnvelopeContent.SignerInfo.SignedAttributes.ExtendedAttributes {
		key, named := attribute.Key.(string)
		known := named && (plugins.verified || slices.Contains(verifier.VerificationPluginHeaders, key) || key == x5u && plugins.withheld != nil)
		if attribute.Critical && !known {
			return fmt.Sprint(attribute.Key), true
		}
	}
	return "", false
}

func (v *attempt) satisfied(statement trust.Statement) core.SignatureFact {
	signer := v.outcome.EnvelopeContent.SignerInfo
	fact := core.SignatureFact{
		Verified:   true,
		Signer:     signer.CertificateChain[0].Subject.String(),
		SignedAt:   signer.SignedAttributes.SigningTime.UTC(),
		ValidUntil: v.validUntil(statement),
	}
	for _, result := range v.outcome.VerificationResults {
		if result.Error != nil {
			fact.Logged = append(fact.Logged, fmt.Sprintf("%s: %s", result.Type, v.explain(result)))
		}
	}
	return fact
}

// validUntil is the first moment at which an enforced validation in time would fail or have to look at more: the
// signature's expiry and, where no verified timestamp vouches for an earlier time, the end of its certificates.
func (v *attempt) validUntil(statement trust.Statement) time.Time {
	enforced := func(kind trustpolicy.ValidationType) bool {
		return v.outcome.VerificationLevel.Enforcement[kind] == trustpolicy.ActionEnforce
	}
	signer := v.outcome.EnvelopeContent.SignerInfo
	var ends []time.Time
	if expiry := signer.SignedAttributes.Expiry; !expiry.IsZero() && enforced(trustpolicy.TypeExpiry) {
		ends = append(ends, expiry)
	}
	if !timestamped(signer, statement, v.began) && enforced(trustpolicy.TypeAuthenticTimestamp) {
		for _, certificate := range signer.CertificateChain {
			ends = append(ends, certificate.NotAfter)
		}
	}
	if len(ends) == 0 {
		return time.Time{}
	}
	return slices.MinFunc(ends, time.Time.Compare).UTC()
}

// timestamped tells whether the time of signing was verified. That a signature carries a timestamp is not enough: it
// is not signed, and not looked at without a tsa store or before it is needed. began is when the verification did: one that
// needed no timestamp then does not count as one that had it.
func timestamped(signer signature.SignerInfo, statement trust.Statement, began time.Time) bool {
	if signer.SignedAttributes.SigningScheme == signature.SigningSchemeX509SigningAuthority {
		return true
	}
	if !slices.ContainsFunc(statement.TrustStores, func(s string) bool { return strings.HasPrefix(s, string(truststore.TypeTSA)+":") }) {
		return false
	}
	expired := slices.ContainsFunc(signer.CertificateChain, func(c *x509.Certificate) bool { return began.After(c.NotAfter) })
	return expired || statement.VerifyTimestamp != string(trustpolicy.OptionAfterCertExpiry)
}

// attempt is one verification of a signature, with what its parts saw on the way: notation-go gives the text of
// their errors but not always the errors.
type attempt struct {
	began                 time.Time
	authentic             func(chain []*x509.Certificate) error
	outcome               *notation.VerificationOutcome
	err                   error
	stores                *stores
	plugins               *pluginWatch
	signing, timestamping watchedRevocation
	impostor              bool // the signer is of a trusted CA, and none of the trusted identities
}

// finding finds the code of a rejection.
func (v *attempt) finding(ctx context.Context, statement trust.Statement) *reason.Finding {
	if stranger := v.stranger(ctx, statement); stranger != nil {
		return stranger
	}
	if v.plugins.failure != nil {
		return v.plugins.finding(ctx, v.outcome)
	}
	if ctx.Err() != nil {
		return &reason.Finding{Code: reason.Timeout, Reason: "time ran out while it was verified"}
	}
	if result := v.enforced(); result != nil {
		return &reason.Finding{Code: v.codeOf(result), Reason: v.explain(result)}
	}
	text := sentence(v.err)
	switch {
	case strings.Contains(text, "content descriptor mismatch"):
		return &reason.Finding{Code: reason.SignatureMismatch, Reason: "it was made for another image"}
	case v.plugins.withheld != nil:
		return v.plugins.withheld
	case v.plugins.verified && strings.HasPrefix(text, "extended critical attribute"):
		return &reason.Finding{Code: reason.SignatureInvalid, Reason: text}
	case v.plugins.verified:
		return &reason.Finding{Code: reason.PluginFailed, Reason: text}
	case v.plugins.metadata != nil && len(v.outcome.VerificationResults) == 1: // only integrity was looked at
		return &reason.Finding{Code: reason.PluginIncapable, Reason: v.plugins.incapable(text)}
	}
	return &reason.Finding{Code: reason.SignatureInvalid, Reason: text}
}

// stranger rejects a signature that names a plugin which could not be had or asked what it is, before the signer was
// looked at: nobody's signature but that of a trusted signer is told to be the plugin's fault. nil where the signer is
// trusted, was looked at, or need not be.
func (v *attempt) stranger(ctx context.Context, statement trust.Statement) *reason.Finding {
	enforced := v.outcome != nil && v.outcome.VerificationLevel.Enforcement[trustpolicy.TypeAuthenticity] == trustpolicy.ActionEnforce
	if v.plugins.name == "" || !enforced || len(v.outcome.VerificationResults) != 1 { // that of integrity
		return nil
	}
	signer := v.outcome.EnvelopeContent.SignerInfo
	err := v.stores.load(ctx, statement.TrustStores, signer.SignedAttributes.SigningScheme)
	if err == nil {
		err = v.authentic(signer.CertificateChain)
	}
	if err != nil {
		return &reason.Finding{Code: v.codeOfAuthenticity(), Reason: fmt.Sprintf("%s; the plugin %q that it names was not asked", err, reason.Clip(v.plugins.name, reason.MaxName))}
	}
	return nil
}

// explain gives the text of a validation's failure, and of revocation who was asked and what went wrong.
func (v *attempt) explain(result *notation.ValidationResult) string {
	text := sentence(result.Error)
	switch result.Type {
	case trustpolicy.TypeRevocation:
		return text + v.signing.cause()
	case trustpolicy.TypeAuthenticTimestamp:
		return text + v.timestamping.cause()
	}
	return text
}

// enforced gives the validation that failed and that the level enforces.
func (v *attempt) enforced() *notation.ValidationResult {
	if v.outcome == nil {
		return nil
	}
	i := slices.IndexFunc(v.outcome.VerificationResults, func(result *notation.ValidationResult) bool {
		return result.Error != nil && result.Action == trustpolicy.ActionEnforce
	})
	if i < 0 {
		return nil
	}
	return v.outcome.VerificationResults[i]
}

// logged tells whether a validation failed with a code that the level does not enforce.
func (v *attempt) logged(code reason.Code) bool {
	return slices.ContainsFunc(v.outcome.VerificationResults, func(result *notation.ValidationResult) bool {
		return result.Error != nil && v.codeOf(result) == code
	})
}

func (v *attempt) codeOf(result *notation.ValidationResult) reason.Code {
	switch result.Type {
	case trustpolicy.TypeAuthenticity:
		return v.codeOfAuthenticity()
	case trustpolicy.TypeExpiry:
		return reason.SignatureExpired
	case trustpolicy.TypeAuthenticTimestamp:
		return v.codeOfTimestamp()
	case trustpolicy.TypeRevocation:
		// a plugin's own look-up says so in its own words
		if v.signing.revoked || strings.HasSuffix(strings.TrimRight(result.Error.Error(), `".`), "is revoked") {
			return reason.CertificateRevoked
		}
		return reason.RevocationUnknown
	}
	return reason.SignatureInvalid
}

func (v *attempt) codeOfAuthenticity() reason.Code {
	switch {
	case v.stores.missing:
		return reason.TrustStoreUnavailable
	case v.plugins.withheld != nil:
		return v.plugins.withheld.Code
	case v.plugins.verified && !v.impostor:
		return reason.PluginRefused
	}
	return reason.SignatureUntrusted
}

// codeOfTimestamp tells a certificate that is not valid now from a timestamp that is not good.
func (v *attempt) codeOfTimestamp() reason.Code {
	signer := v.outcome.EnvelopeContent.SignerInfo
	switch {
	case v.stores.missing:
		return reason.TrustStoreUnavailable
	case v.timestamping.unknown:
		return reason.RevocationUnknown
	}
	now := time.Now()
	for _, certificate := range signer.CertificateChain {
		if now.After(certificate.NotAfter) || now.Before(certificate.NotBefore) {
			return reason.CertificateExpired
		}
	}
	return reason.TimestampInvalid
}

// sentence is an error's text on one line, cut where a stranger's words make it long.
func sentence(err error) string {
	return strings.Join(strings.Fields(reason.Clip(err.Error(), reason.MaxWords)), " ")
}

// attributeOf reads a signed extended attribute; "" where the signature has none of that name.
func attributeOf(outcome *notation.VerificationOutcome, name string) string {
	if outcome == nil || outcome.EnvelopeContent == nil {
		return ""
	}
	attribute, err := outcome.EnvelopeContent.SignerInfo.ExtendedAttribute(name)
	if err != nil {
		return ""
	}
	return fmt.Sprint(attribute.Value)
}
