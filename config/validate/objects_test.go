package validate

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/kustomize/kyaml/kio"
	"sigs.k8s.io/yaml"
)

const (
	productNamespace = "kyverno-notation-venafi"
	serviceName      = "kyverno-notation-venafi"
	managerName      = "kyverno-notation-venafi-certmanager"
)

// objects are the documents of a manifest, in their order.
type objects []*unstructured.Unstructured

// parse splits a manifest into its documents, and fails on a field that stands twice.
func parse(t *testing.T, text []byte) objects {
	t.Helper()
	documents, err := kio.FromBytes(text)
	if err != nil {
		t.Fatal(err)
	}
	var all objects
	for _, document := range documents {
		object := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(document.MustString()), &object.Object); err != nil {
			t.Fatalf("%v\n%s", err, document.MustString())
		}
		object.SetAnnotations(withoutIndex(object.GetAnnotations()))
		all = append(all, object)
	}
	return all
}

// withoutIndex drops what the parser notes in annotations.
func withoutIndex(annotations map[string]string) map[string]string {
	for name := range annotations {
		if strings.Contains(name, "config.kubernetes.io/") {
			delete(annotations, name)
		}
	}
	if len(annotations) == 0 {
		return nil
	}
	return annotations
}

// identity is how an object is told from the others.
func identity(object *unstructured.Unstructured) string {
	return fmt.Sprintf("%s %s %s/%s", object.GetAPIVersion(), object.GetKind(), object.GetNamespace(), object.GetName())
}

// find decodes the object of a kind and name; the Go type must know every field.
func find[T any](t *testing.T, in objects, kind, name string) T {
	t.Helper()
	var into T
	for _, object := range in {
		if object.GetKind() == kind && object.GetName() == name && !strings.HasPrefix(object.GetAPIVersion(), "serving.") {
			decode(t, object, &into)
			return into
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	return into
}

func decode(t *testing.T, object *unstructured.Unstructured, into any) {
	t.Helper()
	text, err := yaml.Marshal(object.Object)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, into); err != nil {
		t.Errorf("%s: %v", identity(object), err)
	}
}

// shapes are the two installations.
func shapes(t *testing.T) map[string]objects {
	t.Helper()
	return map[string]objects{plainFile: parse(t, read(t, plainFile)), knativeFile: parse(t, read(t, knativeFile))}
}

func TestEveryFieldIsKnownToKubernetes(t *testing.T) {
	all := shapes(t)
	all["the chart"] = mustInstall(t, fullValues)
	all["with the auditor"] = parse(t, render(t, "auditor/plain"))
	all["with the console"] = parse(t, render(t, "console/plain"))
	all["with what replicas share"] = parse(t, render(t, "sharedcache/plain"))
	all["the chart, sparse"] = mustInstall(t, "{replicas: 1, registrySecrets: [], networkPolicy: {enabled: false}}")
	for file, all := range all {
		for _, object := range all {
			if into := goType(object); into != nil {
				decode(t, object, into)
			} else {
				t.Errorf("%s: nothing is known of %s", file, identity(object))
			}
		}
	}
}

// goType gives what an object can be decoded into; nil for a kind that is not expected.
func goType(object *unstructured.Unstructured) any {
	switch object.GetAPIVersion() + " " + object.GetKind() {
	case "v1 Namespace":
		return &corev1.Namespace{}
	case "v1 ServiceAccount":
		return &corev1.ServiceAccount{}
	case "v1 ConfigMap":
		return &corev1.ConfigMap{}
	case "v1 Service":
		return &corev1.Service{}
	case "rbac.authorization.k8s.io/v1 Role":
		return &rbacv1.Role{}
	case "rbac.authorization.k8s.io/v1 RoleBinding":
		return &rbacv1.RoleBinding{}
	case "rbac.authorization.k8s.io/v1 ClusterRole":
		return &rbacv1.ClusterRole{}
	case "rbac.authorization.k8s.io/v1 ClusterRoleBinding":
		return &rbacv1.ClusterRoleBinding{}
	case "apps/v1 Deployment":
		return &appsv1.Deployment{}
	case "policy/v1 PodDisruptionBudget":
		return &policyv1.PodDisruptionBudget{}
	case "autoscaling/v2 HorizontalPodAutoscaler":
		return &autoscalingv2.HorizontalPodAutoscaler{}
	case "v1 Pod":
		return &corev1.Pod{}
	case "networking.k8s.io/v1 NetworkPolicy":
		return &networkingv1.NetworkPolicy{}
	case "serving.knative.dev/v1 Service":
		return &servingv1.Service{}
	case "apiextensions.k8s.io/v1 CustomResourceDefinition", // held against Go by config_test.go
		"notation.nirmata.io/v1alpha1 TrustPolicy", "notation.nirmata.io/v1alpha1 TrustStore":
		return &map[string]any{}
	}
	return nil
}

func TestWhatOthersNeedComesFirst(t *testing.T) {
	for file, all := range shapes(t) {
		order := map[string]int{}
		for i, object := range all {
			if _, seen := order[object.GetKind()]; !seen {
				order[object.GetKind()] = i
			}
		}
		for _, pair := range [][2]string{{"Namespace", "ServiceAccount"}, {"CustomResourceDefinition", "ServiceAccount"}, {"ServiceAccount", "Deployment"}, {"Role", "RoleBinding"}, {"ConfigMap", "Deployment"}} {
			first, ok := order[pair[0]]
			if !ok || first > order[pair[1]] {
				t.Errorf("%s: %s is not before %s", file, pair[0], pair[1])
			}
		}
	}
}

// pods are the templates that an installation makes pods from, by the name of their owner.
func pods(t *testing.T, all objects) map[string]corev1.PodTemplateSpec {
	t.Helper()
	found := map[string]corev1.PodTemplateSpec{}
	for _, object := range all {
		switch object.GetAPIVersion() + " " + object.GetKind() {
		case "apps/v1 Deployment":
			var deployment appsv1.Deployment
			decode(t, object, &deployment)
			found[object.GetName()] = deployment.Spec.Template
		case "serving.knative.dev/v1 Service":
			var service servingv1.Service
			decode(t, object, &service)
			found[object.GetName()] = corev1.PodTemplateSpec{ObjectMeta: service.Spec.Template.ObjectMeta, Spec: service.Spec.Template.Spec.PodSpec}
		}
	}
	return found
}

func TestThePodsAreAllowedInARestrictedNamespace(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for file, all := range shapes(t) {
		namespace := find[corev1.Namespace](t, all, "Namespace", productNamespace)
		level := psa.Level(namespace.Labels[psa.EnforceLevelLabel])
		if level != psa.LevelRestricted {
			t.Errorf("%s: the namespace enforces %q", file, level)
		}
		templates := pods(t, all)
		if len(templates) != 2 {
			t.Fatalf("%s: %d pod templates", file, len(templates))
		}
		for name, pod := range templates {
			result := policy.AggregateCheckResults(evaluator.EvaluatePod(psa.LevelVersion{Level: level, Version: psa.LatestVersion()}, &pod.ObjectMeta, &pod.Spec))
			if !result.Allowed {
				t.Errorf("%s: %s: %s", file, name, result.ForbiddenDetail())
			}
			for _, container := range pod.Spec.Containers {
				if context := container.SecurityContext; context == nil || context.ReadOnlyRootFilesystem == nil || !*context.ReadOnlyRootFilesystem {
					t.Errorf("%s: %s can write its root file system", file, name)
				}
			}
		}
	}
}

func TestTheSelectorsFindThePods(t *testing.T) {
	for file, all := range shapes(t) {
		service := find[corev1.Service](t, all, "Service", "svc")
		budget := find[policyv1.PodDisruptionBudget](t, all, "PodDisruptionBudget", serviceName)
		for name, pod := range pods(t, all) {
			wanted := name == serviceName
			if selects(t, &metav1.LabelSelector{MatchLabels: service.Spec.Selector}, pod.Labels) != wanted {
				t.Errorf("%s: svc and the pods of %s: want %t", file, name, wanted)
			}
			if selects(t, budget.Spec.Selector, pod.Labels) != wanted {
				t.Errorf("%s: the disruption budget and the pods of %s: want %t", file, name, wanted)
			}
			isolated := find[networkingv1.NetworkPolicy](t, all, "NetworkPolicy", name)
			if !selects(t, &isolated.Spec.PodSelector, pod.Labels) || len(isolated.Spec.PolicyTypes) != 2 {
				t.Errorf("%s: the network policy does not hold for the pods of %s, both ways", file, name)
			}
		}
		if port := service.Spec.Ports[0]; len(service.Spec.Ports) != 1 || port.Name != "https" || port.Port != 443 || port.TargetPort.IntValue() != 9443 {
			t.Errorf("%s: svc has the ports %v", file, service.Spec.Ports)
		}
	}
}

func selects(t *testing.T, selector *metav1.LabelSelector, labels map[string]string) bool {
	t.Helper()
	if len(selector.MatchLabels) == 0 {
		t.Error("the selector is empty")
	}
	for key, value := range selector.MatchLabels {
		if labels[key] != value {
			return false
		}
	}
	return len(selector.MatchExpressions) == 0
}

func TestGoKeepsBelowTheMemoryLimit(t *testing.T) {
	for file, all := range shapes(t) {
		for name, pod := range pods(t, all) {
			container := pod.Spec.Containers[0]
			index := slices.IndexFunc(container.Env, func(e corev1.EnvVar) bool { return e.Name == "GOMEMLIMIT" })
			if index < 0 {
				t.Errorf("%s: %s has no GOMEMLIMIT", file, name)
				continue
			}
			var mebibytes int64
			if _, err := fmt.Sscanf(container.Env[index].Value, "%dMiB", &mebibytes); err != nil {
				t.Errorf("%s: %s: %q: %v", file, name, container.Env[index].Value, err)
			}
			if limit := container.Resources.Limits.Memory().Value(); mebibytes<<20 >= limit {
				t.Errorf("%s: %s: Go may use %d MiB of %d", file, name, mebibytes, limit>>20)
			}
		}
	}
}

func TestTheReplicasOutliveTheLossOfANode(t *testing.T) {
	all := shapes(t)[plainFile]
	for _, name := range []string{serviceName, managerName} {
		deployment := find[appsv1.Deployment](t, all, "Deployment", name)
		if *deployment.Spec.Replicas < 2 || len(deployment.Spec.Template.Spec.TopologySpreadConstraints) == 0 {
			t.Errorf("%s: %d replicas, spread by %v", name, *deployment.Spec.Replicas, deployment.Spec.Template.Spec.TopologySpreadConstraints)
		}
	}
}

// TestTheRightsAreTheLeast states every right once more, so that none comes in unseen.
func TestTheRightsAreTheLeast(t *testing.T) {
	want := map[string][]string{
		"ClusterRole /" + serviceName: {
			"notation.nirmata.io trustpolicies,truststores : list,watch",
			"authentication.k8s.io tokenreviews : create",
			"events.k8s.io events : create,patch", // --denialEvents
		},
		"Role " + productNamespace + "/" + serviceName: {
			" secrets regcred,notation-plugin-config,kyverno-notation-venafi-tls,kyverno-notation-venafi-caller,kyverno-notation-venafi-records: list,watch",
			" configmaps notation-plugin-config,kyverno-notation-venafi-epoch: list,watch",
			" configmaps kyverno-notation-venafi-epoch: patch",
		},
		"ClusterRole /" + managerName: {
			"notation.nirmata.io trustpolicies,truststores : list,watch",
			"notation.nirmata.io trustpolicies/status,truststores/status : patch",
		},
		"Role " + productNamespace + "/" + managerName: {
			" secrets,configmaps : create",
			" secrets kyverno-notation-venafi-ca,kyverno-notation-venafi-tls,kyverno-notation-venafi-caller,kyverno-notation-venafi-records: get,list,watch,update",
			" configmaps kyverno-notation-venafi-ca,kyverno-notation-venafi-epoch,kyverno-notation-venafi-records: get,list,watch",
			" configmaps kyverno-notation-venafi-ca,kyverno-notation-venafi-records: update",
			"coordination.k8s.io leases : create",
			"coordination.k8s.io leases kyverno-notation-venafi-certmanager: get,update",
		},
		// For people.
		"ClusterRole /kyverno-notation-venafi-trust-view":  {"notation.nirmata.io trustpolicies,truststores : get,list,watch"},
		"ClusterRole /kyverno-notation-venafi-trust-admin": {"notation.nirmata.io trustpolicies,truststores : get,list,watch,create,update,patch,delete"},
		"Role default/" + managerName:                      {"events.k8s.io events : create"},
	}
	for file, all := range shapes(t) {
		sameRights(t, file, rights(t, all), want)
	}
	want["ClusterRole /"+auditorName] = []string{
		" pods,namespaces : list,watch",
		"apps deployments,replicasets,statefulsets,daemonsets : list,watch",
		"batch jobs,cronjobs : list,watch",
		"openreports.io reports : get,list,watch,create,update,delete",
		"wgpolicyk8s.io policyreports : get,list,watch,create,update,delete",
		"events.k8s.io events : create",
	}
	want["Role "+productNamespace+"/"+auditorName] = []string{
		" secrets regcred,notation-plugin-config: list,watch",
		" configmaps notation-plugin-config: list,watch",
	}
	sameRights(t, "with the auditor", rights(t, parse(t, render(t, "auditor/plain"))), want)
	delete(want, "ClusterRole /"+auditorName)
	delete(want, "Role "+productNamespace+"/"+auditorName)
	want["ClusterRole /"+consoleName] = []string{"openreports.io reports : list", "wgpolicyk8s.io policyreports : list"}
	sameRights(t, "with the console", rights(t, parse(t, render(t, "console/plain"))), want)
	delete(want, "ClusterRole /"+consoleName)
	want["Role "+productNamespace+"/kyverno-notation-venafi-shared-cache"] = []string{" secrets kyverno-notation-venafi-shared-cache: list,watch"}
	want["Role "+productNamespace+"/kyverno-notation-venafi-shared-cache-certmanager"] = []string{" secrets kyverno-notation-venafi-shared-cache: get,list,watch,update"}
	sameRights(t, "with what replicas share", rights(t, parse(t, render(t, "sharedcache/plain"))), want)
	byName := []string{" configmaps trust-bundle: list,watch", " secrets trust-bundle: list,watch"}
	sameRights(t, "for bundles", rights(t, parse(t, render(t, "bundles"))), map[string][]string{"Role security/" + serviceName: byName, "Role security/" + managerName: byName})
}

// consoleName is that of the role that the console adds.
const consoleName = "kyverno-notation-venafi-console"

// auditorName is that of the roles that the auditor adds.
const auditorName = "kyverno-notation-venafi-auditor"

func sameRights(t *testing.T, file string, have, want map[string][]string) {
	t.Helper()
	for role, rules := range have {
		if !slices.Equal(rules, want[role]) {
			t.Errorf("%s: %s:\n%s\nwant\n%s", file, role, strings.Join(rules, "\n"), strings.Join(want[role], "\n"))
		}
	}
	if len(have) != len(want) {
		t.Errorf("%s: %d roles, want %d", file, len(have), len(want))
	}
}

// TestNobodyGetsToWriteTrustUnasked: only the right to read is added to roles that others bind.
func TestNobodyGetsToWriteTrustUnasked(t *testing.T) {
	all := shapes(t)
	all["the chart"] = mustInstall(t, "{}")
	for file, all := range all {
		for _, object := range all {
			for label := range object.GetLabels() {
				if strings.Contains(label, "aggregate-to-") && identity(object)+" "+label != "rbac.authorization.k8s.io/v1 ClusterRole /kyverno-notation-venafi-trust-view rbac.authorization.k8s.io/aggregate-to-view" {
					t.Errorf("%s: %s has the label %s", file, identity(object), label)
				}
			}
		}
	}
}

// rights are the rules of all roles that an installation holds.
func rights(t *testing.T, all objects) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, object := range all {
		if kind := object.GetKind(); kind != "Role" && kind != "ClusterRole" {
			continue
		}
		var role rbacv1.Role
		decode(t, object, &role)
		name := role.Kind + " " + role.Namespace + "/" + role.Name
		for _, rule := range role.Rules {
			list := func(of []string) string { return strings.Join(of, ",") }
			found[name] = append(found[name], fmt.Sprintf("%s %s %s: %s", list(rule.APIGroups), list(rule.Resources), list(rule.ResourceNames), list(rule.Verbs)))
		}
	}
	return found
}

// TestEveryBindingBindsWhatThereIs follows the references of the bindings.
func TestEveryBindingBindsWhatThereIs(t *testing.T) {
	for file, all := range shapes(t) {
		there := map[string]bool{}
		for _, object := range all {
			there[object.GetKind()+" "+object.GetNamespace()+"/"+object.GetName()] = true
		}
		for _, object := range all {
			if kind := object.GetKind(); kind != "RoleBinding" && kind != "ClusterRoleBinding" {
				continue
			}
			var binding rbacv1.RoleBinding
			decode(t, object, &binding)
			namespace := binding.Namespace
			if binding.RoleRef.Kind == "ClusterRole" {
				namespace = ""
			}
			if role := binding.RoleRef.Kind + " " + namespace + "/" + binding.RoleRef.Name; !there[role] {
				t.Errorf("%s: %s: there is no %s", file, identity(object), role)
			}
			for _, subject := range binding.Subjects {
				if !there[subject.Kind+" "+subject.Namespace+"/"+subject.Name] {
					t.Errorf("%s: %s: there is no %v", file, identity(object), subject)
				}
			}
		}
	}
}
