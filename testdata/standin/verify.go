package main

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/notaryproject/notation-plugin-framework-go/plugin"
)

const (
	// attributeX5U is the critical extended attribute in which the signing
	// platform says where it serves the signing certificate.
	attributeX5U = "com.venafi.notation.plugin.x5u"

	// identitySubject is the prefix of the only identity that Notation itself
	// defines.
	// https://github.com/notaryproject/specifications/blob/v1.1.0/specs/trust-store-trust-policy.md#trusted-identities-constraints
	identitySubject = "x509.subject:"
)

// metadata answers get-plugin-metadata as version 0.3.0 of venafi-csp does,
// except where the mode says otherwise.
func metadata(m mode) plugin.GetMetadataResponse {
	answer := plugin.GetMetadataResponse{
		Name:                      "venafi-csp",
		Description:               "Stand-in for the venafi-csp verification plugin",
		Version:                   "0.3.0",
		URL:                       "https://github.com/venafi/notation-venafi-csp",
		SupportedContractVersions: []string{plugin.ContractVersion},
		Capabilities:              []plugin.Capability{plugin.CapabilityTrustedIdentityVerifier},
	}
	switch m.name {
	case modeWrongVersion:
		answer.Version = "0.1.0"
	case modeNotSemver:
		answer.Version = "latest"
	case modeNoCapability:
		answer.Version = "0.3.3"
		answer.Capabilities = []plugin.Capability{plugin.CapabilityEnvelopeGenerator}
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
	if hasX5U(request) {
		answer.ProcessedAttributes = append(answer.ProcessedAttributes, attributeX5U)
	}
	if slices.Contains(request.TrustPolicy.SignatureVerification, plugin.CapabilityTrustedIdentityVerifier) {
		result, err := trustedIdentity(request, m)
		if err != nil {
			return nil, err
		}
		answer.VerificationResults[plugin.CapabilityTrustedIdentityVerifier] = result
	}
	return answer, nil
}

func hasX5U(request plugin.VerifySignatureRequest) bool {
	_, found := request.Signature.CriticalAttributes.ExtendedAttributes[attributeX5U]
	return found
}

// trustedIdentity decides whether the leaf certificate is one of the trusted
// identities. The real plugin takes the certificate that the signing platform
// serves at x5u; the stand-in takes the one in the envelope. Both trust
// everyone where the policy has no x509.subject identity.
func trustedIdentity(request plugin.VerifySignatureRequest, m mode) (*plugin.VerificationResult, error) {
	if m.name == modeRefuse {
		return &plugin.VerificationResult{Reason: "the signing platform does not know this certificate"}, nil
	}
	if !hasX5U(request) {
		return &plugin.VerificationResult{Reason: "Trusted Identity verification requires TPP 23.1+ and plugin 0.2+"}, nil
	}
	leaf, err := x509.ParseCertificate(request.Signature.CertificateChain[0])
	if err != nil {
		return nil, plugin.NewValidationErrorf("the signing certificate cannot be parsed: %v", err)
	}
	wanted := trustedSubjects(request.TrustPolicy.TrustedIdentities)
	if len(wanted) == 0 {
		return &plugin.VerificationResult{Success: true, Reason: "every identity is trusted"}, nil
	}
	subject := leaf.Subject.String()
	for _, name := range wanted {
		if namesSubject(name, subject) {
			return &plugin.VerificationResult{Success: true, Reason: "the subject is a trusted identity"}, nil
		}
	}
	reason := fmt.Sprintf("subject %q is not among the trusted identities", subject)
	return &plugin.VerificationResult{Reason: reason}, nil
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
