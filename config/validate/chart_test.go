package validate

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/yaml"
)

func loadChart(t *testing.T) *chart.Chart {
	t.Helper()
	chart, err := loader.LoadDir(filepath.Join(configDir, "chart"))
	if err != nil {
		t.Fatal(err)
	}
	return chart
}

// rendered are the files of the chart with values, YAML, as helm install makes them in the namespace "elsewhere".
func rendered(t *testing.T, values string) (map[string]string, error) {
	t.Helper()
	var given map[string]any
	if err := yaml.UnmarshalStrict([]byte(values), &given); err != nil {
		t.Fatal(err)
	}
	chart := loadChart(t)
	options := chartutil.ReleaseOptions{Name: "knv", Namespace: "elsewhere", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, given, options, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Render(chart, all)
}

// install gives the objects of the chart with values, and its definitions, without the hooks of helm test.
func install(t *testing.T, values string) (objects, error) {
	t.Helper()
	files, err := rendered(t, values)
	if err != nil {
		return nil, err
	}
	var found objects
	for _, definition := range loadChart(t).CRDObjects() {
		found = append(found, parse(t, definition.File.Data)...)
	}
	for name, text := range files {
		if strings.HasSuffix(name, ".yaml") && !strings.Contains(name, "/tests/") {
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
	for file, values := range map[string]string{
		plainFile: "{image: {tag: latest}}", knativeFile: "{image: {tag: latest}, knative: {enabled: true}}",
		"auditor/plain": "{image: {tag: latest}, auditor: {enabled: true}}", "auditor/knative": "{image: {tag: latest}, auditor: {enabled: true}, knative: {enabled: true}}",
		"sharedcache/plain": "{image: {tag: latest}, sharedCache: {enabled: true}}", "sharedcache/knative": "{image: {tag: latest}, sharedCache: {enabled: true}, knative: {enabled: true}}",
		"console/plain": "{image: {tag: latest}, console: {enabled: true}}", "console/knative": "{image: {tag: latest}, console: {enabled: true}, knative: {enabled: true}}",
	} {
		t.Run(file, func(t *testing.T) {
			manifest := read
			if strings.Contains(file, "/") {
				manifest = func(t *testing.T, path ...string) []byte { return render(t, filepath.Join(path...)) }
			}
			have, want := byIdentity(t, withoutChartLabels(mustInstall(t, values))), byIdentity(t, parse(t, manifest(t, file)))
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

// chartLabels are those that only the chart gives to objects, beside app.kubernetes.io/name.
var chartLabels = []string{"app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/part-of", "app.kubernetes.io/managed-by", "helm.sh/chart"}

// withoutChartLabels leaves app.kubernetes.io/name to the objects that have it in the manifests.
func withoutChartLabels(all objects) objects {
	const name = "app.kubernetes.io/name"
	for _, object := range all {
		labels := object.GetLabels()
		for _, label := range chartLabels {
			delete(labels, label)
		}
		if !slices.Contains([]string{"Deployment", "Service"}, object.GetKind()) {
			delete(labels, name)
		}
		if len(labels) == 0 {
			labels = nil
		}
		object.SetLabels(labels)
	}
	return all
}

// TestTheChartsObjectsHaveTheRecommendedLabels; those that change with a release are in no selector and on no pod.
func TestTheChartsObjectsHaveTheRecommendedLabels(t *testing.T) {
	for _, object := range mustInstall(t, fullValues) {
		if object.GetKind() == "CustomResourceDefinition" { // Helm installs those as they are
			continue
		}
		for _, label := range append([]string{"app.kubernetes.io/name"}, chartLabels...) {
			if object.GetLabels()[label] == "" {
				t.Errorf("%s has no label %s", identity(object), label)
			}
		}
		spec, err := yaml.Marshal(object.Object["spec"])
		if err != nil {
			t.Fatal(err)
		}
		for _, label := range chartLabels {
			if strings.Contains(string(spec), label) {
				t.Errorf("%s: %s is in its spec", identity(object), label)
			}
		}
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
		"a typo":                          {"{replica: 3}", "replica"},
		"a typo further down":             {"{networkPolicy: {kyvernoNamespaces: k}}", "kyvernoNamespaces"},
		"text for a number":               {"{replicas: two}", "replicas"},
		"no replica":                      {"{replicas: 0}", "replicas"},
		"scaling to zero":                 {"{knative: {minScale: 0}}", "minScale"},
		"a flag that is none":             {"{extraArgs: [check]}", "extraArgs"},
		"a limit that Go cannot read":     {"{goMemoryLimit: 320Mi}", "goMemoryLimit"},
		"a trust policy without a spec":   {"{trustPolicies: [{name: a}]}", "spec"},
		"a resource that is none":         {"{resources: {limits: {memroy: 1Gi}}}", "memroy"},
		"plugin settings that are lists":  {"{plugin: {config: {a: [b]}}}", "config"},
		"a CA that is a file's name":      {"{caCertificates: ca.crt}", "caCertificates"},
		"a digest that is none":           {"{image: {digest: latest}}", "digest"},
		"an image without a name":         {"{image: \"\"}", "image"},
		"a mirror that is a list":         {"{registryMirrors: {docker.io: ['a.example,b.example']}}", "registryMirrors"},
		"a registry without a mirror":     {"{registryMirrors: {docker.io: []}}", "registryMirrors"},
		"no platform":                     {"{maxPlatforms: 0}", "maxPlatforms"},
		"a cloud that is none":            {"{cloudKeychains: [aws]}", "cloudKeychains"},
		"pods that svc does not find":     {"{podLabels: {app.kubernetes.io/name: other}}", "podLabels"},
		"an annotation of the scale":      {"{podAnnotations: {autoscaling.knative.dev/min-scale: \"0\"}}", "podAnnotations"},
		"two who scale":                   {"{autoscaling: {enabled: true}, knative: {enabled: true}}", "Knative scales between"},
		"a typo of the auditor's":         {"{auditor: {enable: true}}", "enable"},
		"two users of the console in one": {"{console: {users: ['a,b']}}", "users"},
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
image: {repository: registry.example.com/knv, tag: v1, digest: "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}
imagePullSecrets: [pull]
namespace: {name: "", create: false}
replicas: 3
resources: {limits: {memory: 1Gi}}
goMemoryLimit: 400MiB
maxVerifications: 40
maxPlatforms: 8
registryMirrors: {docker.io: [mirror.example, cache.example/dockerhub], ghcr.io: ["mirror.example:5000"]}
mirrorsResolve: true
defaultTrustPolicy: corporate
trustPolicies: [{name: p, spec: {trustPolicyName: corporate}}]
trustStores: [{name: s, spec: {trustStoreName: acme}}]
registrySecrets: [one, two]
caCertificates: "-----BEGIN CERTIFICATE-----"
plugin: {config: {config: /etc/x}, configSecret: other}
extraArgs: ["--requestTimeout=5s"]
cloudKeychains: [ecr, acr]
serviceAccount: {annotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::1:role/knv"}}
autoscaling: {enabled: true, minReplicas: 4, maxReplicas: 9, targetCPUUtilizationPercentage: 70}
podLabels: {azure.workload.identity/use: "true"}
podAnnotations: {a: b}
priorityClassName: system-cluster-critical
nodeSelector: {pool: admission}
tolerations: [{key: pool, operator: Exists, effect: NoSchedule}]
affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}
topologySpreadConstraints: [{maxSkew: 2, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}]
trustRoles: {aggregateToView: false}
trustBundles: [{kind: ConfigMap, namespace: security, name: roots}, {kind: Secret, namespace: pki, name: more.roots}]
certmanager:
  extraArgs: ["--logLevel=debug"]
  podLabels: {team: platform}
  podAnnotations: {c: d}
  priorityClassName: high
  nodeSelector: {pool: system}
  tolerations: [{operator: Exists}]
  affinity: {podAntiAffinity: {}}
  topologySpreadConstraints: [{maxSkew: 3, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}]
auditor: {enabled: true, trustPolicy: "tp-{{ namespace }}", exceptNamespaces: [kube-system, kyverno], goMemoryLimit: 700MiB}
sharedCache: {enabled: true, ports: [7000]}
console: {enabled: true, users: ["system:serviceaccount:ops:*", "jane"]}
networkPolicy: {kyvernoNamespace: policies, extraEgress: [{ports: [{port: 5000}]}], extraIngress: [{ports: [{port: 8080}]}]}
`

func TestValuesArriveWhereTheyBelong(t *testing.T) {
	all := mustInstall(t, fullValues)
	service := find[appsv1.Deployment](t, all, "Deployment", serviceName)
	container := service.Spec.Template.Spec.Containers[0]
	same(t, "namespace", service.Namespace, "elsewhere")
	same(t, "image", container.Image, "registry.example.com/knv:v1@sha256:"+strings.Repeat("a", 64))
	same(t, "pull secret", service.Spec.Template.Spec.ImagePullSecrets[0].Name, "pull")
	same(t, "scheduling", scheduling(service.Spec.Template), "map[a:b] azure.workload.identity/use=true system-cluster-critical map[pool:admission] pool node 2 rack")
	same(t, "memory", container.Resources.Limits.Memory().String(), "1Gi")
	same(t, "GOMEMLIMIT", container.Env[1].Value, "400MiB")
	same(t, "mounted secret", service.Spec.Template.Spec.Volumes[1].Secret.SecretName, "other")
	same(t, "flags", strings.Join(container.Args, " "), "serve --imagePullSecrets=one,two --pluginConfigMap=notation-plugin-config --pluginConfigSecret=notation-plugin-config --maxVerifications=40 --denialEvents --cloudKeychains=ecr,acr --defaultTrustPolicy=corporate --maxPlatforms=8 --registryMirrors=docker.io=mirror.example,cache.example/dockerhub,ghcr.io=mirror.example:5000 --mirrorsResolve --requestTimeout=5s")
	manager := find[appsv1.Deployment](t, all, "Deployment", managerName)
	same(t, "scheduling of the manager", scheduling(manager.Spec.Template), "map[c:d] team=platform high map[pool:system]  pod 3 rack")
	scaler := find[autoscalingv2.HorizontalPodAutoscaler](t, all, "HorizontalPodAutoscaler", serviceName)
	same(t, "scale", fmt.Sprint(service.Spec.Replicas == nil, *scaler.Spec.MinReplicas, scaler.Spec.MaxReplicas, *scaler.Spec.Metrics[0].Resource.Target.AverageUtilization), "true 4 9 70")
	same(t, "the account's annotation", find[corev1.ServiceAccount](t, all, "ServiceAccount", serviceName).Annotations["eks.amazonaws.com/role-arn"], "arn:aws:iam::1:role/knv")
	same(t, "whom the role view reads for", find[rbacv1.ClusterRole](t, all, "ClusterRole", "kyverno-notation-venafi-trust-view").Labels["rbac.authorization.k8s.io/aggregate-to-view"], "")
	same(t, "flags of the manager", strings.Join(manager.Spec.Template.Spec.Containers[0].Args, " "), "certmanager --audit --imagePullSecrets=one,two --pluginConfigMap=notation-plugin-config --pluginConfigSecret=notation-plugin-config --cloudKeychains=ecr,acr --defaultTrustPolicy=corporate --maxPlatforms=8 --registryMirrors=docker.io=mirror.example,cache.example/dockerhub,ghcr.io=mirror.example:5000 --mirrorsResolve --auditTrustPolicy=tp-{{ namespace }} --auditExceptNamespaces=kube-system,kyverno --consoleAddress=:8090 --consoleUsers=system:serviceaccount:ops:*,jane --logLevel=debug")
	same(t, "rights of the console", fmt.Sprint(len(find[rbacv1.ClusterRole](t, all, "ClusterRole", consoleName).Rules), find[rbacv1.ClusterRole](t, all, "ClusterRole", consoleName).Rules[2].Resources), "3 [tokenreviews]")
	same(t, "GOMEMLIMIT of the manager", manager.Spec.Template.Spec.Containers[0].Env[1].Value, "700MiB")
	same(t, "secret mounted in the manager", manager.Spec.Template.Spec.Volumes[1].Secret.SecretName, "other")
	same(t, "secrets that the auditor may read", strings.Join(find[rbacv1.Role](t, all, "Role", auditorName).Rules[0].ResourceNames, " "), "one two notation-plugin-config")
	same(t, "rules of the manager", fmt.Sprint(len(find[networkingv1.NetworkPolicy](t, all, "NetworkPolicy", managerName).Spec.Ingress), len(find[networkingv1.NetworkPolicy](t, all, "NetworkPolicy", managerName).Spec.Egress)), "1 4")
	role := find[rbacv1.Role](t, all, "Role", serviceName)
	same(t, "secrets that may be read", strings.Join(role.Rules[0].ResourceNames, " "), "one two notation-plugin-config kyverno-notation-venafi-tls kyverno-notation-venafi-caller kyverno-notation-venafi-records")
	same(t, "the plugin's configuration", find[corev1.ConfigMap](t, all, "ConfigMap", "notation-plugin-config").Data["config"], "/etc/x")
	same(t, "CAs", find[corev1.ConfigMap](t, all, "ConfigMap", "ca-certificates").Data["ca.crt"], "-----BEGIN CERTIFICATE-----")
	policy := find[networkingv1.NetworkPolicy](t, all, "NetworkPolicy", serviceName)
	same(t, "Kyverno's namespace", policy.Spec.Ingress[0].From[0].NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"], "policies")
	same(t, "rules", fmt.Sprint(len(policy.Spec.Ingress), len(policy.Spec.Egress)), "2 5")
	for _, account := range []string{serviceName, managerName} {
		for name, want := range map[string]string{account + "-configmap-roots": "security [list watch] [configmaps] [roots] 1", account + "-secret-more.roots": "pki [list watch] [secrets] [more.roots] 1"} {
			role, binding := find[rbacv1.Role](t, all, "Role", name), find[rbacv1.RoleBinding](t, all, "RoleBinding", name)
			same(t, name, fmt.Sprint(role.Namespace, " ", role.Rules[0].Verbs, role.Rules[0].Resources, role.Rules[0].ResourceNames, len(role.Rules)), want)
			same(t, "who has "+name, fmt.Sprint(binding.Namespace, binding.RoleRef.Name, binding.Subjects[0].Name, binding.Subjects[0].Namespace), fmt.Sprint(role.Namespace, name, account, "elsewhere"))
		}
	}
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

// scheduling says in one line what the values set of a pod's metadata and place.
func scheduling(pod corev1.PodTemplateSpec) string {
	spread, affinity, tolerated, label := pod.Spec.TopologySpreadConstraints, "", pod.Spec.Tolerations[0].Key, ""
	if pod.Spec.Affinity.NodeAffinity != nil {
		affinity += "node"
	}
	if pod.Spec.Affinity.PodAntiAffinity != nil {
		affinity += "pod"
	}
	for name, value := range pod.Labels {
		if name != "app.kubernetes.io/name" {
			label += name + "=" + value
		}
	}
	return fmt.Sprint(pod.Annotations, " ", label, " ", pod.Spec.PriorityClassName, " ", pod.Spec.NodeSelector, " ", tolerated, " ", affinity, " ", spread[0].MaxSkew, " ", spread[0].TopologyKey, strings.Repeat(" twice", len(spread)-1))
}

// TestTheImageIsNamedAsItsValuesSay: a digest goes before a tag, and a text is the whole name, as in earlier charts.
func TestTheImageIsNamedAsItsValuesSay(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for values, want := range map[string]string{
		"{}":                                  "ghcr.io/nirmata/kyverno-notation-venafi:" + loadChart(t).AppVersion(),
		"{image: {tag: v2}}":                  "ghcr.io/nirmata/kyverno-notation-venafi:v2",
		"{image: {repository: r/i}}":          "r/i:" + loadChart(t).AppVersion(),
		"{image: {digest: '" + digest + "'}}": "ghcr.io/nirmata/kyverno-notation-venafi@" + digest,
		"{image: 'localhost:5000/knv:dev'}":   "localhost:5000/knv:dev",
	} {
		for name, pod := range pods(t, mustInstall(t, values)) {
			same(t, values+", "+name, pod.Spec.Containers[0].Image, want)
		}
	}
}

// TestCloudMetadataIsOutOfReachUnlessAllowed, by certificates' addresses above all.
func TestCloudMetadataIsOutOfReachUnlessAllowed(t *testing.T) {
	for values, want := range map[string]string{
		"{cloudKeychains: [gcr], auditor: {enabled: true}}":                                            "[169.254.0.0/16] [fe80::/10 fd00:ec2::254/128]",
		"{cloudKeychains: [gcr], auditor: {enabled: true}, networkPolicy: {allowCloudMetadata: true}}": "",
	} {
		all := mustInstall(t, values)
		for _, name := range []string{serviceName, managerName} {
			var excepted []string
			for _, rule := range find[networkingv1.NetworkPolicy](t, all, "NetworkPolicy", name).Spec.Egress {
				for _, to := range rule.To {
					excepted = append(excepted, fmt.Sprint(to.IPBlock.Except))
				}
			}
			same(t, values+", "+name, strings.Join(excepted, " "), want)
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
