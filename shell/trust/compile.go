package trust

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core"
)

// Problem says what is wrong with a resource.
type Problem struct {
	Kind   string // TrustPolicy or TrustStore
	Name   string // the resource's own name, for a file with its path
	Reason string
}

// Compile builds a snapshot. A resource that cannot be used stays in it under its name with its Problem, so that
// its users are told; names that several resources claim are unusable for all of them. The problems are
// returned as well, for the log.
func Compile(policies []PolicyResource, stores []StoreResource) (core.Snapshot, []Problem) {
	snapshot := core.Snapshot{
		Policies: make(map[string]core.TrustPolicy, len(policies)),
		Stores:   make(map[core.StoreRef]core.TrustStore, len(stores)),
	}
	var problems []Problem
	for name, claimants := range lo.GroupBy(policies, func(r PolicyResource) string { return r.Spec.TrustPolicyName }) {
		policy := compilePolicy(name, claimants)
		snapshot.Policies[name] = policy
		problems = append(problems, problemOf("TrustPolicy", policy.Problem, policyNames(claimants))...)
	}
	for ref, claimants := range lo.GroupBy(stores, StoreResource.ref) {
		store := compileStore(ref, claimants)
		snapshot.Stores[ref] = store
		problems = append(problems, problemOf("TrustStore", store.Problem, storeNames(claimants))...)
	}
	delete(snapshot.Policies, "") // nobody can ask for it
	slices.SortFunc(problems, func(a, b Problem) int { return strings.Compare(a.Kind+a.Name, b.Kind+b.Name) })
	return snapshot.Sealed(), problems
}

func problemOf(kind, reason string, resources []string) []Problem {
	if reason == "" {
		return nil
	}
	return lo.Map(resources, func(name string, _ int) Problem { return Problem{Kind: kind, Name: name, Reason: reason} })
}

func policyNames(resources []PolicyResource) []string {
	return lo.Map(resources, func(r PolicyResource, _ int) string { return r.Name })
}

func storeNames(resources []StoreResource) []string {
	return lo.Map(resources, func(r StoreResource, _ int) string { return r.Name })
}

func (r StoreResource) ref() core.StoreRef {
	return core.StoreRef{Type: r.Spec.Type, Name: r.Spec.TrustStoreName}
}

func compilePolicy(name string, claimants []PolicyResource) core.TrustPolicy {
	policy := core.TrustPolicy{Name: name}
	switch err := claimants[0].validate(); {
	case len(claimants) > 1:
		policy.Problem = claimed("TrustPolicy", name, policyNames(claimants))
	case err != nil:
		policy.Problem = err.Error()
	default:
		policy.Statements = lo.Map(claimants[0].Spec.TrustPolicies, func(s PolicyStatement, _ int) core.Statement { return s.statement() })
	}
	return policy
}

func claimed(kind, name string, resources []string) string {
	slices.Sort(resources)
	return fmt.Sprintf("the %s resources %s all claim the name %q; rename all but one", kind, strings.Join(resources, ", "), name)
}

func (s PolicyStatement) statement() core.Statement {
	return core.Statement{
		Name: s.Name, RegistryScopes: s.RegistryScopes,
		Level: s.SignatureVerification.Level, Override: s.SignatureVerification.Override,
		VerifyTimestamp: s.SignatureVerification.VerifyTimestamp,
		TrustStores:     s.TrustStores, TrustedIdentities: s.TrustedIdentities,
	}
}

// Document writes statements as the document that notation-go verifies with.
func Document(statements ...core.Statement) *trustpolicy.Document {
	return &trustpolicy.Document{Version: "1.0", TrustPolicies: lo.Map(statements, func(s core.Statement, _ int) trustpolicy.TrustPolicy {
		return trustpolicy.TrustPolicy{
			Name: s.Name, RegistryScopes: s.RegistryScopes,
			SignatureVerification: trustpolicy.SignatureVerification{
				VerificationLevel: s.Level,
				VerifyTimestamp:   trustpolicy.TimestampOption(s.VerifyTimestamp),
				Override:          overrides(s.Override),
			},
			TrustStores: s.TrustStores, TrustedIdentities: s.TrustedIdentities,
		}
	})}
}

func overrides(written map[string]string) map[trustpolicy.ValidationType]trustpolicy.ValidationAction {
	return lo.MapEntries(written, func(k, v string) (trustpolicy.ValidationType, trustpolicy.ValidationAction) {
		return trustpolicy.ValidationType(k), trustpolicy.ValidationAction(v)
	})
}

// validate applies the rules of the Notary Project's trust policy specification.
func (r PolicyResource) validate() error {
	if r.Unreadable != "" {
		return errors.New(r.Unreadable)
	}
	if r.Spec.TrustPolicyName == "" {
		return errors.New("spec.trustPolicyName is empty")
	}
	statements := lo.Map(r.Spec.TrustPolicies, func(s PolicyStatement, _ int) core.Statement { return s.statement() })
	document := Document(statements...)
	document.Version = r.Spec.Version
	return document.Validate()
}

func compileStore(ref core.StoreRef, claimants []StoreResource) core.TrustStore {
	store := core.TrustStore{Ref: ref}
	if len(claimants) > 1 {
		store.Problem = claimed("TrustStore", ref.String(), storeNames(claimants))
		return store
	}
	certificates, err := claimants[0].certificates()
	if err != nil {
		store.Problem = err.Error()
		return store
	}
	store.Certificates = certificates
	return store
}

// storeName is what the specification allows in a named store.
var storeName = regexp.MustCompile(`^[a-zA-Z0-9_.-]+$`)

// certificates applies the rules of the specification, section "Trust Store", to the resource.
func (r StoreResource) certificates() ([]*x509.Certificate, error) {
	if r.Unreadable != "" {
		return nil, errors.New(r.Unreadable)
	}
	if !storeName.MatchString(r.Spec.TrustStoreName) {
		return nil, fmt.Errorf("spec.trustStoreName %q may hold only letters, digits, _, . and -", r.Spec.TrustStoreName)
	}
	if !slices.Contains(truststore.Types, truststore.Type(r.Spec.Type)) {
		return nil, fmt.Errorf("spec.type is %q; use ca, signingAuthority or tsa", r.Spec.Type)
	}
	certificates, err := parsePEM(r.Spec.CABundle)
	if err != nil {
		return nil, err
	}
	if err := truststore.ValidateCertificates(certificates); err != nil {
		return nil, fmt.Errorf("spec.caBundle: %w", err)
	}
	if truststore.Type(r.Spec.Type) == truststore.TypeTSA {
		return certificates, rootsOnly(certificates)
	}
	return certificates, nil
}

func parsePEM(text string) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	rest := []byte(text)
	for len(strings.TrimSpace(string(rest))) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, fmt.Errorf("spec.caBundle is not PEM after certificate %d", len(certificates))
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("spec.caBundle holds a %s; only certificates belong there", block.Type)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("spec.caBundle: certificate %d: %w", len(certificates)+1, err)
		}
		certificates = append(certificates, certificate)
	}
	if len(certificates) == 0 {
		return nil, errors.New("spec.caBundle holds no certificate")
	}
	return certificates, nil
}

// rootsOnly is the specification's rule for tsa stores.
func rootsOnly(certificates []*x509.Certificate) error {
	for _, certificate := range certificates {
		if certificate.CheckSignatureFrom(certificate) != nil {
			return fmt.Errorf("spec.caBundle: %q is not a root certificate, which a tsa store must hold", certificate.Subject)
		}
	}
	return nil
}
