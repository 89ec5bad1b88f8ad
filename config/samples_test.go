package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// claims are what the sender of a request writes into an object as he likes.
var claims = regexp.MustCompile(`\bobject\.(metadata|status)\b`)

// TestNoSamplePassesAnObjectByItsOwnWord: conditions of the policies look at nothing that the object says of itself, no
// selector goes by its labels, and what fails denies, except under a policy that never denies.
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
			failing, wanted := 0, "Fail"
			if spec, _ := policy["spec"].(map[string]any); spec["validationActions"] != nil && !slices.Contains(spec["validationActions"].([]any), any("Deny")) {
				wanted = "Ignore"
			}
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
					if value != wanted {
						t.Errorf("%s: failurePolicy is %s; want %s", file, written, wanted)
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

// celPolicy is what the samples of CEL policies have in common.
type celPolicy struct {
	Spec struct {
		MatchConstraints struct {
			NamespaceSelector struct {
				MatchExpressions []struct{ Values []string }
			}
			ResourceRules []any
		}
		MatchConditions []any
	}
}

// TestStagesDifferByNamespaceOnly: whatever is denied in one namespace is reported or warned about in the others, no namespace
// is in two stages, and background scans look at all.
func TestStagesDifferByNamespaceOnly(t *testing.T) {
	read := func(file string) (policy celPolicy, namespaces []string) {
		text, err := os.ReadFile("samples/" + file)
		if err == nil {
			err = yaml.Unmarshal(text, &policy)
		}
		if expressions := policy.Spec.MatchConstraints.NamespaceSelector.MatchExpressions; err == nil && len(expressions) == 1 {
			return policy, expressions[0].Values
		}
		t.Fatalf("%s: %v, %+v", file, err, policy)
		return policy, nil
	}
	enforced, all := read("validatingpolicy.yaml")
	pinned, namespaces := read("mutatingpolicy.yaml")
	if !slices.Equal(namespaces, all) {
		t.Errorf("images are pinned in %s and denied in %s", namespaces, all)
	}
	stages := map[string]celPolicy{"mutatingpolicy.yaml": pinned}
	for _, file := range []string{"validatingpolicy-audit.yaml", "validatingpolicy-warn.yaml"} {
		stages[file], namespaces = read(file)
		all = append(all, namespaces...)
	}
	for file, policy := range stages {
		if !reflect.DeepEqual(policy.Spec.MatchConstraints.ResourceRules, enforced.Spec.MatchConstraints.ResourceRules) {
			t.Errorf("%s is about other resources than what is denied", file)
		}
		conditions := policy.Spec.MatchConditions
		if file == "mutatingpolicy.yaml" && len(conditions) > 0 { // the last one leaves out what is pinned
			conditions = conditions[:len(conditions)-1]
		}
		if !reflect.DeepEqual(conditions, enforced.Spec.MatchConditions) {
			t.Errorf("%s is about other updates than what is denied", file)
		}
	}
	_, scanned := read("validatingpolicy-background.yaml")
	if slices.Sort(all); len(slices.Compact(slices.Clone(all))) != len(all) || !slices.Equal(scanned, all) {
		t.Errorf("the stages are in %s, and %s are scanned", all, scanned)
	}
}

// undecided is the list of reason codes that a report calls an error.
var undecided = regexp.MustCompile(`!\(r\.code in (\[[^]]*\])\)`)

// TestBackgroundSampleTellsFailuresFromDenials: the sample's list has every reason code by which an image is not admitted
// although nothing speaks against it.
func TestBackgroundSampleTellsFailuresFromDenials(t *testing.T) {
	text, err := os.ReadFile("samples/validatingpolicy-background.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var listed, want []string
	if list := undecided.FindSubmatch(text); list == nil || json.Unmarshal(list[1], &listed) != nil {
		t.Fatalf("no list in %s", text)
	}
	for _, info := range reason.Codes() {
		if class := info.Code.Class(); class != reason.Admitted && class != reason.Rejected && !info.Code.Definitive() {
			want = append(want, string(info.Code))
		}
	}
	if slices.Sort(listed); !slices.Equal(listed, slices.Sorted(slices.Values(want))) {
		t.Errorf("the sample lists %s; want %s", listed, want)
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
