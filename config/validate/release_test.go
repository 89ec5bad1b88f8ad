package validate

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/lint"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// releasedDir has what the last release of the chart gave: its objects for both shapes, and all of its values. With each release
// install.yaml, knative.yaml and chart/values.yaml are copied there.
const releasedDir = "testdata/released"

// immutable are the fields that the API server lets nobody change, by kind.
var immutable = map[string][]string{
	"Deployment":               {"spec", "selector"},
	"RoleBinding":              {"roleRef"},
	"ClusterRoleBinding":       {"roleRef"},
	"CustomResourceDefinition": {"spec", "names"},
}

// TestUpgradeFromTheLastRelease holds that helm upgrade --reuse-values goes through, and that the pods of before and after find
// each other while they run side by side.
func TestUpgradeFromTheLastRelease(t *testing.T) {
	values, err := os.ReadFile(filepath.Join(releasedDir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for file, change := range map[string]string{"plain.yaml": "", "knative.yaml": "  enabled: true"} {
		t.Run(file, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(releasedDir, file))
			if err != nil {
				t.Fatal(err)
			}
			given := string(values)
			if change != "" {
				head, knative, _ := strings.Cut(given, "\nknative:\n")
				given = head + "\nknative:\n" + strings.Replace(knative, "  enabled: false", change, 1)
			}
			before, after := byIdentity(t, parse(t, text)), byIdentity(t, mustInstall(t, given))
			for id, old := range before {
				now := after[id]
				if now == nil {
					t.Errorf("%s is gone", id)
					continue
				}
				fields := immutable[fmt.Sprint(old["kind"])]
				if fields == nil {
					continue
				}
				was, _, _ := unstructured.NestedFieldNoCopy(old, fields...)
				is, _, _ := unstructured.NestedFieldNoCopy(now, fields...)
				if was == nil || !reflect.DeepEqual(was, is) {
					t.Errorf("%s: %v was %v and is %v, which the API server refuses", id, fields, was, is)
				}
			}
			sideBySide(t, parse(t, text), mustInstall(t, given))
		})
	}
}

// sideBySide compares the selectors of one version with the pods of the other, both ways.
func sideBySide(t *testing.T, before, after objects) {
	t.Helper()
	for _, pair := range [][2]objects{{before, after}, {after, before}} {
		service := find[corev1.Service](t, pair[0], "Service", "svc")
		for name, pod := range pods(t, pair[1]) {
			if selects(t, &metav1.LabelSelector{MatchLabels: service.Spec.Selector}, pod.Labels) != (name == serviceName) {
				t.Errorf("svc and the pods of %s do not fit over an upgrade", name)
			}
			isolated := find[networkingv1.NetworkPolicy](t, pair[0], "NetworkPolicy", name)
			if !selects(t, &isolated.Spec.PodSelector, pod.Labels) {
				t.Errorf("the network policy of %s does not hold over an upgrade", name)
			}
		}
	}
}

// TestUpgradeKeepsWhatIsStored: the versions that are served stay, and so does every field of theirs.
func TestUpgradeKeepsWhatIsStored(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(releasedDir, "plain.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	after := byIdentity(t, mustInstall(t, "{}"))
	found := 0
	for id, old := range byIdentity(t, parse(t, text)) {
		if old["kind"] != "CustomResourceDefinition" {
			continue
		}
		was, is := fieldsByVersion(t, old), fieldsByVersion(t, after[id])
		found += len(was)
		for _, field := range was {
			if !slices.Contains(is, field) {
				t.Errorf("%s: %s is gone", id, field)
			}
		}
	}
	if found < 40 {
		t.Errorf("only %d fields were found", found)
	}
}

// fieldsByVersion lists the fields of the versions that a definition serves.
func fieldsByVersion(t *testing.T, definition map[string]any) (fields []string) {
	t.Helper()
	versions, _, err := unstructured.NestedSlice(definition, "spec", "versions")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(schema any, path string)
	walk = func(schema any, path string) {
		fields = append(fields, path)
		node, _ := schema.(map[string]any)
		if properties, ok := node["properties"].(map[string]any); ok {
			for name, property := range properties {
				walk(property, path+"."+name)
			}
		}
		if items := node["items"]; items != nil {
			walk(items, path+"[]")
		}
	}
	for _, version := range versions {
		version := version.(map[string]any)
		if version["served"] == true {
			schema, _, _ := unstructured.NestedFieldNoCopy(version, "schema", "openAPIV3Schema")
			walk(schema, fmt.Sprint(version["name"]))
		}
	}
	return fields
}

// TestHelmTestAsksTheService: the hooks are objects that Kubernetes knows, in a pod that a restricted namespace takes and that the
// network policy lets in.
func TestHelmTestAsksTheService(t *testing.T) {
	files, err := rendered(t, "{}")
	if err != nil {
		t.Fatal(err)
	}
	hooks := parse(t, []byte(files["kyverno-notation-venafi/templates/tests/service.yaml"]))
	for _, hook := range hooks {
		decode(t, hook, goType(hook))
		if hook.GetAnnotations()["helm.sh/hook"] != "test" {
			t.Errorf("%s is no hook of helm test", identity(hook))
		}
	}
	pod := find[corev1.Pod](t, hooks, "Pod", "kyverno-notation-venafi-test")
	same(t, "arguments", strings.Join(pod.Spec.Containers[0].Args, " "), "probe --caFile=/etc/kyverno-notation-venafi-ca/ca.crt --timeout=60s https://svc.kyverno-notation-venafi.svc/health/readiness")
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if result := policy.AggregateCheckResults(evaluator.EvaluatePod(psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}, &pod.ObjectMeta, &pod.Spec)); !result.Allowed {
		t.Error(result.ForbiddenDetail())
	}
	all := mustInstall(t, "{}")
	opened := find[networkingv1.NetworkPolicy](t, hooks, "NetworkPolicy", "kyverno-notation-venafi-test")
	if !selects(t, opened.Spec.Ingress[0].From[0].PodSelector, pod.Labels) {
		t.Error("the network policy does not let the test in")
	}
	for name, template := range pods(t, all) {
		if selects(t, &opened.Spec.PodSelector, template.Labels) != (name == serviceName) {
			t.Errorf("the test's network policy and the pods of %s", name)
		}
	}
	service := find[corev1.Service](t, all, "Service", "svc")
	if selects(t, &metav1.LabelSelector{MatchLabels: service.Spec.Selector}, pod.Labels) {
		t.Error("svc sends requests to the test")
	}
}

// artifactHub is what ArtifactHub reads of annotations, each YAML in itself.
type artifactHub struct {
	Images []struct {
		Name, Image string
		Platforms   []string
	}
	CRDs     []struct{ Kind, Version, Name, DisplayName, Description string }
	Examples []unstructured.Unstructured
	Links    []struct{ Name, URL string }
	Changes  []struct{ Kind, Description string }
}

// TestArtifactHubsAnnotationsAreTrue holds them against ArtifactHub's lists of words, the image and the definitions.
func TestArtifactHubsAnnotationsAreTrue(t *testing.T) {
	metadata := loadChart(t).Metadata
	var hub artifactHub
	for name, into := range map[string]any{"images": &hub.Images, "crds": &hub.CRDs, "crdsExamples": &hub.Examples, "links": &hub.Links, "changes": &hub.Changes} {
		if err := yaml.Unmarshal([]byte(metadata.Annotations["artifacthub.io/"+name]), into); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	same(t, "category", metadata.Annotations["artifacthub.io/category"], "security")
	same(t, "license", metadata.Annotations["artifacthub.io/license"], "Apache-2.0")
	for _, flag := range []string{"operator", "prerelease"} {
		if _, err := strconv.ParseBool(metadata.Annotations["artifacthub.io/"+flag]); err != nil {
			t.Errorf("%s: %v", flag, err)
		}
	}
	for _, pod := range pods(t, mustInstall(t, "{}")) {
		same(t, "image", pod.Spec.Containers[0].Image, hub.Images[0].Image)
	}
	if built := read(t, "..", "release", "cmd", "release", "main.go"); !strings.Contains(string(built), `"`+strings.Join(hub.Images[0].Platforms, ",")+`"`) {
		t.Errorf("releases are not for %q", hub.Images[0].Platforms)
	}
	var defined, told []string
	for _, file := range loadChart(t).CRDObjects() {
		definition := parse(t, file.File.Data)[0]
		kind, _, _ := unstructured.NestedString(definition.Object, "spec", "names", "kind")
		defined = append(defined, kind+" "+definition.GetName())
	}
	for _, crd := range hub.CRDs {
		told = append(told, crd.Kind+" "+crd.Name)
		if crd.Version == "" || crd.DisplayName == "" || crd.Description == "" {
			t.Errorf("%s is not described", crd.Kind)
		}
	}
	same(t, "definitions", strings.Join(told, ", "), strings.Join(defined, ", "))
	for _, change := range hub.Changes {
		if !slices.Contains([]string{"added", "changed", "deprecated", "removed", "fixed", "security"}, change.Kind) || change.Description == "" {
			t.Errorf("a change of the kind %q: %q", change.Kind, change.Description)
		}
	}
	// A name that is not known is read by nobody.
	for name := range metadata.Annotations {
		known := []string{"category", "changes", "containsSecurityUpdates", "crds", "crdsExamples", "images", "license", "links", "maintainers", "operator",
			"operatorCapabilities", "prerelease", "recommendations", "screenshots", "signKey"}
		if !slices.Contains(known, strings.TrimPrefix(name, "artifacthub.io/")) {
			t.Errorf("ArtifactHub does not know %s", name)
		}
	}
	if len(hub.Links) == 0 || len(hub.Changes) == 0 || len(hub.Examples) == 0 || hub.Examples[0].GetKind() != "TrustPolicy" {
		t.Errorf("links, changes or examples are missing: %+v", hub)
	}
	if metadata.Icon == "" || metadata.AppVersion == "" || len(metadata.Keywords) < 5 || len(metadata.Sources) == 0 || len(metadata.Maintainers) == 0 || metadata.Home == "" {
		t.Errorf("Chart.yaml lacks something: %+v", metadata)
	}
}

// TestTheReadmesOverlayNamesTheImageByDigest builds the overlay in the README with kustomize, for both shapes.
func TestTheReadmesOverlayNamesTheImageByDigest(t *testing.T) {
	_, rest, _ := strings.Cut(string(read(t, "README.md")), "```yaml\n")
	overlay, _, found := strings.Cut(rest, "```\n")
	if !found {
		t.Fatal("the README has no overlay")
	}
	config, err := filepath.Abs(configDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, shape := range []string{plainDir, knativeDir} {
		dir := t.TempDir()
		there, err := filepath.Rel(dir, filepath.Join(config, shape))
		if err != nil {
			t.Fatal(err)
		}
		back, err := filepath.Rel(config, dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(strings.Replace(overlay, "../config/plain", there, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, pod := range pods(t, parse(t, render(t, back))) {
			same(t, shape+", "+name, pod.Spec.Containers[0].Image, "REGISTRY/kyverno-notation-venafi@sha256:"+strings.Repeat("0", 64))
		}
	}
}

// TestTheChartPassesHelmsLinter, with its values and with all that one can set.
func TestTheChartPassesHelmsLinter(t *testing.T) {
	for name, values := range map[string]string{"its own values": "{}", "all values": fullValues} {
		var given map[string]any
		if err := yaml.Unmarshal([]byte(values), &given); err != nil {
			t.Fatal(err)
		}
		result := lint.All(filepath.Join(configDir, "chart"), given, productNamespace, true)
		for _, message := range result.Messages {
			t.Errorf("%s: %v", name, message)
		}
	}
}
