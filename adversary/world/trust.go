package world

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nirmata/kyverno-notation-venafi/adversary/oracle"
)

// drawTrust draws trust policies and the stores that they name. What one team writes is its own affair, however wrong.
func (w *World) drawTrust() {
	for i := range 1 + w.random.IntN(2) {
		w.drawPolicy(fmt.Sprintf("%s-p%d", w.Name, i))
	}
	for _, ca := range []string{"acme", "globex", "former", "mallory"} {
		w.store("ca", ca, w.signers.Bundles[ca])
	}
	w.store("ca", "two", w.signers.Bundles["globex"]+w.signers.Bundles["line"])
	w.store("signingAuthority", "acme", w.signers.Bundles["acme"])
	w.store("ca", "empty", "")
	w.store("ca", "text", "no certificate\n")
	w.store("ca", "leaf", w.signers.Bundles["acme-release"])
	w.store("ca", "twin", w.signers.Bundles["acme"])
	w.store("ca", "twin", w.signers.Bundles["acme"])
}

func (w *World) store(kind, name, bundle string) {
	w.Case.Trust.Stores = append(w.Case.Trust.Stores, oracle.Store{Name: w.Name + "-" + name, Type: kind, Bundle: bundle})
}

func (w *World) drawPolicy(name string) {
	policy := oracle.Policy{Name: name, Version: "1.0", Statements: []oracle.Statement{w.drawStatement("all", []string{"*"})}}
	taken := map[string]bool{}
	for i := range w.random.IntN(3) {
		if scopes := w.drawScopes(taken); len(scopes) > 0 {
			policy.Statements = append(policy.Statements, w.drawStatement(fmt.Sprintf("s%d", i), scopes))
		}
	}
	if w.chance(15) && len(policy.Statements) > 1 {
		policy.Statements = policy.Statements[1:]
	}
	switch {
	case w.calm:
	case w.chance(3):
		policy.Version = pick(w, "", "2.0", "1.1")
	case w.chance(3) && len(policy.Statements) > 1:
		policy.Statements[1].Name = policy.Statements[0].Name
	case w.chance(3):
		w.Case.Trust.Policies = append(w.Case.Trust.Policies, policy) // two of one name
	}
	w.Case.Trust.Policies = append(w.Case.Trust.Policies, policy)
	for _, s := range policy.Statements {
		w.tell("trust policy %s: %s, scopes %q, stores %q, identities %q, override %v", name, s.Level, s.Scopes, s.Stores, s.Identities, s.Override)
	}
}

// drawScopes draws repositories that are not taken by another statement, but for some.
func (w *World) drawScopes(taken map[string]bool) []string {
	var scopes []string
	for range 1 + w.random.IntN(2) {
		name := pick(w, w.images...).repository
		if !taken[name] || w.chance(4) {
			scopes = append(scopes, w.spelledName(name))
		}
		taken[name] = true
	}
	if w.chance(5) {
		scopes = append(scopes, pick(w, "*", "reg.example/*", "https://reg.example/app", "reg.example/app:v1", " reg.example/app", "reg.example/"))
	}
	return scopes
}

func (w *World) drawStatement(name string, scopes []string) oracle.Statement {
	s := oracle.Statement{Name: name, Scopes: scopes, Level: pick(w, "strict", "strict", "strict", "strict", "permissive", "audit", "skip")}
	if s.Level == "skip" {
		return s
	}
	s.Stores = []string{"ca:" + w.Name + "-acme"}
	if w.chance(25) && !w.calm {
		store := pick(w, "ca:%s-globex", "ca:%s-former", "ca:%s-two", "ca:%s-empty", "ca:%s-text", "ca:%s-leaf", "ca:%s-twin", "ca:%s-absent", "signingAuthority:%s-acme")
		s.Stores = append(s.Stores[w.random.IntN(2):], fmt.Sprintf(store, w.Name))
	}
	s.Identities = w.drawIdentities()
	if w.chance(15) {
		check := pick(w, "authenticity", "authenticTimestamp", "expiry", "revocation", "integrity", "other")
		s.Override = map[string]string{check: pick(w, "log", "enforce", "log", "enforce", "skip", "other")}
	}
	if w.chance(3) {
		s.Level = pick(w, "", "Strict", "lax")
	}
	return s
}

func (w *World) drawIdentities() []string {
	if w.chance(30) {
		return []string{"*"}
	}
	identities := []string{pick(w,
		"x509.subject: C=US, ST=WA, O=Acme, CN=Release",
		"x509.subject: C=US, ST=WA, O=Acme, CN=Release",
		"x509.subject: C=US, ST=WA, O=Acme",
		"x509.subject:CN=Release,O=Acme,ST=WA,C=US",
	)}
	if w.chance(10) {
		identities = append(identities, pick(w,
			"x509.subject: C=US, ST=WA, O=Globex",
			"x509.subject: C=US, ST=WA, O=Acme, OU=Build",
			"x509.subject: O=Acme", "x509.subject: ", "x509.subject", "*", "com.example: anything", "x509.subject: C=US, ST=WA, O=Acme, O=Other",
		))
	}
	return identities
}

// spelledName writes a repository in one of the ways that mean the same.
func (w *World) spelledName(canonical string) string {
	if w.calm || w.chance(60) {
		return canonical
	}
	host, path, _ := strings.Cut(canonical, "/")
	switch {
	case host == "docker.io":
		path = strings.TrimPrefix(path, "library/")
		return pick(w, "docker.io/", "index.docker.io/", "registry-1.docker.io/", "DOCKER.io/", "docker.io:443/") + path
	case strings.Contains(host, ":"):
		return pick(w, strings.ToUpper(host), strings.Replace(host, ":", ":0", 1), host) + "/" + path
	}
	return pick(w, host+":443", host+":0443", strings.ToUpper(host), strings.ToUpper(host)+":443", host) + "/" + path
}

// TrustFile writes the trust resources as they would be applied.
func (w *World) TrustFile() []byte {
	var documents []string
	add := func(kind, name string, spec map[string]any) {
		text, err := json.Marshal(map[string]any{
			"apiVersion": "notation.nirmata.io/v1alpha1", "kind": kind, "metadata": map[string]any{"name": name}, "spec": spec,
		})
		if err != nil {
			w.err = err
		}
		documents = append(documents, string(text))
	}
	for i, policy := range w.Case.Trust.Policies {
		add("TrustPolicy", fmt.Sprintf("%s-%d", w.Name, i), policySpec(policy))
	}
	for i, store := range w.Case.Trust.Stores {
		add("TrustStore", fmt.Sprintf("%s-%d", w.Name, i), map[string]any{"trustStoreName": store.Name, "type": store.Type, "caBundle": store.Bundle})
	}
	return []byte(strings.Join(documents, "\n---\n") + "\n")
}

func policySpec(policy oracle.Policy) map[string]any {
	var statements []any
	for _, s := range policy.Statements {
		verification := map[string]any{"level": s.Level}
		if s.Override != nil {
			verification["override"] = s.Override
		}
		statement := map[string]any{"name": s.Name, "registryScopes": s.Scopes, "signatureVerification": verification}
		if s.Stores != nil {
			statement["trustStores"], statement["trustedIdentities"] = s.Stores, s.Identities
		}
		statements = append(statements, statement)
	}
	return map[string]any{"version": policy.Version, "trustPolicyName": policy.Name, "trustPolicies": statements}
}
