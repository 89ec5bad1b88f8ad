// Package trust turns the trust resources of notation.nirmata.io/v1alpha1, TrustPolicy and TrustStore, into
// immutable snapshots for the core. The resources come from a directory ([Files]) or from a Kubernetes API server, and
// both go through [Compile]. [Assess] works out the status that the certificate manager writes to them, and [Warnings] which
// certificates are about to expire.
package trust

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// GroupVersion of the resources.
const GroupVersion = "notation.nirmata.io/v1alpha1"

// PolicyResource is a TrustPolicy: a Notation trust policy document under a name.
type PolicyResource struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              PolicySpec `json:"spec"`
	Status            Status     `json:"status,omitempty"`

	Unreadable string `json:"-"` // why the resource could not be decoded strictly; "" when it could
	Object     string `json:"-"` // metadata.name, where Name says in which file it stands too; else ""
}

// PolicySpec follows the Notary Project's trust policy document, version 1.0.
type PolicySpec struct {
	Version         string            `json:"version"`
	TrustPolicyName string            `json:"trustPolicyName"`
	TrustPolicies   []PolicyStatement `json:"trustPolicies"`
	AppliesTo       json.RawMessage   `json:"appliesTo,omitempty"` // as it is written; nil for none. See [Resources.AppliesTo]
}

// PolicyStatement is a trust policy statement as it is written.
type PolicyStatement struct {
	Name                  string                `json:"name"`
	RegistryScopes        []string              `json:"registryScopes"`
	SignatureVerification SignatureVerification `json:"signatureVerification"`
	TrustStores           []string              `json:"trustStores,omitempty"`
	TrustedIdentities     []string              `json:"trustedIdentities,omitempty"`
	Platforms             []string              `json:"platforms,omitempty"`           // whose manifests must be signed beside their index; empty for none
	SignatureRepository   string                `json:"signatureRepository,omitempty"` // "" for the image's own
}

// SignatureVerification is a statement's level, its overrides, and when timestamps are verified.
type SignatureVerification struct {
	Level           string            `json:"level"`
	Override        map[string]string `json:"override,omitempty"`
	VerifyTimestamp string            `json:"verifyTimestamp,omitempty"`
}

// StoreResource is a TrustStore: certificates under a type and a name.
type StoreResource struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              StoreSpec `json:"spec"`
	Status            Status    `json:"status,omitempty"`

	Unreadable string `json:"-"` // why the resource could not be decoded strictly; "" when it could
	Object     string `json:"-"` // metadata.name, where Name says in which file it stands too; else ""
	Bundle     Bundle `json:"-"` // what caBundleFrom names, as it was read last; zero where it was not read, or names nothing
}

// StoreSpec holds the certificates, PEM, one after the other: those of CABundle and those that CABundleFrom names, together.
type StoreSpec struct {
	TrustStoreName string        `json:"trustStoreName"`
	Type           string        `json:"type"`
	CABundle       string        `json:"caBundle,omitempty"`
	CABundleFrom   *BundleSource `json:"caBundleFrom,omitempty"` // nil for none
}

// BundleSource names the key of a ConfigMap or of a Secret; one of the two.
type BundleSource struct {
	ConfigMap *ObjectKey `json:"configMap,omitempty"`
	Secret    *ObjectKey `json:"secret,omitempty"`
}

// ObjectKey is a key in the data of an object.
type ObjectKey struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Key       string `json:"key"`
}

// Status is the status that the certificate manager writes to a resource.
type Status struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
	NotAfter           *metav1.Time       `json:"notAfter,omitempty"`
}
