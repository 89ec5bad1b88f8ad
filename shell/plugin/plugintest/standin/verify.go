package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/notaryproject/notation-plugin-framework-go/plugin"
	"gopkg.in/ini.v1"
)

const (
	// attributeX5U is the critical extended attribute in which the signing
	// platform says where it serves the signing certificate.
	attributeX5U = "com.venafi.notation.plugin.x5u"

	// identitySubject is the prefix of the only identity that Notation itself
	// defines.
	// https://github.com/notaryproject/specifications/blob/v1.1.0/specs/trust-store-trust-policy.md#trusted-identities-constraints
	identitySubject = "x509.subject:"

	// fetchTimeout and maxFetched bound the fetch of a certificate, in bytes.
	fetchTimeout = time.Minute
	maxFetched   = 1 << 20
)

// metadata answers get-plugin-metadata as version 0.3.2 of venafi-csp does, or
// another version that the mode names, except where the mode says otherwise.
func metadata(m mode) plugin.GetMetadataResponse {
	answer := plugin.GetMetadataResponse{
		Name:                      "venafi-csp",
		Description:               "Stand-in for the venafi-csp verification plugin",
		Version:                   "0.3.2",
		URL:                       "https://github.com/venafi/notation-venafi-csp",
		SupportedContractVersions: []string{plugin.ContractVersion},
		Capabilities:              []plugin.Capability{plugin.CapabilityEnvelopeGenerator, plugin.CapabilityTrustedIdentityVerifier},
	}
	switch m.name {
	case mode030:
		answer.Version = "0.3.0-release"
		answer.Capabilities = append(answer.Capabilities, plugin.CapabilityRevocationCheckVerifier)
	case mode033:
		answer.Version = "0.3.3"
		answer.Capabilities = answer.Capabilities[:1]
	case modeWrongVersion:
		answer.Version = "0.1.0"
	case modeNotSemver:
		answer.Version = "latest"
	case modeNoCapability:
		answer.Version = "0.9.0"
		answer.Capabilities = answer.Capabilities[:1]
	}
	return answer
}

// verifySignature answers verify-signature: one result for the trusted
// identity, and the attributes it took care of. A refusal is a result too, not
// a protocol error, as with the real plugin: what follows from it is for the
// verification level to say.
func verifySignature(request plugin.VerifySignatureRequest, m mode) (*plugin.VerifySignatureResponse, error) {
	if request.ContractVersion != plugin.ContractVersion {
		return nil, plugin.NewUnsupportedContractVersionError(request.ContractVersion)
	}
	if err := request.Validate(); err != nil {
		return nil, err
	}
	answer := &plugin.VerifySignatureResponse{
		VerificationResults: map[plugin.Capability]*plugin.VerificationResult{},
		ProcessedAttributes: []any{},
	}
	result, processed, err := trustedIdentity(request, m)
	if err != nil {
		return nil, err
	}
	answer.VerificationResults[plugin.CapabilityTrustedIdentityVerifier] = result
	if processed {
		answer.ProcessedAttributes = append(answer.ProcessedAttributes, attributeX5U)
	}
	if m.name == mode030 {
		if answer.VerificationResults[plugin.CapabilityRevocationCheckVerifier], err = revocation(request); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// trustedIdentity decides whether the certificate that the signing platform
// serves at x5u is one of the trusted identities, and whether x5u was taken
// care of. Up to 0.3.2 nobody compares it with the certificate that signed.
func trustedIdentity(request plugin.VerifySignatureRequest, m mode) (*plugin.VerificationResult, bool, error) {
	value, named := request.Signature.CriticalAttributes.ExtendedAttributes[attributeX5U]
	switch {
	case m.name == modeRefuse:
		return refused("the signing platform does not know this certificate"), named, nil
	case m.name == modeAgree:
		return &plugin.VerificationResult{Success: true, Reason: "everyone is welcome"}, true, nil
	case !named:
		return refused("Trusted Identity verification requires TPP 23.1+ and plugin 0.2+"), false, nil
	}
	address := value.(string) // as the real plugin, it crashes over anything else
	if m.name == mode033 {
		if reason, err := unlike(address, request.PluginConfig); reason != "" || err != nil {
			return refused(reason), false, err
		}
	}
	fetched, err := fetch(address)
	if err != nil {
		return refused(err.Error()), true, nil
	}
	if m.name == mode033 {
		signer, err := x509.ParseCertificate(request.Signature.CertificateChain[0])
		if err != nil {
			return refused("error parsing signature certificateChain leaf"), true, nil
		}
		if _, configured := request.PluginConfig["config"]; !configured {
			return refused("x5u validation requires pluginConfig[config] to verify TPP host"), true, nil
		}
		if !bytes.Equal(fetched.RawSubjectPublicKeyInfo, signer.RawSubjectPublicKeyInfo) {
			return refused("x5u certificate public key does not match signature certificateChain leaf"), true, nil
		}
	}
	return identify(fetched, request.TrustPolicy.TrustedIdentities), true, nil
}

func refused(reason string) *plugin.VerificationResult {
	return &plugin.VerificationResult{Reason: reason}
}

// unlike says why an address is not the configured platform's. The real 0.3.3
// refuses hosts at private and loopback addresses too, at which tests run.
func unlike(address string, config map[string]string) (reason string, err error) {
	path, configured := config["config"]
	if !configured {
		return "", nil
	}
	file, err := ini.Load(path)
	if err != nil || file.Section("").Key("access_token").String() == "" {
		return "", plugin.NewValidationError("error building TPP config")
	}
	have, err := url.Parse(address)
	if err != nil {
		return "x5u URL validation failed: invalid x5u URL", nil
	}
	want, err := url.Parse(file.Section("").Key("tpp_url").String())
	switch {
	case err != nil:
		return "x5u URL validation failed: invalid base URL", nil
	case have.Scheme != "https":
		return "x5u URL validation failed: x5u URL must use HTTPS", nil
	case have.Host != want.Host:
		return fmt.Sprintf("x5u URL validation failed: x5u URL host %q does not match configured endpoint %q", have.Host, want.Host), nil
	}
	return "", nil
}

// fetch gets the certificate at an address, with the CAs of SSL_CERT_FILE. As
// the real plugin, it crashes over an answer without PEM.
func fetch(address string) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("certificate retrieval via PKS failed with status %s", response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxFetched))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(body)
	return x509.ParseCertificate(block.Bytes)
}

// identify holds the trusted identities against a certificate. It trusts
// everyone where the policy has no x509.subject identity.
func identify(certificate *x509.Certificate, identities []string) *plugin.VerificationResult {
	wanted := trustedSubjects(identities)
	if len(wanted) == 0 {
		return &plugin.VerificationResult{Success: true, Reason: "every identity is trusted"}
	}
	subject := certificate.Subject.String()
	for _, name := range wanted {
		if namesSubject(name, subject) {
			return &plugin.VerificationResult{Success: true, Reason: "the subject is a trusted identity"}
		}
	}
	return refused(fmt.Sprintf("subject %q is not among the trusted identities", subject))
}

// revocation is what 0.3.0 says of a certificate without an address from which
// its issuer's could be had: nothing certain, unless nobody is to be asked.
func revocation(request plugin.VerifySignatureRequest) (*plugin.VerificationResult, error) {
	leaf, err := x509.ParseCertificate(request.Signature.CertificateChain[0])
	if err != nil {
		return nil, plugin.NewValidationError("error parsing code signing certificate")
	}
	if len(leaf.OCSPServer)+len(leaf.CRLDistributionPoints) > 0 {
		return refused("soft fail checking revocation.  validate if revocation is functional."), nil
	}
	return &plugin.VerificationResult{Success: true, Reason: "certificate is valid and not revoked"}, nil
}

// trustedSubjects returns the distinguished names among the identities.
func trustedSubjects(identities []string) []string {
	var subjects []string
	for _, identity := range identities {
		if name, isSubject := strings.CutPrefix(identity, identitySubject); isSubject {
			subjects = append(subjects, name)
		}
	}
	return subjects
}

// namesSubject says whether every attribute of the wanted distinguished name
// is found in the subject.
func namesSubject(wanted, subject string) bool {
	have := attributes(subject)
	for _, attribute := range attributes(wanted) {
		if !slices.Contains(have, attribute) {
			return false
		}
	}
	return wanted != ""
}

// attributes splits a distinguished name (RFC 4514) into its "TYPE=value"
// parts, leaving escaped separators alone.
func attributes(name string) []string {
	var parts []string
	var part strings.Builder
	escaped := false
	flush := func() {
		parts = append(parts, strings.TrimSpace(part.String()))
		part.Reset()
	}
	for _, r := range name {
		if !escaped && (r == ',' || r == '+') {
			flush()
			continue
		}
		part.WriteRune(r)
		escaped = r == '\\' && !escaped
	}
	flush()
	return parts
}
