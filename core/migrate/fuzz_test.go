package migrate_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/nirmata/kyverno-notation-venafi/core/migrate"
)

// FuzzPolicies: whatever the manifest, what is made of it are policies of two kinds, and nothing is made of a part of it.
func FuzzPolicies(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		manifest, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(manifest)
	}
	f.Add([]byte(minimal))
	f.Fuzz(func(t *testing.T, manifest []byte) {
		pairs, err := migrate.Policies(manifest, options)
		if (err == nil) == (len(pairs) == 0) {
			t.Fatalf("%d pairs, and %v", len(pairs), err)
		}
		for _, pair := range pairs {
			text, err := pair.YAML()
			if err != nil {
				t.Fatal(err)
			}
			for document := range strings.SplitSeq(string(text), "\n---\n") {
				var policy struct{ APIVersion, Kind string }
				if err := yaml.Unmarshal([]byte(document), &policy); err != nil {
					t.Fatalf("%v\n%s", err, document)
				}
				if policy.APIVersion != "policies.kyverno.io/v1" || policy.Kind != "MutatingPolicy" && policy.Kind != "ValidatingPolicy" {
					t.Fatalf("made is\n%s", document)
				}
			}
		}
	})
}
