package notation

import (
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// resource is a TrustPolicy or TrustStore.
type resource struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   metadata `json:"metadata"`
	Spec       any      `json:"spec"`
}

type metadata struct {
	Name string `json:"name"`
}

type policySpec struct {
	Version         string            `json:"version"`
	TrustPolicyName string            `json:"trustPolicyName"`
	TrustPolicies   []policyStatement `json:"trustPolicies"`
}

type policyStatement struct {
	Name                  string                `json:"name"`
	RegistryScopes        []string              `json:"registryScopes"`
	SignatureVerification signatureVerification `json:"signatureVerification"`
	TrustStores           []string              `json:"trustStores,omitempty"`
	TrustedIdentities     []string              `json:"trustedIdentities,omitempty"`
}

type signatureVerification struct {
	Level           string            `json:"level"`
	Override        map[string]string `json:"override,omitempty"`
	VerifyTimestamp string            `json:"verifyTimestamp,omitempty"`
}

type storeSpec struct {
	TrustStoreName string `json:"trustStoreName"`
	Type           string `json:"type"`
	CABundle       string `json:"caBundle"`
}

// resourceName matches a name that Kubernetes takes.
var resourceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// Manifests gives the resources as YAML, the trust policy under a name, trust stores first.
func (c Config) Manifests(name string) (string, error) {
	if !resourceName.MatchString(name) || len(name) > 253 {
		return "", fmt.Errorf("the trust policy cannot be called %q: use lower case letters, digits, hyphens and dots", name)
	}
	var documents []string
	add := func(kind, name string, spec any) error {
		text, err := yaml.Marshal(resource{"notation.nirmata.io/v1alpha1", kind, metadata{name}, spec})
		documents = append(documents, string(text))
		return err
	}
	for _, store := range c.Stores {
		if err := add("TrustStore", nameOf(store.Ref), storeSpec{store.Ref.Name, store.Ref.Type, bundle(store)}); err != nil {
			return "", err
		}
	}
	spec := policySpec{Version: "1.0", TrustPolicyName: name, TrustPolicies: written(c.Policy.Statements)}
	if err := add("TrustPolicy", name, spec); err != nil {
		return "", err
	}
	return strings.Join(documents, "---\n"), nil
}

func written(statements []trust.Statement) []policyStatement {
	all := make([]policyStatement, len(statements))
	for i, s := range statements {
		all[i] = policyStatement{s.Name, s.RegistryScopes, signatureVerification{s.Level, s.Override, s.VerifyTimestamp}, s.TrustStores, s.TrustedIdentities}
	}
	return all
}

// nameOf names the resource of a trust store. Names of stores differ in letters that names of resources cannot have; then a hash tells
// them apart.
func nameOf(ref trust.StoreRef) string {
	plain := strings.ToLower(ref.Type) + "-" + ref.Name
	if resourceName.MatchString(plain) && len(plain) <= 253 {
		return plain
	}
	kept := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(plain))
	sum := sha256.Sum256([]byte(ref.String()))
	return fmt.Sprintf("%s-%x", strings.TrimRight(kept[:min(len(kept), 200)], "-"), sum[:4])
}

// bundle gives the certificates of a store as PEM, one after the other.
func bundle(store trust.Store) string {
	var text strings.Builder
	for _, certificate := range store.Certificates {
		text.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
	}
	return text.String()
}
