package verify

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	pluginframework "github.com/notaryproject/notation-plugin-framework-go/plugin"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin"
)

// manager is the part of the plugin manager that a verification needs.
type manager interface {
	Get(ctx context.Context, name string) (pluginframework.Plugin, error)
	List(ctx context.Context) ([]string, error)
	Platforms() ([]string, error)
}

// pluginWatch is the plugin.Manager of one verification. It lets a plugin see a signature only when the core allows it, and
// records what the plugin did.
type pluginWatch struct {
	next   manager
	task   verification.Task
	stores *stores

	name     string                               // of the plugin that the signature demands; "" for none
	failure  error                                // of finding or running the plugin
	metadata *pluginframework.GetMetadataResponse // nil until the plugin gave it
	verified bool                                 // the plugin answered verify-signature
	withheld *reason.Finding                      // why the plugin was not shown the signature; nil when it was, or was not needed
}

// report gives what was recorded.
func (w *pluginWatch) report(ctx context.Context) verification.PluginReport {
	report := verification.PluginReport{Name: w.name, Verified: w.verified, Withheld: w.withheld}
	if w.metadata != nil {
		report.Told, report.Version = true, w.metadata.Version
	}
	if w.failure != nil {
		finding := findingOf(ctx, w.failure)
		report.Failure = &finding
		var failure *plugin.Error // a plugin that could not be run says nothing about the signature
		report.Refused = errors.As(w.failure, &failure) && failure.Refusal()
	}
	return report
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

// GetMetadata records the plugin's metadata.
func (p *watchedPlugin) GetMetadata(ctx context.Context, request *pluginframework.GetMetadataRequest) (*pluginframework.GetMetadataResponse, error) {
	metadata, err := p.Plugin.GetMetadata(ctx, request)
	p.watch.metadata, p.watch.failure = metadata, err
	return metadata, err
}

// VerifySignature records whether the plugin answered, and why it failed or was not called.
func (p *watchedPlugin) VerifySignature(ctx context.Context, request *pluginframework.VerifySignatureRequest) (*pluginframework.VerifySignatureResponse, error) {
	if p.watch.withheld = p.watch.withhold(request); p.watch.withheld != nil {
		return declined(request, p.watch.withheld.Reason), nil
	}
	response, err := p.Plugin.VerifySignature(ctx, request)
	p.watch.verified, p.watch.failure = err == nil, err
	if err != nil {
		return nil, err
	}
	if result := response.VerificationResults[pluginframework.CapabilityTrustedIdentityVerifier]; result != nil && !result.Success {
		// venafi-csp 0.3.3 does not list the attribute as processed when it refuses because of it
		response.ProcessedAttributes = append(response.ProcessedAttributes, trust.AttributeX5U)
	}
	return response, nil
}

// withhold says why a plugin may not see a signature; nil when it may.
func (w *pluginWatch) withhold(request *pluginframework.VerifySignatureRequest) *reason.Finding {
	var chain []*x509.Certificate
	for _, der := range request.Signature.CertificateChain {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return &reason.Finding{Code: reason.SignatureUntrusted, Reason: fmt.Sprintf("%s; the plugin %q was not asked", err, w.name)}
		}
		chain = append(chain, certificate)
	}
	address, named := request.Signature.CriticalAttributes.ExtendedAttributes[trust.AttributeX5U]
	hosts, unread := w.next.Platforms()
	return w.task.WithholdPlugin(verification.PluginCall{
		Name: w.name, Scheme: w.stores.scheme, Chain: chain, X5U: address, HasX5U: named, Platforms: hosts, Unread: unread,
	})
}

// declined is a refusal in the form of the protocol, so that the level decides what follows from it. Attributes that only the
// plugin could have processed stay unprocessed.
func declined(request *pluginframework.VerifySignatureRequest, text string) *pluginframework.VerifySignatureResponse {
	response := &pluginframework.VerifySignatureResponse{
		VerificationResults: map[pluginframework.Capability]*pluginframework.VerificationResult{},
		ProcessedAttributes: []any{trust.AttributeX5U},
	}
	for _, capability := range request.TrustPolicy.SignatureVerification {
		response.VerificationResults[capability] = &pluginframework.VerificationResult{Reason: text}
	}
	return response
}
