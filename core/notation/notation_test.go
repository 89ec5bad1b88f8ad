package notation_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/notation"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// certificate makes a CA, DER.
func certificate(t testing.TB, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now(), NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func asPEM(der ...[]byte) []byte {
	var text []byte
	for _, one := range der {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: one})...)
	}
	return text
}

// acme is a trust policy document; a test changes one line of it.
const acme = `{
  "version": "1.0",
  "trustPolicies": [
    {
      "name": "acme",
      "registryScopes": ["registry.example.com/acme/app"],
      "signatureVerification": {
        "level": "permissive",
        "override": {"expiry": "enforce"},
        "verifyTimestamp": "afterCertExpiry"
      },
      "trustStores": ["ca:acme", "signingAuthority:Acme_2"],
      "trustedIdentities": ["x509.subject: C=US, ST=WA, O=acme"]
    },
    {"name": "others", "registryScopes": ["*"], "signatureVerification": {"level": "skip"}}
  ]
}
`

func directory(t testing.TB, policy string, more ...notation.File) []notation.File {
	return append([]notation.File{
		{Path: "trustpolicy.json", Data: []byte(policy)},
		{Path: "truststore/x509/ca/acme/one.pem", Data: append([]byte("about it\n"), asPEM(certificate(t, "one"), certificate(t, "two"))...)},
		{Path: "truststore/x509/ca/acme/three.crt", Data: certificate(t, "three")},
		{Path: "truststore/x509/signingAuthority/Acme_2/a.der", Data: certificate(t, "four")},
	}, more...)
}

func TestImportReadsPolicyAndCertificates(t *testing.T) {
	c, err := notation.Import(directory(t, acme))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Policy.Statements) != 2 || len(c.Stores) != 2 || len(c.Stores[0].Certificates) != 3 || len(c.Stores[1].Certificates) != 1 || len(c.Notes) > 0 {
		t.Errorf("%+v", c)
	}
	first := c.Policy.Statements[0]
	if first.Level != "permissive" || first.Override["expiry"] != "enforce" || first.VerifyTimestamp != "afterCertExpiry" || first.TrustedIdentities[0] != "x509.subject: C=US, ST=WA, O=acme" {
		t.Errorf("%+v", first)
	}
	text, err := c.Manifests("acme")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"kind: TrustPolicy\n", "name: ca-acme\n", "trustStoreName: Acme_2\n", "name: signingauthority-acme-2-", "level: skip\n", "-----BEGIN CERTIFICATE-----"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
}

// TestWhatIsExportedImportsTheSame: certificates, statements and scopes are those that were exported.
func TestWhatIsExportedImportsTheSame(t *testing.T) {
	before, err := notation.Import(directory(t, acme))
	if err != nil {
		t.Fatal(err)
	}
	stores := trust.Stores{}
	for _, store := range before.Stores {
		stores[store.Ref] = store
	}
	files, err := notation.Export(before.Policy, stores)
	if err != nil {
		t.Fatal(err)
	}
	after, err := notation.Import(files)
	if err != nil {
		t.Fatal(err)
	}
	one, _ := before.Manifests("acme")
	two, _ := after.Manifests("acme")
	if one != two || one == "" {
		t.Errorf("before\n%s\nafter\n%s", one, two)
	}
}

func TestImportNamesTheLineOfWhatCannotBeCarriedOver(t *testing.T) {
	for sentence, tt := range map[string]struct {
		old, replaced string
		want          string
	}{
		"an unknown field of a statement":    {`"name": "acme",`, "\"name\": \"acme\",\n      \"globalPolicy\": true,", `trustpolicy.json:6: a statement has the field "globalPolicy", which cannot be carried over`},
		"an unknown field of the document":   {`"version": "1.0",`, `"version": "1.0", "more": 1,`, `trustpolicy.json:2: the document has the field "more"`},
		"a field that stands twice":          {`"level": "permissive",`, `"level": "permissive", "level": "skip",`, `trustpolicy.json:8: the field "level" stands twice`},
		"another version":                    {`"1.0"`, `"2.0"`, `trustpolicy.json:2: version "2.0" cannot be carried over`},
		"a version that is a number":         {`"1.0"`, `1.0`, `trustpolicy.json:2: version is no string`},
		"no version":                         {`"version": "1.0",`, ``, `trustpolicy.json:1: it has no version`},
		"a store that has no folder":         {`"ca:acme"`, `"ca:absent"`, `trustpolicy.json:12: the trust store "ca:absent" has no certificate in truststore/x509/ca/absent`},
		"a store that leads elsewhere":       {`"ca:acme"`, `"ca:../../keys"`, `trustpolicy.json:12: the trust store "ca:../../keys" has no certificate`},
		"a scope of an OCI layout":           {`registry.example.com/acme/app`, `local/layout`, `trustpolicy.json:4: registryScopes[0] of statement "acme": "local/layout" matches no image`},
		"a scope with a wildcard":            {`registry.example.com/acme/app`, `registry.example.com/*`, `trustpolicy.json:4: registryScopes[0]`},
		"a scope that two statements have":   {`["*"]`, `["registry.example.com/acme/app"]`, `one repository belongs to one statement`},
		"scopes that are no list":            {`["*"]`, `"*"`, `trustpolicy.json:15: registryScopes is no list`},
		"an override that is no string":      {`"enforce"`, `true`, `trustpolicy.json:9: override of expiry is no string`},
		"an override that is a list":         {`{"expiry": "enforce"}`, `[]`, `trustpolicy.json:9: override is no object`},
		"what is no JSON":                    {`"trustPolicies": [`, `"trustPolicies": `, `trustpolicy.json:`},
		"something behind":                   {"  ]\n}\n", "  ]\n}\n{}", "there is more behind the document"},
		"nothing":                            {acme, "", "trustpolicy.json:1: it is no JSON"},
		"nesting without end":                {acme, strings.Repeat("[", 1000), "nested deeper"},
		"no statements":                      {acme, `{"version": "1.0", "trustPolicies": null}`, "it has no trustPolicies"},
		"a list":                             {acme, `[]`, "the document is no object"},
		"bytes that are no text":             {"acme\",", "\xff\",", "it is no UTF-8"},
		"statements that are no objects":     {acme, `{"version": "1.0", "trustPolicies": ["a"]}`, "a statement is no object"},
		"a signatureVerification that is no": {`{"level": "skip"}`, `"skip"`, "trustpolicy.json:15: signatureVerification is no object"},
	} {
		t.Run(sentence, func(t *testing.T) {
			changed := strings.Replace(acme, tt.old, tt.replaced, 1)
			if changed == acme {
				t.Fatal("the test changes nothing")
			}
			_, err := notation.Import(directory(t, changed))
			var problems notation.Errors
			if !errors.As(err, &problems) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %s", err, tt.want)
			}
		})
	}
}

func TestImportRefusesFilesThatAreNoCertificates(t *testing.T) {
	good := asPEM(certificate(t, "good"))
	for sentence, tt := range map[string]struct {
		file notation.File
		want string
	}{
		"a text":                       {notation.File{Path: "truststore/x509/ca/acme/README", Data: []byte("text")}, "truststore/x509/ca/acme/README: it holds no certificate"},
		"nothing":                      {notation.File{Path: "truststore/x509/ca/acme/a.pem"}, "it is empty"},
		"a private key":                {notation.File{Path: "truststore/x509/ca/acme/a.key", Data: []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")}, "holds a PRIVATE KEY"},
		"a certificate that is cut":    {notation.File{Path: "truststore/x509/ca/acme/a.pem", Data: asPEM(certificate(t, "x")[:100])}, "certificate 1 cannot be read"},
		"one beside the folders":       {notation.File{Path: "truststore/x509/ca/a.pem", Data: good}, "which is at truststore/x509/TYPE/NAME/FILE"},
		"one in a folder of a store":   {notation.File{Path: "truststore/x509/ca/acme/old/a.pem", Data: good}, "which is at truststore/x509/TYPE/NAME/FILE"},
		"a type that does not exist":   {notation.File{Path: "truststore/x509/CA/acme/a.pem", Data: good}, `"CA" is no type`},
		"another kind of trust store":  {notation.File{Path: "truststore/pgp/ca/acme/a.pem", Data: good}, "it is no certificate of a trust store"},
		"a name that leads elsewhere":  {notation.File{Path: "truststore/x509/ca/../a.pem", Data: good}, "would lead to another folder"},
		"a name with a back slash":     {notation.File{Path: `truststore/x509/ca/a\b/a.pem`, Data: good}, "may hold only letters"},
		"a name of another alphabet":   {notation.File{Path: "truststore/x509/ca/ä/a.pem", Data: good}, "may hold only letters"},
		"more than a store may have":   {notation.File{Path: "truststore/x509/ca/acme/many.pem", Data: []byte(strings.Repeat(string(good), 3000))}, "over 1048576 bytes"},
		"a store that is called a dot": {notation.File{Path: "truststore/x509/tsa/./a.pem", Data: good}, "would lead to another folder"},
	} {
		t.Run(sentence, func(t *testing.T) {
			if _, err := notation.Import(directory(t, acme, tt.file)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %s", err, tt.want)
			}
		})
	}
}

func TestImportReadsThePolicyThatNotationReads(t *testing.T) {
	newer := strings.Replace(acme, `"name": "acme"`, `"name": "newer"`, 1)
	for _, files := range [][]notation.File{
		append(directory(t, acme), notation.File{Path: "trustpolicy.oci.json", Data: []byte(newer)}),
		append([]notation.File{{Path: "trustpolicy.oci.json", Data: []byte(newer)}}, directory(t, acme)...),
	} {
		c, err := notation.Import(files)
		if err != nil || c.Policy.Statements[0].Name != "newer" || len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "trustpolicy.json is left out") {
			t.Errorf("%+v, %v", c, err)
		}
	}
	c, err := notation.Import(append(directory(t, acme), notation.File{Path: "trustpolicy.blob.json", Data: []byte("anything")}))
	if err != nil || len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "about blobs") {
		t.Errorf("%+v, %v", c.Notes, err)
	}
	if _, err := notation.Import(nil); err == nil || !strings.Contains(err.Error(), "there is no trust policy") {
		t.Error(err)
	}
}

func TestExportRefuses(t *testing.T) {
	parsed, err := x509.ParseCertificate(certificate(t, "one"))
	if err != nil {
		t.Fatal(err)
	}
	policy := func(store, scope string) trust.Policy {
		return trust.Policy{Name: "p", Statements: []trust.Statement{{Name: "s", Level: "strict", RegistryScopes: []string{scope}, TrustStores: []string{store}, TrustedIdentities: []string{"*"}}}}
	}
	stores := func(name string, change func(*trust.Store)) trust.Stores {
		ref := trust.StoreRef{Type: "ca", Name: name}
		store := trust.Store{Ref: ref, Certificates: []*x509.Certificate{parsed}}
		change(&store)
		return trust.Stores{ref: store}
	}
	as := func(*trust.Store) {}
	for sentence, tt := range map[string]struct {
		policy trust.Policy
		stores trust.Stores
		want   string // "" for none
	}{
		"a good one":                   {policy("ca:acme", "*"), stores("acme", as), ""},
		"a name that leads elsewhere":  {policy("ca:..", "*"), stores("..", as), "would lead to another folder"},
		"a name with a separator":      {policy("ca:a/b", "*"), stores("a/b", as), "may hold only letters"},
		"a store that does not exist":  {policy("ca:absent", "*"), stores("acme", as), "does not exist"},
		"a store that is broken":       {policy("ca:acme", "*"), stores("acme", func(s *trust.Store) { s.Problem = "is broken" }), "is broken"},
		"a store with a part unused":   {policy("ca:acme", "*"), stores("acme", func(s *trust.Store) { s.Unused = []string{"certificate 2"} }), "cannot be carried over as a whole: certificate 2"},
		"a scope that matches nothing": {policy("ca:acme", "acme"), stores("acme", as), "matches no image"},
		"a policy that is broken":      {trust.Policy{Name: "p", Problem: "is broken"}, nil, `trust policy "p" cannot be used: is broken`},
	} {
		t.Run(sentence, func(t *testing.T) {
			files, err := notation.Export(tt.policy, tt.stores)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %q", err, tt.want)
			}
			for _, file := range files {
				if strings.Contains(file.Path, "..") {
					t.Errorf("a file at %s", file.Path)
				}
			}
		})
	}
	files, err := notation.Export(policy("ca:acme", "index.docker.io/library/nginx"), stores("acme", as))
	if err != nil || !strings.Contains(string(files[0].Data), `"docker.io/library/nginx"`) {
		t.Errorf("a scope is written as %s, %v", files, err)
	}
}

func TestManifestsRefuseNamesThatKubernetesRefuses(t *testing.T) {
	for _, name := range []string{"", "Acme", "a_b", "../a", "a/b", "-a", strings.Repeat("a", 254), "a\nb"} {
		if _, err := (notation.Config{}).Manifests(name); err == nil {
			t.Errorf("%q is a name", name)
		}
	}
}

func FuzzImport(f *testing.F) {
	f.Add([]byte(acme), []byte("x"))
	f.Add([]byte(`{"version":"1.0","trustPolicies":[{"registryScopes":[null]}]}`), asPEM(certificate(f, "c")))
	f.Fuzz(func(t *testing.T, policy, bundle []byte) {
		files := []notation.File{{Path: "trustpolicy.json", Data: policy}, {Path: "truststore/x509/ca/acme/c", Data: bundle}}
		c, err := notation.Import(files)
		if err != nil {
			return
		}
		stores := trust.Stores{}
		for _, store := range c.Stores {
			stores[store.Ref] = store
		}
		if _, err := c.Manifests("fuzz"); err != nil {
			t.Error(err)
		}
		if exported, err := notation.Export(c.Policy, stores); err == nil {
			if _, err := notation.Import(exported); err != nil {
				t.Errorf("what was exported cannot be imported: %v", err)
			}
		}
	})
}
