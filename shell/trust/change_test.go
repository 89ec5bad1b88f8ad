package trust_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

const (
	aPolicy = "apiVersion: notation.nirmata.io/v1alpha1\nkind: TrustPolicy\nmetadata: {name: NAME}\nspec:\n  version: '1.0'\n  trustPolicyName: LEVEL-policy\n  trustPolicies:\n  - {name: all, registryScopes: ['*'], signatureVerification: {level: skip}}\n"
	aStore  = "apiVersion: notation.nirmata.io/v1alpha1\nkind: TrustStore\nmetadata: {name: NAME}\nspec: {trustStoreName: NAME, type: ca, caBundle: none}\n"
)

func policyText(name, policy string) string {
	return strings.NewReplacer("NAME", name, "LEVEL", policy).Replace(aPolicy)
}

func storeText(name string) string { return strings.ReplaceAll(aStore, "NAME", name) }

func inForce(t *testing.T) trust.Resources {
	t.Helper()
	dir := t.TempDir()
	text := policyText("acme", "before") + "---\n" + policyText("other", "other") + "---\n" + storeText("acme") + "---\n" + storeText("spare")
	if err := os.WriteFile(filepath.Join(dir, "trust.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	found, problems, err := trust.ReadDir(dir)
	if err != nil || len(problems) > 0 || len(found.Policies) != 2 || len(found.Stores) != 2 {
		t.Fatalf("resources %+v, problems %v, %v", found, problems, err)
	}
	return found
}

func proposal(t *testing.T, text string) (trust.Resources, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "changed.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return trust.ReadChange(path)
}

func TestAnAppliedResourceReplacesThatOfItsName(t *testing.T) {
	change, err := proposal(t, policyText("acme", "after")+"---\n"+policyText("new", "new"))
	if err != nil {
		t.Fatal(err)
	}
	before := inForce(t)
	after := before.With(change)
	var names []string
	for _, p := range after.Policies {
		names = append(names, p.Spec.TrustPolicyName)
	}
	if slices.Sort(names); !slices.Equal(names, []string{"after-policy", "new-policy", "other-policy"}) || len(after.Stores) != 2 {
		t.Errorf("policies %q, %d stores", names, len(after.Stores))
	}
	if len(before.Policies) != 2 || before.Policies[0].Spec.TrustPolicyName != "before-policy" {
		t.Errorf("those in force were changed: %+v", before.Policies)
	}
}

func TestWithout(t *testing.T) {
	for name, want := range map[string]string{
		"other": "1 policies, 2 stores", "spare": "2 policies, 1 stores", "TrustStore/acme": "2 policies, 1 stores", "trustpolicy/acme": "1 policies, 2 stores",
		"acme": `"acme" is the name of a TrustPolicy and of a TrustStore`, "absent": "there is no TrustPolicy and no TrustStore", "TrustStore/other": "there is no",
		"Secret/acme": "there is no", "": "there is no",
	} {
		rest, err := inForce(t).Without(name)
		got := strings.NewReplacer("P", string(rune('0'+len(rest.Policies))), "S", string(rune('0'+len(rest.Stores)))).Replace("P policies, S stores")
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("without %q: %s, want %s", name, got, want)
		}
	}
}

func TestAChangeThatAClusterWouldRefuseIsRefused(t *testing.T) {
	for sentence, tt := range map[string]struct{ text, want string }{
		"a field that does not exist":        {policyText("acme", "x") + "  trustPolicyNames: x\n", "unknown field"},
		"no YAML":                            {"a: b: c", "changed.yaml, document 1"},
		"no name":                            {strings.Replace(storeText("x"), "metadata: {name: x}\n", "", 1), "metadata.name is empty"},
		"nothing of trust":                   {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", "holds no TrustPolicy"},
		"beside a good one, another version": {storeText("x") + "---\n" + strings.Replace(storeText("y"), "v1alpha1", "v1", 1), `it is "TrustStore" of "notation.nirmata.io/v1"`},
		"beside a good one, a kind that is misspelled": {storeText("x") + "---\n" + strings.Replace(storeText("y"), "TrustStore", "TrustStor", 1), `it is "TrustStor" of`},
		"beside a good one, another group":             {storeText("x") + "---\n" + strings.Replace(storeText("y"), "notation.nirmata.io", "notation.example", 1), `it is "TrustStore" of "notation.example/v1alpha1"`},
		"nothing at all":                               {"", "holds no TrustPolicy"},
	} {
		if _, err := proposal(t, tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", sentence, err, tt.want)
		}
	}
	if _, err := trust.ReadChange(filepath.Join(t.TempDir(), "absent.yaml")); err == nil {
		t.Error("a file that does not exist changes nothing")
	}
}
