package validate

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
)

// What the manifests use of the schemas of Knative Eventing, whose module cannot be had. A field that is not here is
// an error, so that it is looked up before it is used.
type (
	apiServerSource struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              struct {
			ServiceAccountName string             `json:"serviceAccountName"`
			Mode               string             `json:"mode"`
			Resources          []watched          `json:"resources"`
			Sink               duckv1.Destination `json:"sink"`
		} `json:"spec"`
	}
	watched struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	broker struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
	}
	trigger struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              struct {
			Broker string `json:"broker"`
			Filter struct {
				Attributes map[string]string `json:"attributes"`
			} `json:"filter"`
			Subscriber duckv1.Destination `json:"subscriber"`
			Delivery   struct {
				Retry         int32  `json:"retry"`
				BackoffPolicy string `json:"backoffPolicy"`
				BackoffDelay  string `json:"backoffDelay"`
			} `json:"delivery"`
		} `json:"spec"`
	}
)

func TestTheSourceSendsTheTrustResources(t *testing.T) {
	for _, file := range []string{"direct.yaml", "broker.yaml"} {
		t.Run(file, func(t *testing.T) {
			all := parse(t, read(t, "events", file))
			source := find[apiServerSource](t, all, "ApiServerSource", serviceName)
			same(t, "version", source.APIVersion, "sources.knative.dev/v1")
			same(t, "mode", source.Spec.Mode, "Resource")
			want := []watched{{"notation.nirmata.io/v1alpha1", "TrustPolicy"}, {"notation.nirmata.io/v1alpha1", "TrustStore"}}
			if !slices.Equal(source.Spec.Resources, want) {
				t.Errorf("it watches %v", source.Spec.Resources)
			}
			valid(t, source.Spec.Sink)
			account := find[corev1.ServiceAccount](t, all, "ServiceAccount", source.Spec.ServiceAccountName)
			role := find[rbacv1.ClusterRole](t, all, "ClusterRole", account.Name)
			same(t, "rights", strings.Join(role.Rules[0].Resources, ",")+": "+strings.Join(role.Rules[0].Verbs, ","), "trustpolicies,truststores: get,list,watch")
			binding := find[rbacv1.ClusterRoleBinding](t, all, "ClusterRoleBinding", account.Name)
			same(t, "binding", binding.RoleRef.Name+" "+binding.Subjects[0].Namespace+"/"+binding.Subjects[0].Name, role.Name+" "+account.Namespace+"/"+account.Name)
		})
	}
}

func TestTheEventsReachTheService(t *testing.T) {
	direct, brokered := parse(t, read(t, "events", "direct.yaml")), parse(t, read(t, "events", "broker.yaml"))
	toService(t, find[apiServerSource](t, direct, "ApiServerSource", serviceName).Spec.Sink)
	toBroker := find[apiServerSource](t, brokered, "ApiServerSource", serviceName).Spec.Sink.Ref
	broker := find[broker](t, brokered, "Broker", "trust")
	if toBroker == nil || toBroker.Kind != "Broker" || toBroker.APIVersion != broker.APIVersion || toBroker.Name != broker.Name {
		t.Errorf("the source sends to %v", toBroker)
	}
	trigger := find[trigger](t, brokered, "Trigger", serviceName)
	same(t, "broker", trigger.Namespace+"/"+trigger.Spec.Broker, broker.Namespace+"/"+broker.Name)
	toService(t, trigger.Spec.Subscriber)
	for file, all := range map[string]objects{"direct": direct, "broker": brokered} {
		policy := find[networkingv1.NetworkPolicy](t, all, "NetworkPolicy", serviceName+"-events")
		if !selects(t, &policy.Spec.PodSelector, map[string]string{"app.kubernetes.io/name": serviceName}) || policy.Spec.Ingress[0].Ports[0].Port.IntValue() != 9443 {
			t.Errorf("%s: the network policy does not open the service", file)
		}
	}
}

// toService holds a destination against the Service svc, and the audience that the service asks tokens for.
func toService(t *testing.T, destination duckv1.Destination) {
	t.Helper()
	valid(t, destination)
	service := find[corev1.Service](t, shapes(t)[plainFile], "Service", "svc")
	if destination.URI == nil || destination.Audience == nil {
		t.Fatalf("%v has no address or no audience", destination)
	}
	same(t, "address", destination.URI.String(), "https://"+service.Name+"."+service.Namespace+".svc/events")
	same(t, "audience", *destination.Audience, "kyverno-notation-venafi-events")
}

func valid(t *testing.T, destination duckv1.Destination) {
	t.Helper()
	ctx := apis.WithinParent(t.Context(), metav1.ObjectMeta{Namespace: productNamespace})
	destination.SetDefaults(ctx)
	if err := destination.Validate(ctx); err != nil {
		t.Errorf("Knative says: %v", err)
	}
}
