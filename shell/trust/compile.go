package trust

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"

	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// Problem says what is wrong with a resource.
type Problem struct {
	Kind   string // TrustPolicy or TrustStore
	Name   string // the resource's own name, for a file with its path
	Reason string
	Usable bool // the rest of the resource is used
}

// Log writes one line about the problem.
func (p Problem) Log(log *slog.Logger) {
	if p.Usable {
		log.Warn("trust resource is used but for a part of it", "kind", p.Kind, "resource", p.Name, "reason", p.Reason)
		return
	}
	log.Error("trust resource cannot be used", "kind", p.Kind, "resource", p.Name, "reason", p.Reason)
}

// Compile builds a snapshot. A resource that cannot be used stays in it under its name with its Problem, so that requests
// that name it get that error. A name that several resources claim is unusable. The problems are also returned for the log,
// with those of resources of which only a part is used.
func Compile(policies []PolicyResource, stores []StoreResource) (trust.Snapshot, []Problem) {
	snapshot := trust.Snapshot{
		Policies: make(map[string]trust.Policy, len(policies)),
		Stores:   make(map[trust.StoreRef]trust.Store, len(stores)),
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
		if len(store.Unused) > 0 {
			problems = append(problems, Problem{Kind: "TrustStore", Name: claimants[0].Name, Reason: unused(store), Usable: true})
		}
	}
	delete(snapshot.Policies, "") // no request can name it
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

func (r StoreResource) ref() trust.StoreRef {
	return trust.StoreRef{Type: r.Spec.Type, Name: r.Spec.TrustStoreName}
}

func compilePolicy(name string, claimants []PolicyResource) trust.Policy {
	policy := trust.Policy{Name: name}
	switch err := claimants[0].validate(); {
	case len(claimants) > 1:
		policy.Problem = claimed("TrustPolicy", name, policyNames(claimants))
	case err != nil:
		policy.Problem = err.Error()
	default:
		policy.Statements = lo.Map(claimants[0].Spec.TrustPolicies, func(s PolicyStatement, _ int) trust.Statement { return s.statement() })
	}
	return policy
}

func claimed(kind, name string, resources []string) string {
	slices.Sort(resources)
	return fmt.Sprintf("the %s resources %s all claim the name %q; rename all but one", kind, strings.Join(resources, ", "), name)
}

func (s PolicyStatement) statement() trust.Statement {
	return trust.Statement{
		Name: s.Name, RegistryScopes: s.RegistryScopes,
		Level: s.SignatureVerification.Level, Override: s.SignatureVerification.Override,
		VerifyTimestamp: s.SignatureVerification.VerifyTimestamp,
		TrustStores:     s.TrustStores, TrustedIdentities: s.TrustedIdentities,
		Platforms: s.Platforms, SignatureRepository: s.SignatureRepository,
	}
}

// Document gives statements as the trust policy document that notation-go verifies with.
func Document(statements ...trust.Statement) *trustpolicy.Document {
	return &trustpolicy.Document{Version: "1.0", TrustPolicies: lo.Map(statements, func(s trust.Statement, _ int) trustpolicy.TrustPolicy {
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

// validate applies the rules of the Notary Project's trust policy specification. Scopes are checked by the core, which
// knows how images are named, and not by notation-go, which compiles a regular expression for each scope.
func (r PolicyResource) validate() error {
	if r.Unreadable != "" {
		return errors.New(r.Unreadable)
	}
	if r.Spec.TrustPolicyName == "" {
		return errors.New("spec.trustPolicyName is empty")
	}
	statements := lo.Map(r.Spec.TrustPolicies, func(s PolicyStatement, _ int) trust.Statement { return s.statement() })
	if _, err := (trust.Policy{Statements: statements}).ReadScopes(); err != nil {
		return err
	}
	document := Document(statements...)
	document.Version = r.Spec.Version
	for i := range document.TrustPolicies {
		document.TrustPolicies[i].RegistryScopes = []string{fmt.Sprintf("registry.example/%d", i)}
	}
	return document.Validate()
}

func compileStore(ref trust.StoreRef, claimants []StoreResource) trust.Store {
	store := trust.Store{Ref: ref}
	if len(claimants) > 1 {
		store.Problem = claimed("TrustStore", ref.String(), storeNames(claimants))
		return store
	}
	certificates, unused, err := claimants[0].certificates()
	if err != nil {
		store.Problem = err.Error()
		return store
	}
	store.Certificates, store.Unused = certificates, unused
	return store
}

// unused says which parts of a store are not used.
func unused(store trust.Store) string {
	return bounded("not used: " + strings.Join(store.Unused, "; "))
}

// storeName matches the names that the specification allows for a store.
var storeName = regexp.MustCompile(`^[a-zA-Z0-9_.-]+$`)

// certificates gives the certificates of the bundles, by the rules of the specification, section "Trust Store". Parts of the
// bundle that cannot be used are left out and reported as unused. It fails where one of the bundles has no certificate that can be used:
// a store of which a part is missing would deny what it is there to admit, and nobody would know why.
func (r StoreResource) certificates() (certificates []*x509.Certificate, unused []string, err error) {
	if r.Unreadable != "" {
		return nil, nil, errors.New(r.Unreadable)
	}
	if !storeName.MatchString(r.Spec.TrustStoreName) {
		return nil, nil, fmt.Errorf("spec.trustStoreName %q may hold only letters, digits, _, . and -", r.Spec.TrustStoreName)
	}
	kind := truststore.Type(r.Spec.Type)
	if !slices.Contains(truststore.Types, kind) {
		return nil, nil, fmt.Errorf("spec.type is %q; use ca, signingAuthority or tsa", r.Spec.Type)
	}
	if r.Spec.CABundleFrom == nil {
		return certificatesIn(r.Spec.CABundle, kind, "spec.caBundle")
	}
	text, err := r.bundle()
	if err != nil {
		return nil, nil, err
	}
	certificates, unused, err = certificatesIn(text, kind, "what spec.caBundleFrom names")
	if err != nil || r.Spec.CABundle == "" {
		return certificates, unused, err
	}
	own, ownUnused, err := certificatesIn(r.Spec.CABundle, kind, "spec.caBundle")
	if err != nil {
		return nil, nil, err
	}
	unused = lo.Map(unused, func(of string, _ int) string { return "of caBundleFrom, " + of })
	return lo.UniqBy(append(own, certificates...), func(c *x509.Certificate) string { return string(c.Raw) }), append(ownUnused, unused...), nil
}

// certificatesIn gives the certificates of a text that is called by a name in errors.
func certificatesIn(text string, kind truststore.Type, name string) (certificates []*x509.Certificate, unused []string, err error) {
	blocks, broken := pemBlocks(text)
	for i, block := range blocks {
		certificate, err := parseCertificate(kind, block)
		if err != nil {
			unused = append(unused, fmt.Sprintf("certificate %d: %v", i+1, err))
			continue
		}
		certificates = append(certificates, certificate)
	}
	if broken > 0 {
		unused = append(unused, fmt.Sprintf("%d that begin as PEM blocks and are none", broken))
	}
	switch {
	case len(certificates) > 0:
		return certificates, unused, nil
	case len(unused) > 0:
		return nil, nil, errors.New(bounded(name + " holds no certificate that can be used: " + strings.Join(unused, "; ")))
	}
	return nil, nil, errors.New(name + " is not PEM: it holds no certificate")
}

// pemBlocks gives the PEM blocks of a text, which may have other text between them (RFC 7468, section 2), and the number of
// broken blocks. It removes byte order marks, which editors leave at the start of files that were then concatenated.
func pemBlocks(text string) (blocks []*pem.Block, broken int) {
	text = strings.ReplaceAll(text, "\ufeff", "")
	block, rest := pem.Decode([]byte(text))
	for ; block != nil; block, rest = pem.Decode(rest) {
		blocks = append(blocks, block)
	}
	return blocks, strings.Count(text, "-----BEGIN ") - len(blocks)
}

// parseCertificate reads a certificate and checks that it is allowed in a store of the type.
func parseCertificate(kind truststore.Type, block *pem.Block) (*x509.Certificate, error) {
	if block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("is a %s; only certificates belong there", reason.Clip(block.Type, reason.MaxName))
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	if err := trust.CertificateBound(certificate); err != nil {
		return nil, err
	}
	if err := truststore.ValidateCertificates([]*x509.Certificate{certificate}); err != nil {
		return nil, err
	}
	if kind == truststore.TypeTSA && certificate.CheckSignatureFrom(certificate) != nil {
		return nil, fmt.Errorf("%q is not a root certificate, which a tsa store must hold", certificate.Subject)
	}
	return certificate, nil
}
