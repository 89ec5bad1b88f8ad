package notation

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// Config is what a directory says whom to trust.
type Config struct {
	Policy trust.Policy // without a name, which a directory has none of
	Stores []trust.Store
	Notes  []string // what is left out since it is not about images
}

// maxBundle is how long the certificates of a store may be, PEM, bytes: the definition of TrustStore takes no more.
const maxBundle = 1 << 20

// Import reads the files of a directory: of all that are given, the trust policy and the trust stores. The error is of type [Errors].
func Import(files []File) (Config, error) {
	var c Config
	var problems Errors
	stores := map[trust.StoreRef]*trust.Store{}
	policy := -1
	for i, file := range files {
		switch {
		case file.Path == ImagePolicies, file.Path == PolicyFile && policy < 0:
			policy = i
		case file.Path == BlobPolicies:
			c.Notes = append(c.Notes, BlobPolicies+" is left out: it is about blobs, and images alone are verified")
		case file.Path != PolicyFile && within(file.Path):
			problems = append(problems, addCertificates(stores, file)...)
		}
	}
	for _, file := range files {
		if file.Path == PolicyFile && policy >= 0 && files[policy].Path == ImagePolicies {
			c.Notes = append(c.Notes, PolicyFile+" is left out: notation reads "+ImagePolicies+" in its place")
		}
	}
	for _, store := range stores {
		c.Stores = append(c.Stores, *store)
	}
	slices.SortFunc(c.Stores, func(a, b trust.Store) int { return strings.Compare(a.Ref.String(), b.Ref.String()) })
	if policy < 0 {
		return c, append(problems, Problem{File: PolicyFile, Reason: "there is no trust policy; it is in the folder that notation calls {NOTATION_CONFIG}"})
	}
	statements, wrong := readPolicy(files[policy], stores)
	c.Policy.Statements = statements
	if problems = append(wrong, problems...); len(problems) > 0 {
		return c, problems
	}
	return c, nil
}

// within tells whether a path is in the folder of trust stores.
func within(file string) bool { return file == "truststore" || strings.HasPrefix(file, "truststore/") }

// addCertificates adds the certificates of a file, PEM or DER, to the store that its folder is. notation reads all files of a
// folder, whatever they are called, and refuses a store with one that holds no certificate.
func addCertificates(stores map[trust.StoreRef]*trust.Store, file File) Errors {
	fail := func(format string, args ...any) Errors {
		return Errors{{File: file.Path, Reason: fmt.Sprintf(format, args...)}}
	}
	rest, ok := strings.CutPrefix(file.Path, StoreFolder+"/")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 {
		return fail("it is no certificate of a trust store, which is at %s/TYPE/NAME/FILE", StoreFolder)
	}
	ref := trust.StoreRef{Type: parts[0], Name: parts[1]}
	if !slices.Contains([]string{trust.StoreCA, trust.StoreSigningAuthority, trust.StoreTSA}, ref.Type) {
		return fail("%q is no type of trust stores; use ca, signingAuthority or tsa", reason.Clip(ref.Type, reason.MaxName))
	}
	if err := checkStoreName(ref.Name); err != nil {
		return fail("%v", err)
	}
	certificates, err := certificatesOf(file.Data)
	if err != nil {
		return fail("%s", reason.Clip(err.Error(), reason.MaxWords))
	}
	store := stores[ref]
	if store == nil {
		store = &trust.Store{Ref: ref}
		stores[ref] = store
	}
	store.Certificates = append(store.Certificates, certificates...)
	if len(bundle(*store)) > maxBundle {
		return fail("the certificates of the trust store %s have over %d bytes as PEM", ref, maxBundle)
	}
	return nil
}

// checkStoreName says why a name of a trust store cannot be used, in a path least of all (specification, section "Trust Store").
func checkStoreName(name string) error {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
	switch {
	case name == "" || strings.Trim(name, allowed) != "":
		return fmt.Errorf("the name of a trust store, %q, may hold only letters, digits, _, . and -", reason.Clip(name, reason.MaxName))
	case strings.Trim(name, ".") == "":
		return fmt.Errorf("the name of a trust store, %q, would lead to another folder", name)
	case len(name) > 253:
		return fmt.Errorf("the name of a trust store, %q, has over 253 characters", reason.Clip(name, reason.MaxName))
	}
	return nil
}

// certificatesOf reads PEM blocks, which may have text between them, or else DER.
func certificatesOf(data []byte) (certificates []*x509.Certificate, err error) {
	block, rest := pem.Decode(data)
	if block == nil {
		if certificates, err = x509.ParseCertificates(data); err == nil && len(certificates) == 0 {
			err = fmt.Errorf("it is empty")
		}
		if err != nil {
			return nil, fmt.Errorf("it holds no certificate, neither PEM nor DER: %w", err)
		}
	}
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a %s; only certificates belong there", reason.Clip(block.Type, reason.MaxName))
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be read: %w", len(certificates)+1, err)
		}
		certificates = append(certificates, certificate)
	}
	for i, certificate := range certificates {
		if err := trust.CertificateBound(certificate); err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i+1, err)
		}
	}
	return certificates, nil
}

// readPolicy reads a trust policy document, version 1.0.
func readPolicy(file File, stores map[trust.StoreRef]*trust.Store) (statements []trust.Statement, problems Errors) {
	d, root, ok := parse(path.Base(file.Path), file.Data)
	if !ok {
		return nil, d.problems
	}
	versioned, lines := false, []int{}
	d.object(root, "the document", map[string]func(value){
		"version": func(v value) {
			versioned = true
			if version := d.text(v, "version"); version != "1.0" {
				d.fail(v.line, "version %q cannot be carried over; 1.0 can", reason.Clip(version, reason.MaxName))
			}
		},
		"trustPolicies": func(v value) {
			for _, item := range d.list(v, "trustPolicies") {
				statements, lines = append(statements, d.statement(item, stores)), append(lines, item.line)
			}
		},
	})
	if !versioned {
		d.fail(root.line, "it has no version")
	}
	if len(statements) == 0 {
		d.fail(root.line, "it has no trustPolicies")
	}
	d.scopes(statements, lines)
	return statements, d.problems
}

// scopes says which registry scopes can be carried over no more than the statement that they are in.
func (d *document) scopes(statements []trust.Statement, lines []int) {
	for i, statement := range statements {
		if _, err := (trust.Policy{Statements: []trust.Statement{statement}}).ReadScopes(); err != nil {
			d.fail(lines[i], "%v", err)
		}
	}
	if len(d.problems) > 0 {
		return
	}
	if _, err := (trust.Policy{Statements: statements}).ReadScopes(); err != nil { // of several that name one repository
		d.fail(lines[len(lines)-1], "%v", err)
	}
}

// statement reads a trust policy statement.
func (d *document) statement(v value, stores map[trust.StoreRef]*trust.Store) (s trust.Statement) {
	d.object(v, "a statement", map[string]func(value){
		"name":              func(v value) { s.Name = d.text(v, "name") },
		"registryScopes":    func(v value) { s.RegistryScopes = d.texts(v, "registryScopes") },
		"trustedIdentities": func(v value) { s.TrustedIdentities = d.texts(v, "trustedIdentities") },
		"trustStores": func(v value) {
			for i, item := range d.list(v, "trustStores") {
				written := d.text(item, fmt.Sprintf("trustStores[%d]", i))
				s.TrustStores = append(s.TrustStores, written)
				kind, name, _ := strings.Cut(written, ":")
				if stores[trust.StoreRef{Type: kind, Name: name}] == nil {
					d.fail(item.line, "the trust store %q has no certificate in %s/%s", reason.Clip(written, reason.MaxName), StoreFolder, reason.Clip(strings.Replace(written, ":", "/", 1), reason.MaxName))
				}
			}
		},
		"signatureVerification": func(v value) {
			d.object(v, "signatureVerification", map[string]func(value){
				"level":           func(v value) { s.Level = d.text(v, "level") },
				"verifyTimestamp": func(v value) { s.VerifyTimestamp = d.text(v, "verifyTimestamp") },
				"override": func(v value) {
					if v.kind != '{' {
						d.fail(v.line, "override is no object")
					}
					for _, f := range v.fields {
						if s.Override == nil {
							s.Override = map[string]string{}
						}
						s.Override[f.name] = d.text(f.value, "override of "+reason.Clip(f.name, reason.MaxName))
					}
				},
			})
		},
	})
	return s
}
