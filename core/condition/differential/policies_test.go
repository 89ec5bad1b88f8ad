package differential

import (
	gocontext "context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	policies "github.com/kyverno/api/api/policies.kyverno.io/v1beta1"
	kyverno "github.com/kyverno/kyverno/api/kyverno/v1"
	kyvernov2 "github.com/kyverno/kyverno/api/kyverno/v2"
	"github.com/kyverno/kyverno/pkg/admissionpolicy"
	"github.com/kyverno/kyverno/pkg/cel/libs"
	mpol "github.com/kyverno/kyverno/pkg/cel/policies/mpol/compiler"
	vpol "github.com/kyverno/kyverno/pkg/cel/policies/vpol/compiler"
	"github.com/kyverno/kyverno/pkg/config"
	"github.com/kyverno/kyverno/pkg/engine/context"
	"github.com/kyverno/kyverno/pkg/engine/jmespath"
	engineutils "github.com/kyverno/kyverno/pkg/engine/utils"
	"github.com/kyverno/kyverno/pkg/engine/variables"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistration "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"sigs.k8s.io/yaml"

	"github.com/nirmata/kyverno-notation-venafi/core/migrate"
)

// TestMigratedPoliciesMatchAlike holds whom a generated ClusterPolicy is for, by Kyverno's engine, against whom the CEL policies
// are for that migrate makes of it, by Kyverno's CEL. All that migrate writes has to compile there.
func TestMigratedPoliciesMatchAlike(t *testing.T) {
	const requests = 300 // for each policy
	g := &policyGenerator{Rand: rand.New(rand.NewPCG(*seed, 15))}
	seen := map[outcome]int{}
	refused := 0
	for i := range *cases / 200 {
		manifest := g.policy()
		pairs, err := migrate.Policies(manifest, migrate.Options{})
		if err != nil {
			t.Fatalf("policy %d: %v\n%s", i, err, manifest)
		}
		rule := ruleOf(t, manifest)
		compiled := compile(t, pairs[0])
		for range requests {
			r := g.request()
			theirs := matchesRule(t, rule, r)
			ours := compiled.matches(t, r)
			seen[theirs]++
			if ours != theirs {
				if refused++; refused < 5 {
					t.Errorf("policy %d: the CEL policies say %s, the ClusterPolicy %s\nrequest %s\n%s\n%s", i, ours, theirs, encoded(r.admission), manifest, compiled.text)
				}
			}
		}
	}
	t.Logf("%v", seen)
	if seen[met] < 1000 || seen[notMet] < 1000 {
		t.Errorf("requests matched %d times and did not %d times; that shows little", seen[met], seen[notMet])
	}
}

// TestGoldenPoliciesCompile: so do those that the golden files of migrate hold.
func TestGoldenPoliciesCompile(t *testing.T) {
	for _, text := range goldenPolicies(t) {
		compileText(t, text)
	}
}

// celPolicies are a pair, compiled.
type celPolicies struct {
	text        string
	constraints admissionregistration.MatchResources
	mutating    *mpol.Policy // nil where the rule only validates
	validating  *vpol.Policy // its match alone, with a validation that is true
}

func compile(t *testing.T, pair migrate.Pair) celPolicies {
	t.Helper()
	text, err := pair.YAML()
	if err != nil {
		t.Fatal(err)
	}
	return compileText(t, string(text))
}

func compileText(t *testing.T, text string) (c celPolicies) {
	t.Helper()
	c.text = text
	for document := range strings.SplitSeq(text, "\n---\n") {
		if strings.Contains(document, "kind: MutatingPolicy\n") {
			var policy policies.MutatingPolicy
			strictly(t, document, &policy)
			compiled, errs := mpol.NewCompiler().Compile(&policy, nil)
			if len(errs) > 0 {
				t.Fatalf("%v\n%s", errs, document)
			}
			c.mutating, c.constraints = compiled, *policy.Spec.MatchConstraints
			continue
		}
		var policy policies.ValidatingPolicy
		strictly(t, document, &policy)
		if _, errs := vpol.NewCompiler().Compile(&policy, nil); len(errs) > 0 {
			t.Fatalf("%v\n%s", errs, document)
		}
		policy.Spec.Variables, policy.Spec.Validations = nil, []admissionregistration.Validation{{Expression: "true"}}
		compiled, errs := vpol.NewCompiler().Compile(&policy, nil)
		if len(errs) > 0 {
			t.Fatalf("%v\n%s", errs, document)
		}
		c.validating, c.constraints = compiled, *policy.Spec.MatchConstraints
	}
	return c
}

func strictly(t *testing.T, document string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(document), into); err != nil {
		t.Fatalf("%v\n%s", err, document)
	}
}

// matches tells whether both policies are for a request.
func (c celPolicies) matches(t *testing.T, r request) outcome {
	t.Helper()
	if !c.selects(t, r) {
		return notMet
	}
	attributes := admission.NewAttributesRecord(&r.object, &r.oldObject, schema.GroupVersionKind(r.admission.Kind), r.admission.Namespace, r.admission.Name,
		schema.GroupVersionResource(r.admission.Resource), r.admission.SubResource, admission.Operation(r.admission.Operation), nil, false, admissionpolicy.NewUser(r.admission.UserInfo))
	result, err := c.validating.Evaluate(gocontext.Background(), nil, attributes, &r.admission, r.namespace, libs.NewFakeContextProvider())
	o := notMet
	switch {
	case err != nil:
		return failed
	case result != nil:
		o = met
	}
	if c.mutating != nil {
		if also := c.mutating.MatchesConditions(gocontext.Background(), attributes, &r.admission, r.namespace, libs.NewFakeContextProvider()); also != (o == met) {
			t.Errorf("the MutatingPolicy is for it: %t, the ValidatingPolicy: %s", also, o)
		}
	}
	return o
}

// selects is what the API server decides by matchConstraints.
func (c celPolicies) selects(t *testing.T, r request) bool {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(c.constraints.NamespaceSelector)
	if err != nil {
		t.Fatal(err)
	}
	if c.constraints.NamespaceSelector != nil && !selector.Matches(labels.Set(r.namespace.Labels)) {
		return false
	}
	resource := strings.TrimSuffix(r.admission.Resource.Resource+"/"+r.admission.SubResource, "/")
	return slices.ContainsFunc(c.constraints.ResourceRules, func(rule admissionregistration.NamedRuleWithOperations) bool {
		return slices.Contains(rule.APIGroups, r.admission.Resource.Group) && slices.Contains(rule.Resources, resource) &&
			slices.Contains(rule.Operations, admissionregistration.OperationType(r.admission.Operation))
	})
}

func ruleOf(t *testing.T, manifest []byte) kyverno.Rule {
	t.Helper()
	var policy kyverno.ClusterPolicy
	if err := yaml.UnmarshalStrict(manifest, &policy); err != nil {
		t.Fatalf("%v\n%s", err, manifest)
	}
	return policy.Spec.Rules[0]
}

// matchesRule tells whether Kyverno's engine would apply a rule.
func matchesRule(t *testing.T, rule kyverno.Rule, r request) outcome {
	t.Helper()
	info := kyvernov2.RequestInfo{AdmissionUserInfo: r.admission.UserInfo}
	err := engineutils.MatchesResourceDescription(r.object, rule, info, r.namespace.Labels, "", schema.GroupVersionKind(r.admission.Kind), r.admission.SubResource, kyverno.AdmissionOperation(r.admission.Operation))
	if err != nil {
		return notMet
	}
	ctx := context.NewContext(jmespath.New(config.NewDefaultConfiguration(false)))
	if err := ctx.AddRequest(r.admission); err != nil {
		t.Fatal(err)
	}
	if rule.GetAnyAllConditions() == nil {
		return met
	}
	conditions, err := engineutils.TransformConditions(rule.GetAnyAllConditions())
	if err != nil {
		t.Fatal(err)
	}
	ok, _, err := variables.EvaluateConditions(logr.Discard(), ctx, conditions)
	switch {
	case err != nil:
		return failed
	case ok:
		return met
	}
	return notMet
}

// request is an admission request with its parts.
type request struct {
	admission         admissionv1.AdmissionRequest
	object, oldObject unstructured.Unstructured
	namespace         *corev1.Namespace
}

// policyGenerator makes policies and requests from few names, so that they meet.
type policyGenerator struct{ *rand.Rand }

func one[T any](g *policyGenerator, of ...T) T { return of[g.IntN(len(of))] }

// some gives between one and three.
func some[T any](g *policyGenerator, of ...T) []T {
	all := []T{one(g, of...)}
	for g.IntN(2) == 0 && len(all) < 3 {
		all = append(all, one(g, of...))
	}
	return all
}

type object = map[string]any

func (g *policyGenerator) policy() []byte {
	rule := object{
		"name": "rule",
		"context": []object{{"name": "response", "apiCall": object{
			"method": "POST", "service": object{"url": "https://svc.example/checkimages"},
			"data": []object{{"key": "images", "value": "{{ images }}"}, {"key": "trustPolicy", "value": one(g, "tp", "tp-{{ request.namespace }}", `a"b\c{{request.userInfo.username}}`)}},
		}}},
		"match": g.block(true),
		"mutate": object{"foreach": []object{{
			"list": "response.results", "patchesJson6902": "- path: '{{ element.path }}'\n  op: replace\n  value: '{{ element.image }}'",
		}}},
	}
	if g.IntN(2) == 0 {
		rule["exclude"] = g.block(false)
	}
	switch g.IntN(6) {
	case 0:
		rule["preconditions"] = object{"all": g.conditions()}
	case 1:
		rule["preconditions"] = object{"any": g.conditions(), "all": g.conditions()}
	case 2:
		rule["preconditions"] = g.conditions()
	}
	text, err := yaml.Marshal(object{
		"apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": object{"name": "generated"},
		"spec": object{"failurePolicy": "Fail", "rules": []object{rule}},
	})
	if err != nil {
		panic(err)
	}
	return text
}

func (g *policyGenerator) block(isMatch bool) object {
	filters := []object{}
	for range 1 + g.IntN(3) {
		filters = append(filters, g.filter(isMatch))
	}
	switch g.IntN(3) {
	case 0:
		return filters[0]
	case 1:
		return object{"all": filters}
	}
	return object{"any": filters}
}

func (g *policyGenerator) filter(isMatch bool) object {
	resources, filter := object{}, object{}
	kinds := []string{"Pod", "v1/Pod", "Deployment", "apps/v1/Deployment", "apps/*/StatefulSet", "*/Job", "CronJob", "Pod/ephemeralcontainers", "Pod.ephemeralcontainers"}
	if !isMatch {
		kinds = append(kinds, "*", "*/*", "Pod/*", "*Set", "apps/v1/*", "a*/*/Deploymen?", "*/ephemeralcontainers", "Secret")
	}
	if isMatch || g.IntN(2) == 0 {
		resources["kinds"] = append(some(g, kinds...), some(g, kinds...)...)
	}
	namespaces := []string{"team-a", "team-b", "team-*", "*-b", "prod", "pro?", "*", "?????-a", "t*m-?"}
	if g.IntN(3) == 0 {
		resources["namespaces"] = some(g, namespaces...)
	}
	if g.IntN(7) == 0 {
		resources["names"] = some(g, "web", "web-*", "api?", "*", "w.b", "db-0")
	}
	if g.IntN(6) == 0 {
		resources["name"] = one(g, "web*", "api1")
	}
	if operations := one(g, nil, nil, nil, nil, []string{"CREATE"}, []string{"UPDATE"}, []string{"UPDATE", "CREATE"}); operations != nil {
		resources["operations"] = operations
	} else if !isMatch && g.IntN(6) == 0 {
		resources["operations"] = one(g, []string{"DELETE"}, []string{"DELETE", "UPDATE"})
	}
	if g.IntN(7) == 0 {
		resources["annotations"] = object{one(g, "example.com/skip", "example.com/*", "*"): one(g, "yes", "y*", "*", "n?")}
	}
	if g.IntN(7) == 0 {
		resources["selector"] = g.selector("app", "tier")
	}
	if g.IntN(7) == 0 {
		resources["namespaceSelector"] = g.selector("env", "kubernetes.io/metadata.name")
	}
	if g.IntN(7) == 0 || len(resources) == 0 {
		filter["subjects"] = some(g,
			object{"kind": "User", "name": "alice"}, object{"kind": "User", "name": "*"}, object{"kind": "User", "name": "system:*:ci"},
			object{"kind": "Group", "name": "ops"}, object{"kind": "Group", "name": "o?s*"}, object{"kind": "Group", "name": "absent"},
			object{"kind": "ServiceAccount", "name": "ci", "namespace": "builds"}, object{"kind": "ServiceAccount", "name": "*", "namespace": "build?"})
	}
	if len(resources) > 0 {
		filter["resources"] = resources
	}
	return filter
}

func (g *policyGenerator) selector(keys ...string) object {
	selector := object{}
	if g.IntN(2) == 0 {
		selector["matchLabels"] = object{one(g, keys[0], keys[1], "app*", "*"): one(g, "web", "prod", "w*", "?eb", "*", "team-a")}
	}
	if g.IntN(2) == 0 || len(selector) == 0 {
		requirement := object{"key": one(g, keys...), "operator": one(g, "In", "NotIn", "Exists", "DoesNotExist")}
		if strings.HasSuffix(requirement["operator"].(string), "In") {
			requirement["values"] = some(g, "web", "prod", "team-a", "front")
		}
		selector["matchExpressions"] = []object{requirement}
	}
	return selector
}

func (g *policyGenerator) conditions() []object {
	conditions := []object{}
	for range 1 + g.IntN(2) {
		conditions = append(conditions, g.condition())
	}
	return conditions
}

func (g *policyGenerator) condition() object {
	list := some(g, "CREATE", "team-*", "alice", "ops", "o*", "Pod", "*", "none", "web", "system:serviceaccount:builds:ci", `a"b`)
	switch g.IntN(3) {
	case 0:
		return object{
			"key": one(g, "{{ request.operation }}", "{{ request.namespace }}", "{{request.object.metadata.namespace}}", "{{ request.userInfo.username }}", "{{ request.kind.kind }}",
				"{{ request.oldObject.metadata.labels.app || 'none' }}", "{{ request.oldObject.metadata.deletionTimestamp || '' }}", "{{ request.subResource || '' }}",
				"{{ request.kind.kind }}-{{ request.namespace }}", "{{ request.oldObject.metadata.annotations.\"example.com/skip\" || '' }}"),
			"operator": one(g, "Equals", "NotEquals", "Equal", "NotEqual"),
			"value":    one(g, "CREATE", "", "team-*", "alice", "*", "?*", "none", "Pod-team-a", "web", "ephemeralcontainers", "yes"),
		}
	case 1:
		return object{
			"key":      one(g, "{{ request.operation }}", "{{ request.namespace }}", "{{ request.userInfo.username }}", "{{ request.userInfo.groups }}", "{{ request.oldObject.metadata.labels.app || 'none' }}"),
			"operator": one(g, "AnyIn", "AllIn", "AnyNotIn", "AllNotIn"),
			"value":    list,
		}
	}
	return object{
		"key": one(g,
			"{{ request.operation != 'UPDATE' || request.object.spec != request.oldObject.spec }}",
			"{{ (request.oldObject.metadata.deletionTimestamp || '') == '' || request.object.spec != request.oldObject.spec }}",
			"{{ request.operation == 'UPDATE' && request.object.spec == request.oldObject.spec }}",
			"{{ starts_with(request.namespace, 'team-') && !contains(request.userInfo.groups, 'ops') }}",
			"{{ ends_with(request.userInfo.username, 'ci') || contains(request.namespace, '-') }}",
			"{{ request.namespace != 'prod' && (request.operation == 'CREATE' || !(request.kind.kind == 'Pod')) }}"),
		"operator": one(g, "Equals", "NotEquals"),
		"value":    one(g, true, false),
	}
}

func (g *policyGenerator) request() (r request) {
	kind := one(g,
		[]string{"", "Pod", "pods", ""}, []string{"", "Pod", "pods", ""}, []string{"", "Pod", "pods", "ephemeralcontainers"},
		[]string{"apps", "Deployment", "deployments", ""}, []string{"apps", "StatefulSet", "statefulsets", ""},
		[]string{"batch", "Job", "jobs", ""}, []string{"batch", "CronJob", "cronjobs", ""})
	namespace := one(g, "team-a", "team-b", "prod", "kube-system")
	r.namespace = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{"kubernetes.io/metadata.name": namespace}}}
	if g.IntN(2) == 0 {
		r.namespace.Labels["env"] = one(g, "prod", "web", "")
	}
	r.object = g.object(kind, namespace)
	operation := one(g, admissionv1.Create, admissionv1.Update)
	if kind[3] != "" {
		operation = admissionv1.Update
	}
	if operation == admissionv1.Update {
		r.oldObject = g.object(kind, namespace)
		_ = unstructured.SetNestedField(r.oldObject.Object, r.object.GetName(), "metadata", "name")
		if g.IntN(2) == 0 {
			_ = unstructured.SetNestedField(r.oldObject.Object, "2026-01-01T00:00:00Z", "metadata", "deletionTimestamp")
		}
		if kind[3] != "" { // where the API server keeps what is stored
			r.object.Object["metadata"] = r.oldObject.DeepCopy().Object["metadata"]
		}
	}
	user := authenticationv1.UserInfo{Username: one(g, "alice", "bob", "system:serviceaccount:builds:ci"), Groups: some(g, "ops", "system:authenticated", "CREATE")}
	r.admission = admissionv1.AdmissionRequest{
		UID: "1", Kind: metav1.GroupVersionKind{Group: kind[0], Version: "v1", Kind: kind[1]}, Resource: metav1.GroupVersionResource{Group: kind[0], Version: "v1", Resource: kind[2]},
		SubResource: kind[3], Name: r.object.GetName(), Namespace: namespace, Operation: operation, UserInfo: user,
		Object: raw(r.object), OldObject: raw(r.oldObject),
	}
	return r
}

func raw(o unstructured.Unstructured) runtime.RawExtension {
	if o.Object == nil {
		return runtime.RawExtension{}
	}
	text, err := json.Marshal(o.Object)
	if err != nil {
		panic(err)
	}
	return runtime.RawExtension{Raw: text}
}

func (g *policyGenerator) object(kind []string, namespace string) unstructured.Unstructured {
	metadata := object{"namespace": namespace}
	metadata[one(g, "name", "name", "name", "generateName")] = one(g, "web", "web-1", "api1", "db-0")
	if g.IntN(3) > 0 {
		metadata["labels"] = object{one(g, "app", "tier", "apple"): one(g, "web", "front", "prod", "")}
	}
	if g.IntN(3) == 0 {
		metadata["annotations"] = object{one(g, "example.com/skip", "other"): one(g, "yes", "no", "")}
	}
	return unstructured.Unstructured{Object: object{
		"apiVersion": strings.TrimPrefix(kind[0]+"/v1", "/"), "kind": kind[1], "metadata": metadata,
		"spec": object{"containers": []any{object{"name": "a", "image": fmt.Sprint("a:", g.IntN(2))}}},
	}}
}

func goldenPolicies(t *testing.T) (texts []string) {
	t.Helper()
	files, err := filepath.Glob("../../migrate/testdata/golden/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	return texts
}
