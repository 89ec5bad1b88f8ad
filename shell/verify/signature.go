package verify

import (
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
	pluginframework "github.com/notaryproject/notation-plugin-framework-go/plugin"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin"
	"github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// signature verifies one signature. It gives the fact of a signature that satisfies, or else the finding.
func (g *Gatherer) signature(ctx context.Context, a artifact, subject, manifest ocispec.Descriptor) (core.SignatureFact, *core.Finding) {
	envelope, mediaType, err := a.repository.Envelope(ctx, manifest)
	if err != nil {
		return core.SignatureFact{}, findingOn(ctx, err, core.SignatureInvalid)
	}
	statement := a.task.Statement
	statement.RegistryScopes = []string{"*"} // the core has chosen the statement
	stores, plugins := &stores{trust: a.trust}, &pluginWatch{next: g.plugins}
	notary, err := verifier.NewWithOptions(trust.Document(statement), stores, plugins, g.revocation.options())
	if err != nil {
		return core.SignatureFact{}, &core.Finding{Code: core.TrustPolicyInvalid, Reason: err.Error()}
	}
	ctx, horizon := withHorizon(ctx)
	outcome, err := notary.Verify(ctx, subject, envelope, notation.VerifierVerifyOptions{
		ArtifactReference:  "registry.example/" + a.task.Ref.Repository + "@" + subject.Digest.String(), // for the choice of a statement only, and refused with an IPv6 address
		SignatureMediaType: mediaType,
		PluginConfig:       g.plugins.Config(),
	})
	if err != nil {
		return core.SignatureFact{}, (&rejection{outcome: outcome, err: err, stores: stores, plugins: plugins}).finding(ctx)
	}
	if name, found := unprocessed(outcome, plugins); found {
		return core.SignatureFact{}, &core.Finding{Code: core.SignatureInvalid, Reason: fmt.Sprintf("its critical attribute %q is not understood, and no plugin has processed it", name)}
	}
	fact := satisfied(outcome, statement)
	fact.RevocationOpen = (&rejection{outcome: outcome, stores: stores, plugins: plugins}).logged(core.RevocationUnknown)
	fact.FreshUntil = horizon.bound()
	return fact, nil
}

// unprocessed gives a critical attribute that nobody has understood, with which a signature may not be accepted
// (Notary Project, signature specification, section "Extended attributes"). notation-go looks for them only where it
// ran a plugin, and then only at those with a string for a name.
func unprocessed(outcome *notation.VerificationOutcome, plugins *pluginWatch) (name string, found bool) {
	for _, attribute := range outcome.EnvelopeContent.SignerInfo.SignedAttributes.ExtendedAttributes {
		key, named := attribute.Key.(string)
		known := named && (plugins.verified || slices.Contains(verifier.VerificationPluginHeaders, key))
		if attribute.Critical && !known {
			return fmt.Sprint(attribute.Key), true
		}
	}
	return "", false
}

func satisfied(outcome *notation.VerificationOutcome, statement core.Statement) core.SignatureFact {
	signer := outcome.EnvelopeContent.SignerInfo
	fact := core.SignatureFact{
		Verified:   true,
		Signer:     signer.CertificateChain[0].Subject.String(),
		SignedAt:   signer.SignedAttributes.SigningTime.UTC(),
		ValidUntil: validUntil(outcome, statement),
	}
	for _, result := range outcome.VerificationResults {
		if result.Error != nil {
			fact.Logged = append(fact.Logged, fmt.Sprintf("%s: %s", result.Type, sentence(result.Error)))
		}
	}
	return fact
}

// validUntil is the first moment at which an enforced validation in time would fail or have to look at more: the
// signature's expiry and, where no verified timestamp vouches for an earlier time, the end of its certificates.
func validUntil(outcome *notation.VerificationOutcome, statement core.Statement) time.Time {
	enforced := func(kind trustpolicy.ValidationType) bool {
		return outcome.VerificationLevel.Enforcement[kind] == trustpolicy.ActionEnforce
	}
	signer := outcome.EnvelopeContent.SignerInfo
	var ends []time.Time
	if expiry := signer.SignedAttributes.Expiry; !expiry.IsZero() && enforced(trustpolicy.TypeExpiry) {
		ends = append(ends, expiry)
	}
	if !timestamped(signer, statement) && enforced(trustpolicy.TypeAuthenticTimestamp) {
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
// is not signed, and not looked at without a tsa store or before it is needed.
func timestamped(signer signature.SignerInfo, statement core.Statement) bool {
	if signer.SignedAttributes.SigningScheme == signature.SigningSchemeX509SigningAuthority {
		return true
	}
	if !slices.ContainsFunc(statement.TrustStores, func(s string) bool { return strings.HasPrefix(s, string(truststore.TypeTSA)+":") }) {
		return false
	}
	now := time.Now()
	expired := slices.ContainsFunc(signer.CertificateChain, func(c *x509.Certificate) bool { return now.After(c.NotAfter) })
	return expired || statement.VerifyTimestamp != string(trustpolicy.OptionAfterCertExpiry)
}

// rejection is a verification that did not succeed, with what its parts saw on the way: notation-go gives the
// text of their errors but not always the errors.
type rejection struct {
	outcome *notation.VerificationOutcome
	err     error
	stores  *stores
	plugins *pluginWatch
}

// finding finds the code of a rejection.
func (r *rejection) finding(ctx context.Context) *core.Finding {
	if r.plugins.failure != nil {
		return r.plugins.finding(ctx, r.outcome)
	}
	if ctx.Err() != nil {
		return &core.Finding{Code: core.Timeout, Reason: "time ran out while it was verified"}
	}
	reason := sentence(r.err)
	if result := r.enforced(); result != nil {
		return &core.Finding{Code: r.codeOf(result), Reason: reason}
	}
	switch {
	case strings.Contains(reason, "content descriptor mismatch"):
		return &core.Finding{Code: core.SignatureMismatch, Reason: "it was made for another image"}
	case r.plugins.verified:
		return &core.Finding{Code: core.PluginFailed, Reason: reason}
	case r.plugins.metadata != nil && len(r.outcome.VerificationResults) == 1: // only integrity was looked at
		return &core.Finding{Code: core.PluginIncapable, Reason: r.plugins.incapable(reason)}
	}
	return &core.Finding{Code: core.SignatureInvalid, Reason: reason}
}

// enforced gives the validation that failed and that the level enforces.
func (r *rejection) enforced() *notation.ValidationResult {
	if r.outcome == nil {
		return nil
	}
	i := slices.IndexFunc(r.outcome.VerificationResults, func(result *notation.ValidationResult) bool {
		return result.Error != nil && result.Action == trustpolicy.ActionEnforce
	})
	if i < 0 {
		return nil
	}
	return r.outcome.VerificationResults[i]
}

// logged tells whether a validation failed with a code that the level does not enforce.
func (r *rejection) logged(code core.Code) bool {
	return slices.ContainsFunc(r.outcome.VerificationResults, func(result *notation.ValidationResult) bool {
		return result.Error != nil && r.codeOf(result) == code
	})
}

func (r *rejection) codeOf(result *notation.ValidationResult) core.Code {
	switch result.Type {
	case trustpolicy.TypeAuthenticity:
		return r.codeOfAuthenticity()
	case trustpolicy.TypeExpiry:
		return core.SignatureExpired
	case trustpolicy.TypeAuthenticTimestamp:
		return r.codeOfTimestamp(result.Error)
	case trustpolicy.TypeRevocation:
		if strings.HasSuffix(result.Error.Error(), "is revoked") || r.plugins.verified {
			return core.CertificateRevoked
		}
		return core.RevocationUnknown
	}
	return core.SignatureInvalid
}

func (r *rejection) codeOfAuthenticity() core.Code {
	switch {
	case r.stores.missing:
		return core.TrustStoreUnavailable
	case r.plugins.verified:
		return core.PluginRefused
	}
	return core.SignatureUntrusted
}

// codeOfTimestamp tells a certificate that is not valid now from a timestamp that is not good.
func (r *rejection) codeOfTimestamp(err error) core.Code {
	signer := r.outcome.EnvelopeContent.SignerInfo
	switch {
	case r.stores.missing:
		return core.TrustStoreUnavailable
	case strings.HasSuffix(err.Error(), "revocation status is unknown"):
		return core.RevocationUnknown
	}
	now := time.Now()
	for _, certificate := range signer.CertificateChain {
		if now.After(certificate.NotAfter) || now.Before(certificate.NotBefore) {
			return core.CertificateExpired
		}
	}
	return core.TimestampInvalid
}

// sentence is an error's text on one line, cut where a stranger's words make it long.
func sentence(err error) string {
	return strings.Join(strings.Fields(core.Clip(err.Error(), core.MaxWords)), " ")
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

// pluginWatch is the plugin.Manager of one verification. It keeps what the plugin did.
type pluginWatch struct {
	next     manager
	name     string                               // of the plugin that was asked for; "" for none
	failure  error                                // of finding or running the plugin
	metadata *pluginframework.GetMetadataResponse // nil before the plugin told it
	verified bool                                 // the plugin answered verify-signature
}

// manager is the part of notation-go's plugin.Manager that a verification needs.
type manager interface {
	Get(ctx context.Context, name string) (pluginframework.Plugin, error)
	List(ctx context.Context) ([]string, error)
}

// List names the installed plugins.
func (w *pluginWatch) List(ctx context.Context) ([]string, error) { return w.next.List(ctx) }

// Get finds a plugin and watches it.
func (w *pluginWatch) Get(ctx context.Context, name string) (pluginframework.Plugin, error) {
	w.name = name
	found, err := w.next.Get(ctx, name)
	if err != nil {
		w.failure = err
		return nil, err
	}
	return &watchedPlugin{Plugin: found, watch: w}, nil
}

type watchedPlugin struct {
	pluginframework.Plugin
	watch *pluginWatch
}

// GetMetadata keeps what the plugin told of itself.
func (p *watchedPlugin) GetMetadata(ctx context.Context, request *pluginframework.GetMetadataRequest) (*pluginframework.GetMetadataResponse, error) {
	metadata, err := p.Plugin.GetMetadata(ctx, request)
	p.watch.metadata, p.watch.failure = metadata, err
	return metadata, err
}

// VerifySignature keeps that the plugin answered, or why it did not.
func (p *watchedPlugin) VerifySignature(ctx context.Context, request *pluginframework.VerifySignatureRequest) (*pluginframework.VerifySignatureResponse, error) {
	response, err := p.Plugin.VerifySignature(ctx, request)
	p.watch.verified, p.watch.failure = err == nil, err
	return response, err
}

// x5u is where the signing platform serves the certificate; venafi-csp cannot verify a signature without it.
const x5u = "com.venafi.notation.plugin.x5u"

// finding explains a plugin that could not be found or run.
func (w *pluginWatch) finding(ctx context.Context, outcome *notation.VerificationOutcome) *core.Finding {
	finding := findingOf(ctx, w.failure)
	var failure *plugin.Error // that the plugin could not be run says nothing of the signature
	refused := errors.As(w.failure, &failure) && failure.Refusal()
	if w.name == "venafi-csp" && refused && finding.Code == core.PluginFailed && attributeOf(outcome, x5u) == "" {
		return &core.Finding{Code: core.PluginRefused, Reason: finding.Reason}
	}
	return finding
}

// incapable adds what is known of the plugin to notation-go's sentence.
func (w *pluginWatch) incapable(reason string) string {
	text := fmt.Sprintf("the installed plugin %q is version %s: %s", w.name, w.metadata.Version, reason)
	if w.name == "venafi-csp" {
		text += "; install venafi-csp 0.3.0 to 0.3.2, since 0.3.3 does not verify signatures any more"
	}
	return text
}
