package oracle

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"slices"
	"strings"
)

// Trust is all trust resources, as they were applied.
type Trust struct {
	Policies []Policy
	Stores   []Store
}

// Policy is a TrustPolicy.
type Policy struct {
	Name       string
	Version    string
	Statements []Statement
}

// Statement is one statement of a trust policy document.
type Statement struct {
	Name       string
	Scopes     []string
	Level      string
	Override   map[string]string
	Stores     []string
	Identities []string
}

// Store is a TrustStore.
type Store struct {
	Name, Type string
	Bundle     string // PEM
}

// policy finds the one policy of a name, and says whether it can be used, or why not.
func (t Trust) policy(name string) (Policy, Opinion, string) {
	var found []Policy
	for _, policy := range t.Policies {
		if policy.Name == name {
			found = append(found, policy)
		}
	}
	if len(found) != 1 {
		return Policy{}, No, "its trust policy is missing, or is there twice"
	}
	opinion, why := found[0].Valid()
	return found[0], opinion, why
}

// Valid applies the rules of the trust policy specification. A scope that is no repository's name may be refused, or may
// just match nothing.
func (p Policy) Valid() (Opinion, string) {
	if p.Version != "1.0" || len(p.Statements) == 0 {
		return No, "its trust policy has no version 1.0, or no statements"
	}
	opinion, names, scopes := Yes, map[string]bool{}, map[string]bool{}
	for _, statement := range p.Statements {
		if names[statement.Name] || !statement.valid() {
			return No, "a statement of its trust policy is wrong"
		}
		names[statement.Name] = true
		for _, scope := range statement.Scopes {
			if scopes[CanonicalName(scope)] {
				return No, "two statements of its trust policy have one scope"
			}
			scopes[CanonicalName(scope)] = true
			if !isRepository(scope) {
				opinion = Either
			}
		}
	}
	return opinion, ""
}

func isRepository(scope string) bool {
	ref, ok := ParseReference(scope)
	return scope == "*" || ok && ref.Tag == "latest" && ref.Digest == "" && strings.Contains(scope, "/") && !strings.HasSuffix(scope, ":latest")
}

func (s Statement) valid() bool {
	if s.Name == "" || len(s.Scopes) == 0 || slices.Contains(s.Scopes, "*") && len(s.Scopes) > 1 {
		return false
	}
	enforcement, known := levels[s.Level]
	if !known {
		return false
	}
	for check, action := range s.Override {
		_, overridable := enforcement[check]
		known := slices.Contains([]string{enforce, logged, skipped}, action)
		if s.Level == levelSkip || check == checkIntegrity || !overridable || !known || action == skipped && check != checkRevocation {
			return false
		}
	}
	if s.Level == levelSkip {
		return len(s.Stores) == 0 && len(s.Identities) == 0
	}
	return len(s.Stores) > 0 && s.identitiesValid()
}

func (s Statement) identitiesValid() bool {
	if len(s.Identities) == 0 || slices.Contains(s.Identities, "*") && len(s.Identities) > 1 {
		return false
	}
	var names []map[string]string
	for _, identity := range s.Identities {
		if identity == "*" {
			continue
		}
		kind, written, found := strings.Cut(identity, ":")
		if !found || kind == "x509.subject" && !distinguishedNameValid(written) {
			return false
		}
		if name, ok := parseName(written); ok && kind == "x509.subject" {
			names = append(names, name)
		}
	}
	return !overlapping(names)
}

// overlapping tells whether one of the names is part of another.
func overlapping(names []map[string]string) bool {
	for i, one := range names {
		for j, other := range names {
			within := !slices.ContainsFunc(slices.Collect(maps.Keys(one)), func(key string) bool { return one[key] != other[key] })
			if i != j && within {
				return true
			}
		}
	}
	return false
}

func distinguishedNameValid(name string) bool {
	attributes, ok := parseName(name)
	return ok && attributes["C"] != "" && attributes["ST"] != "" && attributes["O"] != ""
}

// parseName reads a distinguished name of plain attributes.
func parseName(name string) (map[string]string, bool) {
	attributes := map[string]string{}
	for part := range strings.SplitSeq(name, ",") {
		key, value, found := strings.Cut(strings.TrimSpace(part), "=")
		if key == "S" {
			key = "ST"
		}
		if _, twice := attributes[key]; !found || twice || value == "" {
			return nil, false
		}
		attributes[key] = value
	}
	return attributes, true
}

// The checks of a signature, and what a level does with one that fails.
const (
	checkIntegrity    = "integrity"
	checkAuthenticity = "authenticity"
	checkTime         = "authenticTimestamp"
	checkExpiry       = "expiry"
	checkRevocation   = "revocation"

	enforce, logged, skipped = "enforce", "log", "skip"
	levelSkip                = "skip"
)

// levels is the specification's table.
var levels = map[string]map[string]string{
	"strict":     {checkIntegrity: enforce, checkAuthenticity: enforce, checkTime: enforce, checkExpiry: enforce, checkRevocation: enforce},
	"permissive": {checkIntegrity: enforce, checkAuthenticity: enforce, checkTime: logged, checkExpiry: logged, checkRevocation: logged},
	"audit":      {checkIntegrity: enforce, checkAuthenticity: logged, checkTime: logged, checkExpiry: logged, checkRevocation: logged},
	levelSkip:    {},
}

// enforces tells whether a failed check counts.
func (s Statement) enforces(check string) bool {
	if action, ok := s.Override[check]; ok {
		return action == enforce
	}
	return levels[s.Level][check] == enforce
}

// statement selects the one for a repository: one that names it, or else the one for all.
func (p Policy) statement(name string) (Statement, bool) {
	for _, wanted := range []string{name, "*"} {
		for _, statement := range p.Statements {
			for _, scope := range statement.Scopes {
				if CanonicalName(scope) == wanted {
					return statement, true
				}
			}
		}
	}
	return Statement{}, false
}

// roots are the certificates that a statement trusts for a type of store. whole is false where a store that it names, of
// any type, is missing or broken.
func (t Trust) roots(s Statement, kind string) (certificates []*x509.Certificate, whole bool) {
	whole = true
	for _, named := range s.Stores {
		storeType, name, _ := strings.Cut(named, ":")
		found, ok := t.store(storeType, name)
		whole = whole && ok
		if storeType == kind {
			certificates = append(certificates, found...)
		}
	}
	return certificates, whole
}

// store reads the certificates of a store; two of one name are none.
func (t Trust) store(kind, name string) (certificates []*x509.Certificate, ok bool) {
	claims := 0
	for _, store := range t.Stores {
		if store.Type != kind || store.Name != name {
			continue
		}
		claims++
		certificates, ok = readBundle(store.Bundle)
	}
	if claims != 1 {
		return nil, false
	}
	return certificates, ok
}

// readBundle gives the certificates that can be read. ok tells that nothing else is there.
func readBundle(bundle string) (certificates []*x509.Certificate, ok bool) {
	rest, ok := []byte(bundle), true
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return certificates, ok && len(certificates) > 0 && len(bytes.TrimSpace(rest)) == 0
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != "CERTIFICATE" || !certificate.IsCA && certificate.CheckSignatureFrom(certificate) != nil {
			ok = false
			continue
		}
		certificates = append(certificates, certificate)
	}
}
