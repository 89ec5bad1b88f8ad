package trust_test

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// from is a store that names a bundle, which was read.
func from(source shelltrust.BundleSource, own string, read shelltrust.Bundle) shelltrust.StoreResource {
	r := store("acme", "acme", own)
	r.Spec.CABundleFrom, r.Bundle = &source, read
	return r
}

// key is security/acme, under ca.crt.
func key() *shelltrust.ObjectKey {
	return &shelltrust.ObjectKey{Namespace: "security", Name: "acme", Key: "ca.crt"}
}

func TestAStoreHasTheCertificatesOfBothBundles(t *testing.T) {
	one, two := bundle(t, time.Now().AddDate(1, 0, 0)), bundle(t, time.Now().AddDate(2, 0, 0))
	configMap, secret := shelltrust.BundleSource{ConfigMap: key()}, shelltrust.BundleSource{Secret: key()}
	named := func(change func(*shelltrust.ObjectKey)) shelltrust.BundleSource {
		k := key()
		change(k)
		return shelltrust.BundleSource{ConfigMap: k}
	}
	read := shelltrust.Bundle{Text: two}
	for sentence, test := range map[string]struct {
		store        shelltrust.StoreResource
		certificates int
		problem      string // "" for none
		unused       string
	}{
		"only what a ConfigMap has":              {from(configMap, "", read), 1, "", ""},
		"only what a Secret has":                 {from(secret, "", read), 1, "", ""},
		"both":                                   {from(configMap, one, read), 2, "", ""},
		"one certificate that is in both":        {from(configMap, two, read), 1, "", ""},
		"a bundle with a part that is none":      {from(configMap, one, shelltrust.Bundle{Text: two + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}), 2, "", "of caBundleFrom, certificate 2"},
		"a bundle that was not read yet":         {from(configMap, one, shelltrust.Bundle{}), 0, "spec.caBundleFrom: ConfigMap security/acme was not read yet", ""},
		"an object that does not exist":          {from(secret, one, shelltrust.Bundle{Problem: "does not exist"}), 0, "spec.caBundleFrom: Secret security/acme does not exist", ""},
		"a bundle that is no PEM":                {from(configMap, one, shelltrust.Bundle{Text: "none"}), 0, "what spec.caBundleFrom names is not PEM", ""},
		"a bundle with a private key":            {from(configMap, "", shelltrust.Bundle{Text: "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}), 0, "is a PRIVATE KEY; only certificates belong there", ""},
		"a bundle of its own that is no PEM":     {from(configMap, "none", read), 0, "spec.caBundle is not PEM", ""},
		"neither kind":                           {from(shelltrust.BundleSource{}, one, read), 0, "names neither or both", ""},
		"both kinds":                             {from(shelltrust.BundleSource{ConfigMap: key(), Secret: key()}, one, read), 0, "names neither or both", ""},
		"a namespace that leads elsewhere":       {from(named(func(k *shelltrust.ObjectKey) { k.Namespace = "../kube-system" }), one, read), 0, `"../kube-system" is no namespace of a ConfigMap`, ""},
		"no namespace":                           {from(named(func(k *shelltrust.ObjectKey) { k.Namespace = "" }), one, read), 0, `"" is no namespace`, ""},
		"a name that selects more":               {from(named(func(k *shelltrust.ObjectKey) { k.Name = "acme,metadata.name=b" }), one, read), 0, "is no name of a ConfigMap", ""},
		"a key with a separator":                 {from(named(func(k *shelltrust.ObjectKey) { k.Key = "a/b" }), one, read), 0, `"a/b" is no key`, ""},
		"a key that is no name but is a key":     {from(named(func(k *shelltrust.ObjectKey) { k.Key = "CA_bundle.pem" }), "", read), 1, "", ""},
		"without caBundleFrom, as it always was": {store("acme", "acme", one), 1, "", ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			snapshot, _ := shelltrust.Compile(nil, []shelltrust.StoreResource{test.store, store("other", "other", one)})
			got := snapshot.Stores[trust.StoreRef{Type: "ca", Name: "acme"}]
			if len(got.Certificates) != test.certificates || (got.Problem == "") != (test.problem == "") || !strings.Contains(got.Problem, test.problem) {
				t.Errorf("%d certificates, problem %q; want %d, %q", len(got.Certificates), got.Problem, test.certificates, test.problem)
			}
			if unused := strings.Join(got.Unused, "; "); (unused == "") != (test.unused == "") || !strings.Contains(unused, test.unused) {
				t.Errorf("unused %q; want %q", unused, test.unused)
			}
			if other := snapshot.Stores[trust.StoreRef{Type: "ca", Name: "other"}]; other.Problem != "" {
				t.Errorf("the other store is broken: %s", other.Problem)
			}
		})
	}
}

func TestBundleOfBoundsAndNamesWhatIsMissing(t *testing.T) {
	for want, data := range map[string]map[string]string{
		`has no key "ca.crt"`: {"tls.crt": "x"}, `has nothing under the key "ca.crt"`: {"ca.crt": ""},
		"at most 1048576 are read": {"ca.crt": strings.Repeat("x", shelltrust.MaxBundle+1)},
	} {
		if got := shelltrust.BundleOf(data, "ca.crt"); !strings.Contains(got.Problem, want) || got.Text != "" {
			t.Errorf("%.100v; want %s", got, want)
		}
	}
	if got := shelltrust.BundleOf(map[string][]byte{"ca.crt": []byte("x")}, "ca.crt"); got != (shelltrust.Bundle{Text: "x"}) {
		t.Errorf("%+v", got)
	}
}

// TestAnotherBundleIsAnotherRevision: what was verified under the certificates before is found no longer.
func TestAnotherBundleIsAnotherRevision(t *testing.T) {
	source := shelltrust.BundleSource{ConfigMap: key()}
	one, two := bundle(t, time.Now().AddDate(1, 0, 0)), bundle(t, time.Now().AddDate(2, 0, 0))
	seen := map[string]string{}
	for name, read := range map[string]shelltrust.Bundle{
		"one": {Text: one}, "two": {Text: two}, "both": {Text: one + two}, "none": {Problem: "does not exist"}, "refused": {Problem: "may not be read"},
	} {
		snapshot, _ := shelltrust.Compile([]shelltrust.PolicyResource{policy("p", "p", "strict", "ca:acme")}, []shelltrust.StoreResource{from(source, "", read)})
		revision := snapshot.Revision(snapshot.Policies["p"], 0)
		if other, ok := seen[revision]; ok {
			t.Errorf("%s has the revision of %s", name, other)
		}
		seen[revision] = name
	}
}

func manifests(t *testing.T, documents ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "trust.yaml"), []byte(strings.Join(documents, "---\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func indented(pem string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(pem), "\n", "\n    ") + "\n"
}

const namesABundle = "apiVersion: notation.nirmata.io/v1alpha1\nkind: TrustStore\nmetadata: {name: acme}\nspec:\n  trustStoreName: acme\n  type: ca\n  caBundleFrom: {%s: {namespace: security, name: acme, key: ca.crt}}\n"

func TestFilesHaveTheBundlesBesideTheStores(t *testing.T) {
	pem := bundle(t, time.Now().AddDate(1, 0, 0))
	configMap := "apiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: security, name: acme}\ndata:\n  ca.crt: |\n" + indented(pem)
	encoded := base64.StdEncoding.EncodeToString([]byte(pem))
	for sentence, test := range map[string]struct {
		kind, object, problem string
	}{
		"a ConfigMap":                        {"configMap", configMap, ""},
		"binary data of one":                 {"configMap", "apiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: security, name: acme}\nbinaryData: {ca.crt: " + encoded + "}\n", ""},
		"a Secret":                           {"secret", "apiVersion: v1\nkind: Secret\nmetadata: {namespace: security, name: acme}\ndata: {ca.crt: " + encoded + "}\n", ""},
		"a Secret in plain":                  {"secret", "apiVersion: v1\nkind: Secret\nmetadata: {namespace: security, name: acme}\nstringData:\n  ca.crt: |\n" + indented(pem), ""},
		"none":                               {"configMap", "", "ConfigMap security/acme is not among the manifests"},
		"one of the other kind":              {"secret", configMap, "Secret security/acme is not among the manifests"},
		"one in another namespace":           {"configMap", strings.Replace(configMap, "namespace: security", "namespace: tenant", 1), "is not among"},
		"one without a namespace":            {"configMap", strings.Replace(configMap, "namespace: security, ", "", 1), "where its metadata.namespace has to be written too"},
		"two of one name":                    {"configMap", configMap + "---\n" + configMap, "remove all but one"},
		"one without the key":                {"configMap", strings.Replace(configMap, "ca.crt", "root.crt", 1), `has no key "ca.crt"`},
		"one whose data are no texts":        {"configMap", "apiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: security, name: acme}\ndata: {ca.crt: {a: b}}\n", "cannot be read"},
		"a Secret whose data are no base64":  {"secret", "apiVersion: v1\nkind: Secret\nmetadata: {namespace: security, name: acme}\ndata: {ca.crt: '?'}\n", "cannot be read"},
		"a list with it":                     {"configMap", "apiVersion: v1\nkind: List\nitems:\n- " + strings.TrimPrefix(strings.ReplaceAll(configMap, "\n", "\n  "), "  "), ""},
		"what is called so in another group": {"configMap", strings.Replace(configMap, "apiVersion: v1", "apiVersion: example.com/v1", 1), "is not among"},
	} {
		t.Run(sentence, func(t *testing.T) {
			dir := manifests(t, fmt.Sprintf(namesABundle, test.kind), test.object)
			resources, problems, err := shelltrust.ReadDir(dir)
			if err != nil || len(problems) > 0 {
				t.Fatal(err, problems)
			}
			files, err := shelltrust.OpenFiles(dir, slog.New(slog.DiscardHandler), func() {})
			if err != nil {
				t.Fatal(err)
			}
			read, _ := resources.Compile()
			served, _ := files.Snapshot()
			for who, snapshot := range map[string]trust.Snapshot{"an audit": read, "the service": served} {
				got := snapshot.Stores[trust.StoreRef{Type: "ca", Name: "acme"}]
				if (got.Problem == "") != (test.problem == "") || !strings.Contains(got.Problem, test.problem) {
					t.Errorf("for %s the problem is %q; want %q", who, got.Problem, test.problem)
				}
			}
		})
	}
}

// TestAProposedBundleReplacesThatInForce: what a rotation of a bundle changes can be seen before.
func TestAProposedBundleReplacesThatInForce(t *testing.T) {
	one, two := bundle(t, time.Now().AddDate(1, 0, 0)), bundle(t, time.Now().AddDate(2, 0, 0))
	configMap := func(pem string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: security, name: acme}\ndata:\n  ca.crt: |\n" + indented(pem)
	}
	unread := func(shelltrust.BundleRef) shelltrust.Bundle { return shelltrust.Bundle{Problem: "was asked for"} }
	certificates := func(r shelltrust.Resources) string {
		snapshot, _ := r.Compile()
		store := snapshot.Stores[trust.StoreRef{Type: "ca", Name: "acme"}]
		return fmt.Sprintf("%d %s", len(store.Certificates), store.Problem) + store.NotAfter().Format(" 2006")
	}
	now, _, err := shelltrust.ReadDir(manifests(t, fmt.Sprintf(namesABundle, "configMap"), configMap(one)))
	if err != nil {
		t.Fatal(err)
	}
	change, err := proposal(t, configMap(two))
	if err != nil || len(change.Unnamed(now.Stores)) > 0 {
		t.Fatal(err, change.Unnamed(now.Stores))
	}
	before, after := certificates(now), certificates(now.With(change).Read(unread))
	if before == after || !strings.HasPrefix(after, "1 ") {
		t.Errorf("before %s, after %s", before, after)
	}
	moved, err := proposal(t, strings.Replace(fmt.Sprintf(namesABundle, "configMap"), "security", "elsewhere", 1))
	if err != nil {
		t.Fatal(err)
	}
	if got := certificates(now.With(moved).Read(unread)); !strings.Contains(got, "ConfigMap elsewhere/acme was asked for") {
		t.Errorf("a store that names another bundle: %s", got)
	}
	if unnamed := change.Unnamed(now.With(moved).Stores); len(unnamed) != 1 || unnamed[0] != "ConfigMap security/acme" {
		t.Errorf("unnamed are %q", unnamed)
	}
}
