package validate

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/yaml"
)

// install renders the chart with values, YAML, as helm install does into the namespace "elsewhere". The chart's
// definitions are among the objects.
func install(t *testing.T, values string) (objects, error) {
	t.Helper()
	chart, err := loader.LoadDir(filepath.Join(configDir, "chart"))
	if err != nil {
		t.Fatal(err)
	}
	var given map[string]any
	if err := yaml.UnmarshalStrict([]byte(values), &given); err != nil {
		t.Fatal(err)
	}
	options := chartutil.ReleaseOptions{Name: "knv", Namespace: "elsewhere", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, given, options, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, err
	}
	var found objects
	for _, definition := range chart.CRDObjects() {
		found = append(found, parse(t, definition.File.Data)...)
	}
	for name, text := range files {
		if strings.HasSuffix(name, ".yaml") {
			found = append(found, parse(t, []byte(text))...)
		}
	}
	return found, nil
}

// mustInstall is install for values that are right.
func mustInstall(t *testing.T, values string) objects {
	t.Helper()
	all, err := install(t, values)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestTheChartGivesWhatTheManifestsGive(t *testing.T) {
	for file, values := range map[string]string{plainFile: "{}", knativeFile: "{knative: {enabled: true}}"} {
		t.Run(file, func(t *testing.T) {
			have, want := byIdentity(t, mustInstall(t, values)), byIdentity(t, parse(t, read(t, file)))
			for id, object := range want {
				if have[id] == nil {
					t.Errorf("the chart has no %s", id)
				} else if !reflect.DeepEqual(have[id], object) {
					t.Errorf("%s: the chart has\n%s\nthe manifest\n%s", id, text(t, have[id]), text(t, object))
				}
			}
			for id := range have {
				if want[id] == nil {
					t.Errorf("only the chart has %s", id)
				}
			}
		})
	}
}

func byIdentity(t *testing.T, all objects) map[string]map[string]any {
	t.Helper()
	found := map[string]map[string]any{}
	for _, object := range all {
		if found[identity(object)] != nil {
			t.Errorf("%s is there twice", identity(object))
		}
		found[identity(object)] = object.Object
	}
	return found
}

func text(t *testing.T, object map[string]any) []byte {
	t.Helper()
	text, err := yaml.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestWrongValuesAreRefused(t *testing.T) {
	for sentence, c := range map[string]struct{ values, want string }{
		"a typo":                         {"{replica: 3}", "replica"},
		"a typo further down":            {"{networkPolicy: {kyvernoNamespaces: k}}", "kyvernoNamespaces"},
		"text for a number":              {"{replicas: two}", "replicas"},
		"no replica":                     {"{replicas: 0}", "replicas"},
		"scaling to zero":                {"{knative: {minScale: 0}}", "minScale"},
		"a flag that is none":            {"{extraArgs: [check]}", "extraArgs"},
		"a limit that Go cannot read":    {"{goMemoryLimit: 320Mi}", "goMemoryLimit"},
		"a trust policy without a spec":  {"{trustPolicies: [{name: a}]}", "spec"},
		"a resource that is none":        {"{resources: {limits: {memroy: 1Gi}}}", "memroy"},
		"plugin settings that are lists": {"{plugin: {config: {a: [b]}}}", "config"},
		"a CA that is a file's name":     {"{caCertificates: ca.crt}", "caCertificates"},
	} {
		t.Run(sentence, func(t *testing.T) {
			if _, err := install(t, c.values); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want an error with %q", err, c.want)
			}
		})
	}
}

// fullValues set what the chart lets one set.
const fullValues = `
image: registry.example.com/knv@sha256:0123
imagePullSecrets: [pull]
namespace: {name: "", create: false}
replicas: 3
resources: {limits: {memory: 1Gi}}
goMemoryLimit: 400MiB
maxVerifications: 40
defaultTrustPolicy: corporate
trustPolicies: [{name: p, spec: {trustPolicyName: corporate}}]
trustStores: [{name: s, spec: {trustStoreName: acme}}]
registrySecrets: [one, two]
caCertificates: "-----BEGIN CERTIFICATE-----"
plugin: {config: {config: /etc/x}, configSecret: other}
extraArgs: ["--requestTimeout=5s"]
certmanager: {extraArgs: ["--logLevel=debug"]}
networkPolicy: {kyvernoNamespace: policies, extraEgress: [{ports: [{port: 5000}]}], extraIngress: [{ports: [{port: 8080}]}]}
`

func TestValuesArriveWhereTheyBelong(t *testing.T) {
	all := mustInstall(t, fullValues)
	service := find[appsv1.Deployment](t, all, "Deployment", serviceName)
	container := service.Spec.Template.Spec.Containers[0]
	same(t, "namespace", service.Namespace, "elsewhere")
	same(t, "image", container.Image, "registry.example.com/knv@sha256:0123")
	same(t, "pull secret", service.Spec.Template.Spec.ImagePullSecrets[0].Name, "pull")
	same(t, "replicas", fmt.Sprint(*service.Spec.Replicas), "3")
	same(t, "memory", container.Resources.Limits.Memory().String(), "1Gi")
	same(t, "GOMEMLIMIT", container.Env[1].Value, "400MiB")
	same(t, "mounted secret", service.Spec.Template.Spec.Volumes[1].Secret.SecretName, "other")
	same(t, "flags", strings.Join(container.Args, " "), "serve --imagePullSecrets=one,two --pluginConfigMap=notation-plugin-config --pluginConfigSecret=notation-plugin-config --maxVerifications=40 --defaultTrustPolicy=corporate --requestTimeout=5s")
	manager := find[appsv1.Deployment](t, all, "Deployment", managerName)
	same(t, "flags of the manager", strings.Join(manager.Spec.Template.Spec.Containers[0].Args, " "), "certmanager --logLevel=debug")
	role := find[rbacv1.Role](t, all, "Role", serviceName)
	same(t, "secrets that may be read", strings.Join(role.Rules[0].ResourceNames, " "), "one two notation-plugin-config kyverno-notation-venafi-tls kyverno-notation-venafi-caller")
	same(t, "the plugin's configuration", find[corev1.ConfigMap](t, all, "ConfigMap", "notation-plugin-config").Data["config"], "/etc/x")
	same(t, "CAs", find[corev1.ConfigMap](t, all, "ConfigMap", "ca-certificates").Data["ca.crt"], "-----BEGIN CERTIFICATE-----")
	policy := find[networkingv1.NetworkPolicy](t, all, "NetworkPolicy", serviceName)
	same(t, "Kyverno's namespace", policy.Spec.Ingress[0].From[0].NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"], "policies")
	same(t, "rules", fmt.Sprint(len(policy.Spec.Ingress), len(policy.Spec.Egress)), "2 4")
	for _, kind := range []string{"TrustPolicy", "TrustStore"} {
		if !slices.ContainsFunc(all, func(o *unstructured.Unstructured) bool { return o.GetKind() == kind }) {
			t.Errorf("there is no %s", kind)
		}
	}
	for _, object := range all {
		if object.GetKind() == "Namespace" || object.GetNamespace() == productNamespace {
			t.Errorf("%s is there, or in the wrong namespace", identity(object))
		}
	}
}

func TestTheChartDoesWithoutNetworkPolicies(t *testing.T) {
	for _, values := range []string{"{networkPolicy: {enabled: false}}", "{networkPolicy: {enabled: false}, knative: {enabled: true}}"} {
		for _, object := range mustInstall(t, values) {
			if object.GetKind() == "NetworkPolicy" {
				t.Errorf("%s: %s", values, identity(object))
			}
		}
	}
}

// TestTheChartsKnativeServiceIsValid is for values that the manifest does not have.
func TestTheChartsKnativeServiceIsValid(t *testing.T) {
	all := mustInstall(t, "{knative: {enabled: true, minScale: 4, maxScale: 8}, imagePullSecrets: [pull], imagePullPolicy: Always, defaultTrustPolicy: tp}")
	for _, object := range all {
		if object.GetAPIVersion() == "serving.knative.dev/v1" {
			var service servingv1.Service
			decode(t, object, &service)
			validService(t, &service)
			return
		}
	}
	t.Error("there is no Knative Service")
}

func same(t *testing.T, what, have, want string) {
	t.Helper()
	if have != want {
		t.Errorf("%s: %q, want %q", what, have, want)
	}
}
