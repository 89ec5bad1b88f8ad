//go:build e2e

package migrate

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
)

// spec is a pod's, with a container for each image.
func (e *environment) spec(names ...string) string {
	containers := []string{}
	for i, name := range names {
		containers = append(containers, fmt.Sprintf(`{"name":"c%d","image":%q}`, i, e.Reference(name)))
	}
	return `"containers":[` + strings.Join(containers, ",") + `]`
}

// pod is a pod in JSON, its metadata in YAML that starts with its name.
func (e *environment) pod(name string, images ...string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{name: %s},"spec":{%s}}`, name, e.spec(images...))
}

// deployment is an object of a kind of apps/v1 with a pod template.
func (e *environment) deployment(kind, name, image string) string {
	service := ""
	if kind == "StatefulSet" {
		service = `"serviceName":"x",`
	}
	return fmt.Sprintf(`{"apiVersion":"apps/v1","kind":%q,"metadata":{name: %s},"spec":{%s"selector":{"matchLabels":{"app":"x"}},"template":%s}}`, kind, name, service, e.template(image, ""))
}

func (e *environment) template(image, more string) string {
	return fmt.Sprintf(`{"metadata":{"labels":{"app":"x"}},"spec":{%s%s}}`, more, e.spec(image))
}

func (e *environment) remove(t *testing.T, namespace, object string) {
	ctx := context.Background()
	_, _ = e.Bed.Kubectl(ctx, "", "patch", "pod", "ending", "-n", namespace, "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
	if output, err := e.Bed.Kubectl(ctx, object, "delete", "--ignore-not-found", "--wait=false", "--grace-period=0", "--force", "-n", namespace, "-f", "-"); err != nil {
		t.Errorf("%v: %s", err, output)
	}
}

// asks are requests about objects in a namespace, and a few in others.
func (e *environment) asks(namespace string, volumes bool) []ask {
	l := &list{environment: e, namespace: namespace}
	l.pods(volumes)
	l.workloads()
	l.others()
	l.updates()
	return l.all
}

// list collects requests.
type list struct {
	*environment
	namespace string
	all       []ask
}

// path is where objects of a resource are.
func path(namespace, resource string) string {
	group := "/api/v1"
	switch kind, _, _ := strings.Cut(resource, "/"); kind {
	case "jobs", "cronjobs":
		group = "/apis/batch/v1"
	case "deployments", "statefulsets", "daemonsets", "replicasets":
		group = "/apis/apps/v1"
	}
	return group + "/namespaces/" + namespace + "/" + resource
}

func (l *list) create(sentence, resource, body string) {
	l.all = append(l.all, ask{sentence: sentence, method: http.MethodPost, path: path(l.namespace, resource), body: body})
}

// extended is a pod with one more field in its spec.
func (l *list) extended(image, field string) string {
	return strings.Replace(l.pod("web-more", image), `"spec":{`, `"spec":{`+field+`,`, 1)
}

func (l *list) pods(volumes bool) {
	pod := func(sentence, name string, images ...string) { l.create(sentence, "pods", l.pod(name, images...)) }
	for _, image := range []string{"signed", "unsigned", "foreign", "tampered", "expired-certificate", "plugin-missing", "plugin-signed", "multi-arch", "sbom-good", "sbom-gpl", "absent"} {
		pod("a pod of "+image, "web-"+image, image)
	}
	pod("a pod of a signed and an unsigned image", "web-mixed", "signed", "unsigned")
	pod("a pod of good images", "web-good", "sbom-good", "sbom-good")
	pod("a pod of two bad images", "web-bad", "unsigned", "foreign")
	pod("a pod with another name", "db-0", "unsigned")
	pod("a pod with labels", "{name: labelled, labels: {app: web, checks: none}}", "unsigned")
	for name, metadata := range map[string]string{
		"a label": "labels: {checks: none}", "an annotation": "annotations: {example.com/skip: 'yes'}", "braces": "annotations: {a: '{{ request.userInfo }}'}",
		"a deletion": "deletionTimestamp: '2026-01-01T00:00:00Z'", "no name": "generateName: web-",
	} {
		l.create("an unsigned pod with "+name, "pods", strings.Replace(l.pod("web-meta", "unsigned"), "name: web-meta", "name: web-meta, "+metadata, 1))
	}
	for image, digest := range l.digests {
		l.create("a pod by digest, of "+image, "pods", strings.Replace(l.pod("web-digest", image), l.Reference(image), digest, 1))
	}
	for _, image := range []string{"sbom-good", "unsigned"} {
		l.create("a pod with an init container of "+image, "pods", l.extended("sbom-good", fmt.Sprintf(`"initContainers":[{"name":"i","image":%q}]`, l.Reference(image))))
		if volumes {
			l.create("a pod with an image volume of "+image, "pods", l.extended("sbom-good", fmt.Sprintf(`"volumes":[{"name":"v","image":{"reference":%q}}]`, l.Reference(image))))
		}
	}
}

func (l *list) workloads() {
	for _, image := range []string{"sbom-good", "unsigned"} {
		for kind, resource := range map[string]string{"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets", "ReplicaSet": "replicasets"} {
			l.create("a "+kind+" of "+image, resource, l.deployment(kind, "web", image))
		}
		l.create("a ReplicationController of "+image, "replicationcontrollers", fmt.Sprintf(`{"apiVersion":"v1","kind":"ReplicationController","metadata":{"name":"web"},"spec":{"selector":{"app":"x"},"template":%s}}`, l.template(image, "")))
		job := fmt.Sprintf(`{"template":%s}`, l.template(image, `"restartPolicy":"Never",`))
		l.create("a Job of "+image, "jobs", `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"web"},"spec":`+job+`}`)
		l.create("a CronJob of "+image, "cronjobs", `{"apiVersion":"batch/v1","kind":"CronJob","metadata":{"name":"web"},"spec":{"schedule":"0 0 * * *","jobTemplate":{"spec":`+job+`}}}`)
		l.create("a PodTemplate of "+image, "podtemplates", `{"apiVersion":"v1","kind":"PodTemplate","metadata":{"name":"web"},"template":`+l.template(image, "")+`}`)
	}
	l.create("a ConfigMap", "configmaps", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"web"},"data":{"image":"x"}}`)
}

// others are requests in other namespaces and by other users.
func (l *list) others() {
	for _, other := range []string{"team-b", "outside", "team-free", "kube-system"} {
		for _, image := range []string{"foreign", "unsigned"} {
			l.all = append(l.all, ask{sentence: "a pod of " + image + " in " + other, method: http.MethodPost, path: path(other, "pods"), body: l.pod("web", image)})
		}
	}
	for user, group := range map[string]string{"alice": "dev", "bob": "ops", "system:serviceaccount:builds:ci": "ops"} {
		for _, image := range []string{"signed", "unsigned"} {
			l.all = append(l.all, ask{"a pod of " + image + " by " + user, http.MethodPost, path(l.namespace, "pods"), l.pod("web-user", image), user, group})
		}
	}
}

// updates change what is stored, from before there were policies.
func (l *list) updates() {
	patch := func(sentence, object, body string) {
		l.all = append(l.all, ask{sentence: sentence, method: http.MethodPatch, path: path(l.namespace, object), body: body})
	}
	for _, stored := range []string{"signed", "unsigned"} {
		patch("a label on a stored pod of "+stored, "pods/stored-"+stored, `{"metadata":{"labels":{"a":"b"}}}`)
		patch("a skip on a stored pod of "+stored, "pods/stored-"+stored, `{"metadata":{"labels":{"checks":"none"},"annotations":{"example.com/skip":"yes"}}}`)
	}
	for _, image := range []string{"sbom-good", "unsigned"} {
		patch("another image in a stored pod: "+image, "pods/stored-signed", `{"spec":{`+l.spec(image)+`}}`)
		patch("another image in a stored Deployment: "+image, "deployments/stored", `{"spec":{"template":{"spec":{`+l.spec(image)+`}}}}`)
		patch("another image in an ending pod: "+image, "pods/ending", `{"spec":{`+l.spec(image)+`}}`)
		ephemeral := fmt.Sprintf(`"spec":{"ephemeralContainers":[{"name":"debug","image":%q}]}}`, l.Reference(image))
		patch("an ephemeral container of "+image, "pods/stored-signed/ephemeralcontainers", `{`+ephemeral)
		patch("an ephemeral container that claims to be deleted: "+image, "pods/stored-signed/ephemeralcontainers", `{"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"},`+ephemeral)
	}
	patch("the end of an ending pod", "pods/ending", `{"metadata":{"finalizers":null}}`)
	patch("a label on a stored Deployment", "deployments/stored", `{"metadata":{"labels":{"a":"b"}}}`)
	patch("another scale of a stored Deployment", "deployments/stored/scale", `{"spec":{"replicas":3}}`)
}

// local has the service at the address of the first replica.
func (e *environment) local(policy string) string {
	policy = strings.ReplaceAll(policy, "https://svc.example", "https://"+e.Replicas[0].Secure)
	return strings.ReplaceAll(policy, "http://notation.default.svc.cluster.local:8080", e.Replicas[0].URL)
}

// older is the policy of an older service that the golden files of migrate have, with a CA that is there.
func (e *environment) older(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../core/migrate/testdata/older.yaml")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), "      apiCall:\n        urlPath:")
	_, after, also := strings.Cut(rest, "    - name: response")
	if !found || !also {
		t.Fatal("the policy has another context")
	}
	policy := before + "      configMap: {name: kyverno-notation-venafi-ca, namespace: kyverno-notation-venafi}\n    - name: response" + after
	return strings.Replace(policy, "{{ certificates }}", `{{ certificates.data."ca.crt" }}`, 1)
}

// calls is the context that asks the service, with an object that is sent in a way, and the patch with the answer.
const calls = `
    context:
    - name: ca
      configMap: {name: kyverno-notation-venafi-ca, namespace: kyverno-notation-venafi}
    - name: response
      apiCall:
        method: POST
        data:
        - {key: encodedObject, value: "{{ base64_encode(to_string(request.object)) }}"}
        - {key: trustPolicy, value: "tp-{{ request.namespace }}"}
        service:
          url: https://svc.example/checkimages
          caBundle: '{{ ca.data."ca.crt" }}'
    mutate:
      foreach:
      - list: response.results
        patchesJson6902: |-
          - {path: '{{ element.path }}', op: '{{ element.op }}', value: '{{ element.value }}'}
`

// fragment sends what older policies send, and patches as they do.
const fragment = `apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata:
  name: fragment
spec:
  failurePolicy: Fail
  rules:
  - name: fragment
    match:
      any:
      - resources:
          kinds: [Pod]
          namespaces: [test-venafi]
    context:
    - name: ca
      configMap: {name: kyverno-notation-venafi-ca, namespace: kyverno-notation-venafi}
    - name: response
      apiCall:
        method: POST
        data:
        - {key: images, value: "{{images}}"}
        - {key: trustPolicy, value: "tp-{{request.namespace}}"}
        service:
          url: https://svc.example/checkimages
          caBundle: '{{ ca.data."ca.crt" }}'
    mutate:
      foreach:
      - list: "response.results"
        patchesJson6902: |-
          - path: '{{ element.path }}'
            op: replace
            value: {{ element.image }}
`

// conditional goes by everything by which a rule may go.
const conditional = `apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata:
  name: conditional
spec:
  background: false
  webhookConfiguration:
    failurePolicy: Fail
    timeoutSeconds: 12
    matchConditions:
    - {name: not-by-root, expression: 'request.userInfo.username != "root"'}
  rules:
  - name: conditional
    match:
      any:
      - resources:
          kinds: [v1/Pod, apps/*/Deployment]
          namespaces: ["team-?", "team-f*"]
          names: ["web*", "stored-*", ending, stored, probe]
      - resources:
          kinds: [CronJob, StatefulSet]
          operations: [CREATE]
          namespaces: [team-a]
    exclude:
      any:
      - resources:
          namespaceSelector: {matchLabels: {checks: "no?e"}}
      - resources:
          kinds: [Pod]
          selector: {matchExpressions: [{key: checks, operator: In, values: [none]}]}
          operations: [CREATE]
      - resources:
          annotations: {"example.com/*": "y*"}
      - subjects:
        - {kind: User, name: alice}
        - {kind: ServiceAccount, name: "*", namespace: "build?"}
    preconditions:
      any:
      - {key: "{{ request.operation }}", operator: Equals, value: CREATE}
      - {key: "{{ request.oldObject.metadata.deletionTimestamp || '' }}", operator: Equals, value: ""}
      all:
      - {key: "{{ request.userInfo.groups }}", operator: AllNotIn, value: ["nobody", "no*"]}
      - {key: "{{ starts_with(request.namespace, 'team-') || contains(request.userInfo.groups, 'x') }}", operator: Equals, value: true}` + calls

// byLabel lets pass what has a label.
const byLabel = `apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata:
  name: by-label
spec:
  rules:
  - name: by-label
    match:
      any:
      - resources: {kinds: [Pod], namespaces: [team-a]}
    exclude:
      any:
      - resources: {selector: {matchLabels: {checks: none}}}` + calls + `
`

// twoRules differ in whom they are for.
const twoRules = `apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata:
  name: two
spec:
  rules:
  - name: pods
    match:
      resources:
        kinds: [Pod]
        namespaces: [team-a]` + calls + `  - name: controllers
    match:
      any:
      - resources:
          kinds: [Deployment, ReplicaSet, Job]
          namespaces: ["*-a"]` + calls

// allFilters have to match together, and exclude together.
const allFilters = `apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata:
  name: all
spec:
  rules:
  - name: all
    match:
      all:
      - resources: {kinds: [Pod, Deployment, Job]}
      - resources: {kinds: [Pod, Job, CronJob], namespaces: ["team-*"]}
    exclude:
      all:
      - resources: {kinds: [Pod]}
      - resources: {kinds: [Pod, Deployment], names: ["db-*"]}` + calls

// validating denies without pinning.
const validating = `apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata:
  name: validating
spec:
  validationFailureAction: Enforce
  rules:
  - name: validating
    match:
      any:
      - resources:
          kinds: [Pod]
          namespaces: [test-venafi]
          operations: [CREATE, UPDATE]
    context:
    - name: ca
      configMap: {name: kyverno-notation-venafi-ca, namespace: kyverno-notation-venafi}
    - name: response
      apiCall:
        method: POST
        data:
        - {key: images, value: "{{images}}"}
        - {key: trustPolicy, value: "tp-{{request.namespace}}"}
        service:
          url: https://svc.example/checkimages
          caBundle: '{{ ca.data."ca.crt" }}'
    validate:
      message: "{{ response.message }}"
      deny:
        conditions:
          all:
          - {key: "{{ response.verified }}", operator: Equals, value: false}
`
