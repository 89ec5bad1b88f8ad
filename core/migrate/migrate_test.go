package migrate_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"sigs.k8s.io/yaml"

	"github.com/nirmata/kyverno-notation-venafi/core/migrate"
)

var update = flag.Bool("update", false, "write the golden files")

var options = migrate.Options{Resources: []migrate.Resource{{Group: "argoproj.io", Version: "*", Kind: "Rollout", Plural: "rollouts"}}}

// TestPolicies compares what is made of whole policies with golden files.
func TestPolicies(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	inputs = append(inputs, "../../config/samples/clusterpolicy.yaml", "../../config/samples/clusterpolicy-attestations.yaml")
	for _, input := range inputs {
		t.Run(filepath.Base(input), func(t *testing.T) {
			golden := filepath.Join("testdata", "golden", filepath.Base(input))
			got := print(t, input)
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s is not what is made now; see what go test ./core/migrate -update changes", golden)
			}
		})
	}
}

// print gives the documents that are made of a file.
func print(t *testing.T, file string) string {
	t.Helper()
	manifest, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pairs, err := migrate.Policies(manifest, options)
	if err != nil {
		t.Fatal(err)
	}
	var documents []string
	for _, pair := range pairs {
		text, err := pair.YAML()
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, string(text))
	}
	return strings.Join(documents, "---\n")
}

// parse reads documents.
func parse(t *testing.T, text string) (objects []map[string]any) {
	t.Helper()
	for document := range strings.SplitSeq(text, "\n---\n") {
		var object map[string]any
		if err := yaml.UnmarshalStrict([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		objects = append(objects, object)
	}
	return objects
}

// TestTheSampleBecomesTheSamples: the ClusterPolicy of the samples becomes the CEL policies of the samples, but for names and
// for how they say whom they are for, as a selector has no patterns. Their last match conditions are those of the samples.
func TestTheSampleBecomesTheSamples(t *testing.T) {
	made := parse(t, print(t, "../../config/samples/clusterpolicy.yaml"))
	if len(made) != 2 {
		t.Fatalf("%d policies", len(made))
	}
	for i, sample := range []string{"mutatingpolicy.yaml", "validatingpolicy.yaml"} {
		text, err := os.ReadFile("../../config/samples/" + sample)
		if err != nil {
			t.Fatal(err)
		}
		want := parse(t, string(text))[0]
		inSample := len(want["spec"].(map[string]any)["matchConditions"].([]any))
		for _, policy := range []map[string]any{made[i], want} {
			delete(policy, "metadata")
			spec := policy["spec"].(map[string]any)
			conditions := spec["matchConditions"].([]any)
			if len(conditions) < inSample {
				t.Fatalf("%s has the conditions %v", sample, conditions)
			}
			conditions = conditions[len(conditions)-inSample:]
			for i := range conditions {
				conditions[i] = conditions[i].(map[string]any)["expression"]
			}
			spec["matchConditions"] = conditions
			delete(spec["matchConstraints"].(map[string]any), "namespaceSelector")
			oneLine(policy)
		}
		if !reflect.DeepEqual(made[i], want) {
			have, _ := yaml.Marshal(made[i])
			wanted, _ := yaml.Marshal(want)
			t.Errorf("%s is\n%s\nand made is\n%s", sample, wanted, have)
		}
	}
}

// oneLine makes white space in texts one space each.
func oneLine(value any) any {
	switch v := value.(type) {
	case string:
		return strings.Join(strings.Fields(v), " ")
	case map[string]any:
		for key := range v {
			v[key] = oneLine(v[key])
		}
	case []any:
		for i := range v {
			v[i] = oneLine(v[i])
		}
	}
	return value
}

// named is what every policy says of the request that is admitted.
const named = `{"operation": dyn(request.operation), "namespace": dyn(has(request.namespace) ? request.namespace : ""),
"name": dyn(has(object.metadata.name) ? object.metadata.name : has(object.metadata.generateName) ? object.metadata.generateName + "*" : "")}`

// TestTextsStayTexts: no text of the policy adds a field, a document or code to what is made of it.
func TestTextsStayTexts(t *testing.T) {
	text := print(t, "testdata/injection.yaml")
	made := parse(t, text)
	if len(made) != 2 {
		t.Fatalf("%d policies", len(made))
	}
	for _, r := range text {
		if r != '\n' && !unicode.IsGraphic(r) {
			t.Errorf("%+q is in what is printed", r)
		}
	}
	for _, policy := range made {
		if policy["apiVersion"] != "policies.kyverno.io/v1" || len(policy) != 4 || len(policy["metadata"].(map[string]any)) != 2 {
			t.Errorf("made is %v", policy)
		}
		spec := policy["spec"].(map[string]any)
		quotes := regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
		for _, variable := range spec["variables"].([]any) {
			expression := variable.(map[string]any)["expression"].(string)
			if variable.(map[string]any)["name"] == "admission" && expression == named {
				continue // the same in all policies
			}
			code := quotes.ReplaceAllString(expression, `""`)
			if strings.Contains(code, "metadata") || strings.Contains(code, "false") {
				t.Errorf("a text is code: %s", code)
			}
		}
		code := quotes.ReplaceAllString(spec["matchConditions"].([]any)[0].(map[string]any)["expression"].(string), `""`)
		if strings.Contains(code, "true") {
			t.Errorf("a text is code: %s", code)
		}
	}
}

// minimal is a policy with places to put something else.
const minimal = `apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata:
  name: minimal
spec:
  failurePolicy: Fail
  rules:
  - name: rule
    match:
      any:
      - resources:
          kinds: [Pod]
          operations: [CREATE]
    exclude:
      any:
      - resources:
          namespaces: [a]
    preconditions:
      all:
      - {key: "{{ request.namespace }}", operator: Equals, value: b}
    context:
    - name: response
      apiCall:
        method: POST
        data:
        - {key: images, value: "{{ images }}"}
        - {key: trustPolicy, value: tp}
        service:
          url: https://svc.example/checkimages
    mutate:
      foreach:
      - list: response.results
        patchesJson6902: |-
          - path: '{{ element.path }}'
            op: replace
            value: '{{ element.image }}'
`

// validates is a rule that does not mutate.
const validates = `  - name: validates
    match: {any: [{resources: {kinds: [Pod, Job]}}]}
    context:
    - {name: r, apiCall: {method: POST, data: [{key: images, value: "{{ images }}"}], service: {url: "https://svc.example/checkimages"}}}
    validate: {deny: {conditions: {any: [{key: "{{ r.verified }}", operator: NotEquals, value: true}]}}}
`

// TestRefusals replaces a part of a policy that can be carried over, and wants errors with line and field.
func TestRefusals(t *testing.T) {
	if _, err := migrate.Policies([]byte(minimal), options); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ from, to, want string }{
		"an unknown field of the policy":              {"spec:\n", "spec:\n  matchLabels: {}\n", "line 6: spec.matchLabels: is not known here"},
		"an unknown field of a rule":                  {"    exclude:", "    excludes:", "line 14: spec.rules[0].excludes: is not known here"},
		"an unknown field of a filter":                {"          namespaces: [a]", "          namespace: [a]", "line 17: spec.rules[0].exclude.any[0].resources.namespace: is not known here"},
		"a field twice":                               {"  failurePolicy: Fail\n", "  failurePolicy: Fail\n  failurePolicy: Ignore\n", "line 7: spec.failurePolicy: stands there twice"},
		"an empty field":                              {"          namespaces: [a]", "          namespaces:", "line 17: spec.rules[0].exclude.any[0].resources.namespaces: is empty"},
		"an empty list":                               {"namespaces: [a]", "namespaces: []", "namespaces: is no list with an entry"},
		"a filter that selects nothing":               {"namespaces: [a]", "{}", "exclude.any[0]: selects nothing"},
		"an anchor":                                   {"namespaces: [a]", "namespaces: &x [a]", "uses an anchor"},
		"a merge":                                     {"namespaces: [a]", "<<: {}\n          namespaces: [a]", "has a key that is no text"},
		"a word that YAML versions read differently":  {"namespaces: [a]", "namespaces: [no]", `"no", which versions of YAML read in different ways`},
		"a number that they read differently":         {"namespaces: [a]", "namespaces: [012]", `"012", which versions`},
		"a tag":                                       {"namespaces: [a]", "namespaces: [!!str a]", "has a tag"},
		"a number for a text":                         {"namespaces: [a]", "namespaces: [12]", "namespaces[0]: is no text"},
		"a failure policy that is none":               {"failurePolicy: Fail", "failurePolicy: Maybe", `line 6: spec.failurePolicy: is "Maybe"; known are Fail, Ignore`},
		"a timeout that is none":                      {"failurePolicy: Fail", "webhookTimeoutSeconds: 31", "is no number from 1 to 30"},
		"a policy that is off":                        {"failurePolicy: Fail", "admission: false", "does nothing at admission"},
		"roles":                                       {"      - resources:\n          namespaces: [a]", "      - clusterRoles: [cluster-admin]", "line 16: spec.rules[0].exclude.any[0].clusterRoles: goes by roles"},
		"a kind that is not known":                    {"kinds: [Pod]", "kinds: [Pod, Widget]", "line 12: spec.rules[0].match.any[0].resources.kinds[1]: is a kind whose resource is not known here; say it with --resource"},
		"all kinds":                                   {"kinds: [Pod]", `kinds: ["*"]`, "is a pattern of kinds"},
		"a pattern of groups":                         {"kinds: [Pod]", `kinds: ["*.io/v1/Rollout"]`, "is a pattern of groups or versions"},
		"a version that is not served":                {"kinds: [Pod]", "kinds: [apps/v1beta1/Deployment]", "Kubernetes serves Deployment as apps/v1"},
		"a subresource":                               {"kinds: [Pod]", "kinds: [Pod/status]", "has a subresource in which no images are"},
		"all subresources":                            {"kinds: [Pod]", `kinds: ["Pod/*"]`, "has a subresource in which no images are"},
		"a subresource in an exclude":                 {"namespaces: [a]", "kinds: [Pod/status]", "has a subresource that no image is in"},
		"no kinds":                                    {"          kinds: [Pod]\n", "", "match.any[0]: names no kinds"},
		"deletions":                                   {"operations: [CREATE]", "operations: [CREATE, DELETE]", "in which no image comes in"},
		"any beside a filter":                         {"    exclude:\n", "    exclude:\n      resources: {namespaces: [b]}\n", "has any or all beside other fields"},
		"any beside all":                              {"    exclude:\n", "    exclude:\n      all:\n      - resources: {namespaces: [b]}\n", "stands beside another list or field"},
		"a name that no namespace has":                {"namespaces: [a]", `namespaces: ["!a"]`, `line 17: spec.rules[0].exclude.any[0].resources.namespaces[0]: is "!a", which no namespace is called`},
		"a name of a namespace that is too long":      {"namespaces: [a]", "namespaces: [" + strings.Repeat("a", 64) + "]", "which no namespace is called"},
		"a key that no label has":                     {"namespaces: [a]", `namespaceSelector: {matchLabels: {"a b": c}}`, `matchLabels.a b: has the key "a b", which no label has`},
		"a prefix that no label has":                  {"namespaces: [a]", `namespaceSelector: {matchLabels: {"a..b/c": d}}`, `has the key "a..b/c", which no label has`},
		"a value that no label has":                   {"namespaces: [a]", `namespaceSelector: {matchLabels: {a: "b c"}}`, `has the value "b c", which no label has`},
		"a pattern where labels have none":            {"namespaces: [a]", `namespaceSelector: {matchExpressions: [{key: a, operator: In, values: ["b*"]}]}`, `has the value "b*", which no label has`},
		"a subject of no kind":                        {"      - resources:\n          namespaces: [a]", "      - subjects: [{kind: Robot, name: x}]", `is "Robot"; known are User, Group, ServiceAccount`},
		"a selector that is none":                     {"namespaces: [a]", "selector: {matchExpressions: [{key: a, operator: In}]}", "needs a key, an operator, and values"},
		"a precondition on a label":                   {"request.namespace }}", "request.object.metadata.labels.skip || '' }}", "line 20: spec.rules[0].preconditions.all[0].key: has the expression \"request.object.metadata.labels.skip || ''\", which cannot be carried over: it goes by what the object says of itself"},
		"on the new object's deletion":                {"request.namespace }}", "request.object.metadata.deletionTimestamp || '' }}", "goes by what the object says of itself"},
		"on its owner":                                {"request.namespace }}", "request.object.metadata.ownerReferences[0].kind }}", "a part of its path is no field"},
		"on its name":                                 {"request.namespace }}", "request.object.metadata.name }}", "goes by what the object says of itself"},
		"on the name of the request":                  {"request.namespace }}", "request.name }}", "goes by what the object says of itself"},
		"on a part of its spec":                       {"request.namespace }}", "request.object.spec.hostNetwork }}", "goes by what the object says of itself"},
		"on its spec as text":                         {"request.namespace }}", "request.object.spec }}", "compares values of two types"},
		"on everything":                               {"request.namespace }}", "to_string(request.object) }}", "of functions only"},
		"on roles":                                    {"request.namespace }}", "request.clusterRoles }}", "is not told roles"},
		"on what may be absent":                       {"request.namespace }}", "request.oldObject.metadata.deletionTimestamp }}", "may be absent; write || ''"},
		"on what may be absent in a comparison":       {"request.namespace }}", "request.oldObject.metadata.deletionTimestamp == '' }}", "may be absent; write || ''"},
		"on a context entry":                          {"request.namespace }}", "response.verified }}", "the variable is not known here"},
		"on an expression that is none":               {"request.namespace }}", "request..namespace }}", "which is no JMESPath"},
		"on a list of things":                         {"request.namespace }}", "[request.namespace] }}", "of JMESPath only"},
		"on a number":                                 {"value: b}", `value: "10"}`, "compares as a quantity or duration"},
		"on a duration":                               {"value: b}", "value: 1h}", "compares as a quantity or duration"},
		"on another variable":                         {"value: b}", `value: "{{ request.userInfo.username }}"}`, "has {{ }} in what is compared with"},
		"with an operator that is not known":          {"operator: Equals", "operator: GreaterThan", `is "GreaterThan"; known are`},
		"with a text for a list":                      {"operator: Equals", "operator: AnyIn", "is no list; with AnyIn write one"},
		"of two types":                                {"value: b}", "value: true}", "compares values of two types"},
		"a reference":                                 {"value: b}", "value: $(./key)}", "has $( )"},
		"a trust policy by a label":                   {"value: tp}", `value: "tp-{{ request.object.metadata.labels.team }}"}`, "goes by what the object says of itself"},
		"a trust policy by an annotation of the old":  {"value: tp}", `value: "tp-{{ request.oldObject.metadata.labels.team }}"}`, "may be absent"},
		"a trust policy that is no text":              {"value: tp}", "value: [tp]}", "is no text"},
		"a trust policy of groups":                    {"value: tp}", `value: "{{ request.userInfo.groups }}"}`, "is no text"},
		"a field that the service does not know":      {"key: trustPolicy", "key: trustpolicy", `sends the field "trustpolicy"`},
		"a part of the images":                        {"{{ images }}", "{{ images.containers }}", "sends a part of the object"},
		"no object":                                   {"key: images", "key: metadata", "sends no object"},
		"a default for the answer":                    {"        method: POST", "        method: POST\n        default: {results: []}", "line 25: spec.rules[0].context[0].apiCall.default: admits what could not be verified"},
		"a part of the answer":                        {"        method: POST", "        method: POST\n        jmesPath: results", "changes the answer"},
		"a call that sends nothing":                   {"        method: POST", "        method: GET", "needs method: POST"},
		"headers":                                     {"          url: https", "          headers: [{key: a, value: b}]\n          url: https", "sends headers"},
		"another path":                                {"/checkimages", "/checkimage", "makes 0 calls to /checkimages"},
		"an address that varies":                      {"https://svc.example/checkimages", `"https://{{ request.namespace }}/checkimages"`, "makes 0 calls to /checkimages"},
		"another list":                                {"list: response.results", "list: request.object.spec.containers", "only response.results can be carried over"},
		"another patch":                               {"            op: replace", "            op: add", "does more than set"},
		"two patches":                                 {"          - path: '{{ element.path }}'\n", "          - path: /x\n          - path: '{{ element.path }}'\n", "does more than set"},
		"a precondition of the patch":                 {"      - list:", "      - preconditions: {all: []}\n        list:", "preconditions: is not known here"},
		"an attestation with an expression":           {"value: tp}", `value: tp}` + "\n        - {key: attestations, value: [{imageReference: '{{ request.object.metadata.name }}'}]}", "goes by what the object says of itself"},
		"an attestation with a key that is one":       {"value: tp}", `value: tp}` + "\n        - {key: attestations, value: [{'{{ request.namespace }}': x}]}", "has an expression for a key"},
		"a number over 2^53":                          {"value: tp}", `value: tp}` + "\n        - {key: attestations, value: [{x: 9007199254740993}]}", "over 2^53"},
		"an expression in another":                    {"value: tp}", `value: "{{ request.object.metadata.annotations.{{ request.namespace }} }}"}`, "one expression within another"},
		"an expression that does not end":             {"value: tp}", `value: "tp-{{ request.namespace"}`, "has {{ without }}"},
		"an entry that hides the request":             {"    - name: response", "    - {name: request.namespace, variable: {value: b}}\n    - name: response", `has the name "request.namespace", which hides`},
		"an attestation that nests":                   {"value: tp}", "value: tp}\n        - {key: attestations, value: " + strings.Repeat("[", 40) + "1" + strings.Repeat("]", 40) + "}", "nests over 32 levels"},
		"image references that are no list":           {"value: tp}", `value: tp}` + "\n        - {key: imageReferences, value: ghcr.io/*}", "is no list of texts"},
		"a match condition by the object":             {"failurePolicy: Fail", "webhookConfiguration: {matchConditions: [{name: a, expression: 'object.metadata.name == \"x\"'}]}", "names object, by which whoever writes the object could exempt it"},
		"a match condition by the object's name":      {"failurePolicy: Fail", "webhookConfiguration: {matchConditions: [{name: a, expression: 'request . name == \"x\"'}]}", "names request . name"},
		"a match condition by rights":                 {"failurePolicy: Fail", "webhookConfiguration: {matchConditions: [{name: a, expression: 'authorizer.group(\"\").check(\"x\").allowed()'}]}", "names authorizer"},
		"a match condition with a name that is none":  {"failurePolicy: Fail", "webhookConfiguration: {matchConditions: [{name: a b, expression: 'true'}]}", `is "a b", which no condition of a webhook is called`},
		"too many conditions":                         {"      - {key: ", strings.Repeat("      - {key: '{{ request.namespace }}', operator: Equals, value: b}\n", 64) + "      - {key: ", "line 8: spec.rules[0]: has over 64 conditions"},
		"a match condition with a name that is used":  {"failurePolicy: Fail", "webhookConfiguration: {matchConditions: [{name: exclude, expression: 'true'}]}", "is a name that the new policies use"},
		"an action that depends on the namespace":     {"  rules:\n", "  validationFailureActionOverrides: [{action: audit, namespaces: [a]}]\n  rules:\n" + validates, "line 7: spec.validationFailureActionOverrides: depends on the namespace"},
		"one rule or another":                         {"  failurePolicy: Fail\n  rules:\n", "  applyRules: One\n  rules:\n  - name: other\n", "line 6: spec.applyRules: is One"},
		"a rule of another kind":                      {"    mutate:\n", "    generate: {}\n    mutate:\n", "generate: is not known here"},
		"a rule that does both":                       {"    mutate:\n", "    validate: {}\n    mutate:\n", "needs mutate or validate"},
		"another document":                            {"apiVersion: kyverno.io/v1\n", "apiVersion: v1\nkind: Namespace\n---\napiVersion: kyverno.io/v1\n", `line 1: is "v1 Namespace", and no ClusterPolicy`},
		"a policy of a namespace":                     {"kind: ClusterPolicy", "kind: Policy", `"kyverno.io/v1 Policy"`},
		"an unknown version":                          {"kyverno.io/v1", "kyverno.io/v3", `"kyverno.io/v3 ClusterPolicy"`},
		"no YAML":                                     {"spec:\n", "spec: [\n", "is no YAML"},
		"a name that is none":                         {"name: minimal", `name: "a b"`, "line 1: has no name that Kubernetes takes"},
		"an exclude that names nothing but deletions": {"namespaces: [a]", "operations: [DELETE]", ""},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			if !strings.Contains(minimal, test.from) {
				t.Fatalf("there is no %q", test.from)
			}
			pairs, err := migrate.Policies([]byte(strings.Replace(minimal, test.from, test.to, 1)), options)
			if test.want == "" {
				if err != nil || len(pairs) != 1 {
					t.Fatal(err)
				}
				return
			}
			var found migrate.Errors
			if !errors.As(err, &found) || pairs != nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("%v\nwant %s", err, test.want)
			}
			for _, each := range found {
				if each.Line == 0 {
					t.Errorf("without a line: %v", each)
				}
			}
		})
	}
}

// TestAnExcludeOfDeletionsExcludesNothing: its operations never come here, and no operations would be all of them.
func TestAnExcludeOfDeletionsExcludesNothing(t *testing.T) {
	manifest := strings.Replace(minimal, "namespaces: [a]", "operations: [DELETE]", 1)
	pairs, err := migrate.Policies([]byte(manifest), options)
	if err != nil {
		t.Fatal(err)
	}
	text, err := pairs[0].YAML()
	if err != nil || strings.Contains(string(text), "name: exclude") {
		t.Errorf("%v\n%s", err, text)
	}
}

// TestErrorsAreOneLineEach: names in the file are no way to write to a terminal.
func TestErrorsAreOneLineEach(t *testing.T) {
	manifest := strings.Replace(minimal, "spec:\n", "spec:\n  \"\\e[2J\\n\\u202e\": x\n  failurePolicies: \"\\e\"\n", 1)
	_, err := migrate.Policies([]byte(manifest), options)
	var found migrate.Errors
	if !errors.As(err, &found) || len(found) != 2 || strings.Count(err.Error(), "\n") != 1 || strings.ContainsAny(err.Error(), "\x1b\u202e") {
		t.Errorf("%q", err)
	}
}

// TestRulesShareNothing: what one rule adds to the conditions of the policy is none of the next one's.
func TestRulesShareNothing(t *testing.T) {
	manifest := strings.Replace(minimal, "  failurePolicy: Fail\n", "  webhookConfiguration: {matchConditions: [{name: a, expression: 'true'}, {name: b, expression: 'true'}, {name: c, expression: 'true'}]}\n", 1)
	manifest += validates
	pairs, err := migrate.Policies([]byte(manifest), options)
	if err != nil || len(pairs) != 2 {
		t.Fatal(err)
	}
	first, err := pairs[0].YAML()
	if err != nil || strings.Count(string(first), "name: exclude") != 2 || strings.Count(string(first), "name: precondition-1") != 2 {
		t.Errorf("%v\n%s", err, first)
	}
	second, err := pairs[1].YAML()
	if err != nil || strings.Contains(string(second), "name: exclude") || strings.Count(string(second), "kind: ") != 1 || !strings.Contains(string(second), "name: c") {
		t.Errorf("%v\n%s", err, second)
	}
}

func TestLists(t *testing.T) {
	indented := "  " + strings.ReplaceAll(strings.TrimSpace(minimal), "\n", "\n  ")
	list := "apiVersion: v1\nkind: List\nitems:\n- " + strings.TrimPrefix(indented, "  ") + "\n"
	if pairs, err := migrate.Policies([]byte(list), options); err != nil || len(pairs) != 1 || pairs[0].Line != 11 {
		t.Errorf("%v, %v", pairs, err)
	}
	two := minimal + "---\n" + strings.Replace(minimal, "name: minimal", "name: other", 1)
	if pairs, err := migrate.Policies([]byte(two), options); err != nil || len(pairs) != 2 {
		t.Errorf("%v, %v", pairs, err)
	}
	for _, manifest := range []string{"", "# nothing\n", "---\n", "null\n"} {
		if _, err := migrate.Policies([]byte(manifest), options); err == nil {
			t.Errorf("%q has no policy, and there is no error", manifest)
		}
	}
}

func TestOptions(t *testing.T) {
	for address, valid := range map[string]bool{
		"": true, "https://svc.example": true, "https://10.0.0.1:8443": true,
		"http://svc.example": false, "https://svc.example/": false, "https://svc.example/verify": false, "https://": false,
		"https://u:p@svc.example": false, "https://svc.example?x": false, "https://svc.example#x": false, "svc.example": false,
	} {
		if _, err := migrate.Policies([]byte(minimal), migrate.Options{URL: address}); (err == nil) != valid {
			t.Errorf("%q: %v", address, err)
		}
	}
	for text, valid := range map[string]bool{
		"argoproj.io/Rollout=rollouts": true, "Rollout=rollouts": false, "argoproj.io/Rollout": false, "argoproj.io/rollout=rollouts": false,
		"argoproj.io/Rollout=rollouts/scale": false, "argoproj.io/v1/Rollout=rollouts": false, "*/Rollout=*": false,
	} {
		if _, err := migrate.ParseResource(text); (err == nil) != valid {
			t.Errorf("%q: %v", text, err)
		}
	}
}
