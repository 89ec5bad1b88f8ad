package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// claims are what the sender of a request writes into an object as he likes.
var claims = regexp.MustCompile(`\bobject\.(metadata|status)\b`)

// TestNoSamplePassesAnObjectByItsOwnWord: conditions of the policies look at nothing that the object says of itself, no
// selector goes by its labels, and what fails denies.
func TestNoSamplePassesAnObjectByItsOwnWord(t *testing.T) {
	files, err := filepath.Glob("samples/*policy*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for document := range strings.SplitSeq(string(text), "\n---\n") {
			var policy map[string]any
			if err := yaml.Unmarshal([]byte(document), &policy); err != nil {
				t.Fatal(err)
			}
			if kind, _ := policy["kind"].(string); kind == "TrustPolicy" {
				continue
			}
			failing := 0
			walk(policy, func(key string, value any) {
				written, err := json.Marshal(value)
				if err != nil {
					t.Fatal(err)
				}
				switch key {
				case "preconditions", "celPreconditions", "matchConditions":
					if claim := claims.Find(written); claim != nil {
						t.Errorf("%s: %s go by %s: %s", file, key, claim, written)
					}
				case "exclude", "selector", "objectSelector":
					t.Errorf("%s: %s lets pass what claims it: %s", file, key, written)
				case "failurePolicy":
					failing++
					if value != "Fail" {
						t.Errorf("%s: failurePolicy is %s", file, written)
					}
				case "data":
					if strings.Contains(string(written), "{{ images }}") || strings.Contains(string(written), "{{ request.object }}") {
						t.Errorf("%s: what is sent lacks image volumes, or lets Kyverno evaluate what strangers wrote: %s", file, written)
					}
				}
			})
			if failing != 1 {
				t.Errorf("%s: failurePolicy stands there %d times", file, failing)
			}
		}
	}
}

// walk shows every field of a value and of what is in it.
func walk(value any, show func(key string, value any)) {
	switch v := value.(type) {
	case map[string]any:
		for key, field := range v {
			show(key, field)
			walk(field, show)
		}
	case []any:
		for _, element := range v {
			walk(element, show)
		}
	}
}
