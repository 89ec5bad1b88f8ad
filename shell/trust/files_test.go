package trust_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/samber/lo"
	"sigs.k8s.io/yaml"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/shell/trust"
	"github.com/nirmata/kyverno-notation-venafi/testdata/scenario"
)

// TestFiles reads trust from files as people write them.
func TestFiles(t *testing.T) {
	pem := []byte(bundle(t, time.Now().AddDate(1, 0, 0)))
	good, store := scenario.TrustPolicy("good", "strict", "ca:acme"), scenario.TrustStore("acme", pem)
	asJSON := func(text string) string {
		converted, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return string(converted)
	}
	tests := map[string]struct {
		files    map[string]string
		policies string // name or name!, where it cannot be used
		stores   string
		says     string // in the problem of the policy or store that cannot be used
	}{
		"a file for each":               {map[string]string{"p.yaml": good, "s.yml": store}, "good", "ca:acme", ""},
		"several documents in one file": {map[string]string{"all.yaml": good + "---\n" + store + "---\n"}, "good", "ca:acme", ""},
		"JSON":                          {map[string]string{"p.json": asJSON(good), "s.json": asJSON(store)}, "good", "ca:acme", ""},
		"a List":                        {map[string]string{"l.json": fmt.Sprintf(`{"apiVersion":"v1","kind":"List","items":[%s,%s]}`, asJSON(good), asJSON(store))}, "good", "ca:acme", ""},
		"other kinds and other files":   {map[string]string{"c.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", "README.md": "hello", "p.yaml": good}, "good", "", ""},
		"a document that is not YAML beside good": {map[string]string{"broken.yaml": "{ not: [yaml", "p.yaml": good}, "good", "", ""},
		"a broken document between good ones":     {map[string]string{"all.yaml": good + "---\nx: [\n---\n" + store}, "good", "ca:acme", ""},
		"an unknown field":                        {map[string]string{"p.yaml": strings.Replace(good, "trustPolicyName", "trustPolicyname: x\n  trustPolicyName", 1)}, "good!", "", "trustPolicyname"},
		"a field of the wrong type":               {map[string]string{"p.yaml": strings.Replace(good, `registryScopes: ["*"]`, `registryScopes: "*"`, 1)}, "good!", "", "registryScopes"},
		"a level that does not exist":             {map[string]string{"p.yaml": strings.Replace(good, "strict", "lax", 1)}, "good!", "", "lax"},
		"a doubled key":                           {map[string]string{"p.yaml": good + "  version: \"1.0\"\n"}, "", "", ""},
		"one name in two files":                   {map[string]string{"a.yaml": good, "b.yaml": good}, "good!", "", "all claim the name"},
		"a private key in a bundle":               {map[string]string{"s.yaml": scenario.TrustStore("acme", []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"))}, "", "ca:acme!", "only certificates belong there"},
		"text behind the certificates":            {map[string]string{"s.yaml": scenario.TrustStore("acme", append(pem, "trailing"...))}, "", "ca:acme!", "is not PEM after certificate 1"},
		"a store's name that is a path":           {map[string]string{"s.yaml": strings.Replace(store, "trustStoreName: acme", "trustStoreName: ../acme", 1)}, "", "ca:../acme!", "letters, digits"},
		"an empty directory":                      {nil, "", "", ""},
		"a file over the bound":                   {map[string]string{"p.yaml": good, "big.yaml": strings.Repeat("# comment\n", 500_000)}, "good", "", ""},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range test.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			files, err := trust.OpenFiles(dir, slog.New(slog.DiscardHandler), func() {})
			if err != nil {
				t.Fatal(err)
			}
			snapshot, _ := files.Snapshot()
			policies := strings.Join(lo.MapToSlice(snapshot.Policies, func(name string, p core.TrustPolicy) string { return marked(t, name, p.Problem, test.says) }), " ")
			stores := strings.Join(lo.MapToSlice(snapshot.Stores, func(ref core.StoreRef, s core.TrustStore) string {
				return marked(t, ref.String(), s.Problem, test.says)
			}), " ")
			if policies != test.policies || stores != test.stores {
				t.Errorf("policies %q, stores %q; want %q, %q", policies, stores, test.policies, test.stores)
			}
		})
	}
}

// marked is a name, with ! behind one that cannot be used; the problem must say why.
func marked(t *testing.T, name, problem, says string) string {
	t.Helper()
	if problem == "" {
		return name
	}
	if says == "" || !strings.Contains(problem, says) {
		t.Errorf("the problem of %s is %q; want %q", name, problem, says)
	}
	return name + "!"
}

// TestConfigMapVolumes are directories of links to a directory that is exchanged as a whole.
func TestConfigMapVolumes(t *testing.T) {
	dir := t.TempDir()
	for version, name := range map[string]string{"v1": "before", "v2": "after"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, version, "p.yaml"), []byte(scenario.TrustPolicy(name, "strict", "ca:acme")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, "new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("v1", "..data")
	link("..data/p.yaml", "p.yaml")
	files, err := trust.OpenFiles(dir, slog.New(slog.DiscardHandler), func() {})
	if err != nil {
		t.Fatal(err)
	}
	go files.Watch(t.Context(), 5*time.Millisecond)
	follows(t, files, "before")
	link("v2", "..data")
	follows(t, files, "after")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	follows(t, files) // trust that is gone is gone
}

// follows waits until exactly these policies are loaded.
func follows(t *testing.T, files *trust.Files, names ...string) {
	t.Helper()
	var got []string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		snapshot, _ := files.Snapshot()
		got = lo.Keys(snapshot.Policies)
		if fmt.Sprint(got) == fmt.Sprint(names) {
			return
		}
	}
	t.Fatalf("policies %q; want %q", got, names)
}

// TestNoDirectory fails at start, when it can still be corrected.
func TestNoDirectory(t *testing.T) {
	if _, err := trust.OpenFiles(filepath.Join(t.TempDir(), "absent"), slog.New(slog.DiscardHandler), func() {}); err == nil {
		t.Error("a directory that is not there was opened")
	}
}
