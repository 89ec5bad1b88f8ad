package trust

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// CheckIdentity says why the subject of a signing certificate matches none of a statement's trusted identities; nil when it
// matches one. The rules are Notation's (Notary Project, trust store and trust policy specification, section "Trusted
// Identities Constraints"): "*" matches every subject, "x509.subject" those that have all its attributes, and other kinds of
// identities match none.
func CheckIdentity(identities []string, subject string) error {
	if slices.Contains(identities, "*") {
		return nil
	}
	var wanted []map[string]string
	for _, identity := range identities {
		kind, name, found := strings.Cut(identity, ":")
		switch {
		case !found:
			return fmt.Errorf("the trusted identity %q has no kind; write x509.subject: and a distinguished name", reason.Clip(identity, reason.MaxName))
		case kind != "x509.subject":
			continue
		}
		attributes, err := distinguishedName(name)
		if err != nil {
			return fmt.Errorf("the trusted identity %q cannot be used: %w", reason.Clip(identity, reason.MaxName), err)
		}
		wanted = append(wanted, attributes)
	}
	have, err := distinguishedName(subject)
	if err != nil {
		return fmt.Errorf("the signer %q cannot be a trusted identity: %w", reason.Clip(subject, reason.MaxName), err)
	}
	for _, attributes := range wanted {
		if hasAll(have, attributes) {
			return nil
		}
	}
	return fmt.Errorf("the signer %q is not among the trusted identities of the trust policy", reason.Clip(subject, reason.MaxName))
}

// distinguishedName reads the attributes of a distinguished name (RFC 4514). Notation demands C, ST and O, each attribute at
// most once, and no multi-valued parts.
func distinguishedName(name string) (map[string]string, error) {
	if strings.Contains(name, "=#") {
		return nil, errors.New(`it has an encoded value ("=#")`)
	}
	parsed, err := ldap.ParseDN(name)
	if err != nil {
		return nil, fmt.Errorf("it is no distinguished name: %s", reason.Clip(err.Error(), reason.MaxName))
	}
	attributes := map[string]string{}
	for _, part := range parsed.RDNs {
		if len(part.Attributes) > 1 {
			return nil, errors.New("it has several attributes in one part, joined by +")
		}
		for _, attribute := range part.Attributes {
			if attribute.Type == "S" {
				attribute.Type = "ST"
			}
			if attributes[attribute.Type] != "" {
				return nil, fmt.Errorf("it has the attribute %q twice", reason.Clip(attribute.Type, reason.MaxName))
			}
			attributes[attribute.Type] = attribute.Value
		}
	}
	for _, mandatory := range []string{"C", "ST", "O"} {
		if attributes[mandatory] == "" {
			return nil, fmt.Errorf("it lacks the attribute %s", mandatory)
		}
	}
	return attributes, nil
}

// hasAll tells whether a name has every attribute wanted.
func hasAll(name, wanted map[string]string) bool {
	for kind, value := range wanted {
		if name[kind] != value {
			return false
		}
	}
	return true
}
