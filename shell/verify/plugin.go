package verify

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/notaryproject/notation-go"
	pluginframework "github.com/notaryproject/notation-plugin-framework-go/plugin"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin"
)

// x5u is where the signing platform serves the signer's certificate. The venafi-csp plugin fetches it, and cannot
// verify a signature without it.
const x5u = "com.venafi.notation.plugin.x5u"

// manager is the part of the plugin manager that a verification needs.
type manager interface {
	Get(ctx context.Context, name string) (pluginframework.Plugin, error)
	List(ctx context.Context) ([]string, error)
	Platforms() ([]string, error)
}

// pluginWatch is the plugin.Manager of one verification. It lets a plugin see a signature only when the signer is
// authentic and the plugin will ask nobody but its own signing platform, and keeps what the plugin did.
type pluginWatch struct {
	next      manager
	authentic func(chain []*x509.Certificate) error

	name     string                               // of the plugin that was asked for; "" for none
	failure  error                                // of finding or running the plugin
	metadata *pluginframework.GetMetadataResponse // nil before the plugin told it
	verified bool                                 // the plugin answered verify-signature
	withheld *reason.Finding                      // why the plugin was not shown the signature; nil when it was, or was not needed
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

// VerifySignature keeps that the plugin answered, or why it did not or was not asked.
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
		// venafi-csp 0.3.3 does not say that it has processed an attribute with which it refuses
		response.ProcessedAttributes = append(response.ProcessedAttributes, x5u)
	}
	return response, nil
}

// withhold says why a plugin may not see a signature.
func (w *pluginWatch) withhold(request *pluginframework.VerifySignatureRequest) *reason.Finding {
	chain, err := parsed(request.Signature.CertificateChain)
	if err == nil {
		err = w.authentic(chain)
	}
	if err != nil {
		return &reason.Finding{Code: reason.SignatureUntrusted, Reason: fmt.Sprintf("%s; the plugin %q was not asked", err, w.name)}
	}
	value, named := request.Signature.CriticalAttributes.ExtendedAttributes[x5u]
	if !named {
		return nil // the plugin refuses by itself, and connects nowhere
	}
	hosts, unread := w.next.Platforms()
	code, remedy := reason.PluginRefused, "sign with the platform whose URL is tpp_url in the plugin's configuration, or name its host in --pluginX5UHosts"
	address, isText := value.(string)
	_, err = trust.PlatformHost(address)
	switch {
	case !isText:
		err = errors.New("it is no text")
	case err != nil: // nobody's platform is there
	default:
		if err = trust.PlatformAddress(address, hosts); err == nil {
			return nil
		}
		if unread != nil { // the operator's fault: the address may be good
			code, remedy = reason.PluginFailed, unread.Error()
		}
	}
	return &reason.Finding{Code: code, Reason: fmt.Sprintf(
		"the plugin %q was not asked, since the signature has it fetch %q (%s) and %s; %s", w.name, reason.Clip(fmt.Sprint(value), reason.MaxName), x5u, err, remedy)}
}

func parsed(chain [][]byte) ([]*x509.Certificate, error) {
	certificates := make([]*x509.Certificate, len(chain))
	for i, der := range chain {
		var err error
		if certificates[i], err = x509.ParseCertificate(der); err != nil {
			return nil, err
		}
	}
	return certificates, nil
}

// declined is a refusal in the protocol's words, so that it depends on the level what follows from it. Attributes that
// only the plugin could have understood stay unprocessed.
func declined(request *pluginframework.VerifySignatureRequest, reason string) *pluginframework.VerifySignatureResponse {
	response := &pluginframework.VerifySignatureResponse{
		VerificationResults: map[pluginframework.Capability]*pluginframework.VerificationResult{},
		ProcessedAttributes: []any{x5u},
	}
	for _, capability := range request.TrustPolicy.SignatureVerification {
		response.VerificationResults[capability] = &pluginframework.VerificationResult{Reason: reason}
	}
	return response
}

// finding explains a plugin that could not be found or run.
func (w *pluginWatch) finding(ctx context.Context, outcome *notation.VerificationOutcome) *reason.Finding {
	finding := findingOf(ctx, w.failure)
	var failure *plugin.Error // that the plugin could not be run says nothing of the signature
	refused := errors.As(w.failure, &failure) && failure.Refusal()
	if w.name == "venafi-csp" && refused && finding.Code == reason.PluginFailed && attributeOf(outcome, x5u) == "" {
		return &reason.Finding{Code: reason.PluginRefused, Reason: finding.Reason}
	}
	return finding
}

// incapable adds what is known of the plugin to notation-go's sentence.
func (w *pluginWatch) incapable(reason string) string {
	text := fmt.Sprintf("the installed plugin %q is version %s: %s", w.name, w.metadata.Version, reason)
	if w.name == "venafi-csp" {
		text += "; install venafi-csp 0.3.3, or name a version that verifies without saying so in --pluginVerifies"
	}
	return text
}
