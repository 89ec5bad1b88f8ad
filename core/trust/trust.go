package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Snapshot holds all trust policies and stores of one moment. It is immutable, so any number of requests may read it; a
// change of trust makes a new one.
type Snapshot struct {
	Policies map[string]Policy  // by name
	Stores   map[StoreRef]Store // by type and name
}

// Policy is a Notation trust policy document under a name (Notary Project, trust store and trust policy
// specification v1.0).
type Policy struct {
	Name       string
	Statements []Statement
	Problem    string // why the policy cannot be used; "" when it can

	revisions []string       // of the statements, set by [Snapshot.Sealed]; where nil, every request works them out
	scopes    map[string]int // the result of ReadScopes, set by [Snapshot.Sealed]; where nil, every request works it out
}

// Statement is a trust policy statement.
type Statement struct {
	Name              string            `json:"name"`
	RegistryScopes    []string          `json:"registryScopes"`
	Level             string            `json:"level"`
	Override          map[string]string `json:"override"`
	VerifyTimestamp   string            `json:"verifyTimestamp"`
	TrustStores       []string          `json:"trustStores"` // as written: "ca:acme"
	TrustedIdentities []string          `json:"trustedIdentities"`

	// Platforms says which manifests of an index must be signed beside it, as [image.ReadPlatforms] reads it; empty for none.
	Platforms []string `json:"platforms,omitempty"`

	// SignatureRepository is where signatures and attestations are looked for, as [image.Reference.Name] writes it; "" for the image's
	// own repository.
	SignatureRepository string `json:"signatureRepository,omitempty"`
}

// StoreRef names a trust store as a statement does.
type StoreRef struct {
	Type string // ca, signingAuthority or tsa
	Name string
}

// String is the form used in a statement, "ca:acme".
func (r StoreRef) String() string { return r.Type + ":" + r.Name }

// Store is a named set of trusted certificates.
type Store struct {
	Ref          StoreRef
	Certificates []*x509.Certificate
	Problem      string   // why the store cannot be used; "" when it can
	Unused       []string // the parts of the store that are not used, and why; empty when all are
}

// LevelSkip is the verification level that admits images without looking at signatures.
const LevelSkip = "skip"

// NamesTSA tells whether the statement names a store of timestamping authorities, without which no timestamp is verified.
func (s Statement) NamesTSA() bool {
	return slices.ContainsFunc(s.TrustStores, func(name string) bool { return strings.HasPrefix(name, StoreTSA+":") })
}

// StatementFor gives the index of the statement that covers a repository; -1 where none does. A statement that names the
// repository takes precedence over the one with the wildcard (specification, section "Selecting a trust policy based on
// artifact URI").
func (p Policy) StatementFor(ref image.Reference) int {
	for _, scope := range []string{ref.Name(), "*"} {
		if i, ok := p.scopes[scope]; ok {
			return i
		}
	}
	return -1
}

// ReadScopes maps each canonical registry scope to the index of its statement. It fails where a scope can match no image, and
// where two statements name one repository.
func (p Policy) ReadScopes() (map[string]int, error) {
	scopes, written := map[string]int{}, map[string]string{}
	for i, statement := range p.Statements {
		switch n := len(statement.RegistryScopes); {
		case n == 0:
			return nil, fmt.Errorf(`statement %q has no registryScopes; list repositories, or "*" for all others`, statement.Name)
		case n > 1 && slices.Contains(statement.RegistryScopes, "*"):
			return nil, fmt.Errorf(`statement %q has the scope "*" beside others; it stands alone`, statement.Name)
		}
		if err := statement.checkPlaces(); err != nil {
			return nil, fmt.Errorf("statement %q: %w", statement.Name, err)
		}
		for j, scope := range statement.RegistryScopes {
			name, err := CanonicalScope(scope)
			if err != nil {
				return nil, fmt.Errorf("registryScopes[%d] of statement %q: %w", j, statement.Name, err)
			}
			if other, ok := scopes[name]; ok {
				return nil, fmt.Errorf("registryScopes[%d] of statement %q: %q is %s, which statement %q has as %q; one repository belongs to one statement, once",
					j, statement.Name, scope, name, p.Statements[other].Name, written[name])
			}
			scopes[name], written[name] = i, scope
		}
	}
	return scopes, nil
}

// checkPlaces checks where a statement has signatures looked for: at which manifests, and in which repository.
func (s Statement) checkPlaces() error {
	platforms, err := image.ReadPlatforms(s.Platforms)
	switch {
	case err != nil:
		return fmt.Errorf("platforms %w", err)
	case s.Level == LevelSkip && (!platforms.None() || s.SignatureRepository != ""):
		return errors.New("the level skip looks for no signatures, so it has neither platforms nor signatureRepository")
	case s.SignatureRepository == "":
		return nil
	}
	name, err := CanonicalScope(s.SignatureRepository)
	switch {
	case name == "*":
		return errors.New("signatureRepository is *; name one repository")
	case err != nil:
		return fmt.Errorf("signatureRepository: %w", err)
	case name != s.SignatureRepository:
		return fmt.Errorf("signatureRepository is %q; write %q", reason.Clip(s.SignatureRepository, reason.MaxName), name)
	}
	return nil
}

// Chosen gives the platforms of the statement, which were checked when its policy was read.
func (s Statement) Chosen() image.Platforms {
	chosen, _ := image.ReadPlatforms(s.Platforms)
	return chosen
}

// CanonicalScope gives a registry scope in the form of [image.Reference.Name]. It fails where no image has such a name.
func CanonicalScope(scope string) (string, error) {
	if scope == "*" {
		return scope, nil
	}
	first, repository, found := strings.Cut(scope, "/")
	switch {
	case strings.Contains(scope, "*"):
		return "", fmt.Errorf(`%q has a wildcard; a scope is a whole repository, or "*" for all`, reason.Clip(scope, reason.MaxName))
	case !found || !image.NamesRegistry(strings.ToLower(first)):
		return "", fmt.Errorf("%q matches no image, since it does not begin with a registry; write it in full, such as docker.io/library/nginx", reason.Clip(scope, reason.MaxName))
	case strings.ContainsAny(repository, ":@"):
		return "", fmt.Errorf("%q matches no image, since a scope is a repository; leave out its tag or digest", reason.Clip(scope, reason.MaxName))
	}
	ref, err := image.Parse(scope)
	if err != nil {
		return "", fmt.Errorf("matches no image: %w", err)
	}
	return ref.Name(), nil
}

// Usable gives a trust policy with its scopes. The finding says why no image can be verified under it; nil when one can.
func (s Snapshot) Usable(name string) (Policy, *reason.Finding) {
	policy, ok := s.Policies[name]
	if !ok {
		return policy, &reason.Finding{Code: reason.TrustPolicyNotFound, Reason: fmt.Sprintf("trust policy %q does not exist; known are: %s", name, s.PolicyNames())}
	}
	if policy.Problem == "" && policy.scopes == nil {
		scopes, err := policy.ReadScopes()
		if err != nil {
			policy.Problem = err.Error()
		}
		policy.scopes = scopes
	}
	if policy.Problem != "" {
		return policy, &reason.Finding{Code: reason.TrustPolicyInvalid, Reason: fmt.Sprintf("trust policy %q cannot be used: %s", name, policy.Problem)}
	}
	return policy, nil
}

// PolicyNames lists the names of the trust policies for an error message, at most 20.
func (s Snapshot) PolicyNames() string {
	const most = 20
	known := slices.Sorted(maps.Keys(s.Policies))
	if len(known) == 0 {
		return "none"
	}
	if len(known) > most {
		return strings.Join(known[:most], ", ") + fmt.Sprintf(" and %d more", len(known)-most)
	}
	return strings.Join(known, ", ")
}

// Sealed works out revisions and scopes once for all requests. The snapshot must not be changed afterwards.
func (s Snapshot) Sealed() Snapshot {
	for name, policy := range s.Policies {
		policy.revisions = make([]string, len(policy.Statements))
		for i, statement := range policy.Statements {
			policy.revisions[i] = s.hash(policy, statement)
		}
		if scopes, err := policy.ReadScopes(); err == nil {
			policy.scopes = scopes
		} else if policy.Problem == "" {
			policy.Problem = err.Error()
		}
		s.Policies[name] = policy
	}
	return s
}

// Revision is a hash of all that a verification under a policy's statement depends on: two verifications with the same
// revision were made under the same trust.
func (s Snapshot) Revision(policy Policy, statement int) string {
	if policy.revisions != nil {
		return policy.revisions[statement]
	}
	return s.hash(policy, policy.Statements[statement])
}

func (s Snapshot) hash(policy Policy, statement Statement) string {
	hash := sha256.New()
	text, _ := json.Marshal(statement) // strings, slices and maps of strings always encode
	fmt.Fprintf(hash, "%q\n%s\n", policy.Name, text)
	for _, name := range statement.TrustStores {
		kind, store, _ := strings.Cut(name, ":")
		have := s.Stores[StoreRef{Type: kind, Name: store}]
		fmt.Fprintf(hash, "%q %q %d\n", name, have.Problem, len(have.Certificates))
		for _, certificate := range have.Certificates {
			sum := sha256.Sum256(certificate.Raw)
			hash.Write(sum[:])
		}
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// NotAfter is when the first certificate of the store expires; zero for a store without certificates.
func (s Store) NotAfter() time.Time {
	if len(s.Certificates) == 0 {
		return time.Time{}
	}
	first := slices.MinFunc(s.Certificates, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	return first.NotAfter
}
