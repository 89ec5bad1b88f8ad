package validate

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	brokerdefaults "knative.dev/eventing/pkg/apis/config"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
)

func TestTheSourceSendsTheTrustResources(t *testing.T) {
	for _, file := range []string{"direct.yaml", "broker.yaml"} {
		t.Run(file, func(t *testing.T) {
			all := parse(t, read(t, "events", file))
			source := find[sourcesv1.ApiServerSource](t, all, "ApiServerSource", serviceName)
			same(t, "version", source.APIVersion, "sources.knative.dev/v1")
			same(t, "mode", source.Spec.EventMode, sourcesv1.ResourceMode)
			var watched []string
			for _, resource := range source.Spec.Resources {
				watched = append(watched, resource.APIVersion+" "+resource.Kind)
			}
			if want := []string{"notation.nirmata.io/v1alpha1 TrustPolicy", "notation.nirmata.io/v1alpha1 TrustStore"}; !slices.Equal(watched, want) {
				t.Errorf("it watches %v", watched)
			}
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
	toService(t, find[sourcesv1.ApiServerSource](t, direct, "ApiServerSource", serviceName).Spec.Sink)
	toBroker := find[sourcesv1.ApiServerSource](t, brokered, "ApiServerSource", serviceName).Spec.Sink.Ref
	broker := find[eventingv1.Broker](t, brokered, "Broker", "trust")
	if toBroker == nil || toBroker.Kind != "Broker" || toBroker.APIVersion != broker.APIVersion || toBroker.Name != broker.Name {
		t.Errorf("the source sends to %v", toBroker)
	}
	trigger := find[eventingv1.Trigger](t, brokered, "Trigger", serviceName)
	same(t, "broker", trigger.Namespace+"/"+trigger.Spec.Broker, broker.Namespace+"/"+broker.Name)
	toService(t, trigger.Spec.Subscriber)
	for file, all := range map[string]objects{"direct": direct, "broker": brokered} {
		policy := find[networkingv1.NetworkPolicy](t, all, "NetworkPolicy", serviceName+"-events")
		if !selects(t, &policy.Spec.PodSelector, map[string]string{"app.kubernetes.io/name": serviceName}) || policy.Spec.Ingress[0].Ports[0].Port.IntValue() != 9443 {
			t.Errorf("%s: the network policy does not open the service", file)
		}
	}
}

// TestKnativeTakesTheEvents has Knative Eventing default and validate what config/events holds of it, as its webhook does, with the
// defaults for brokers that it ships. Wrong objects show that it looks.
func TestKnativeTakesTheEvents(t *testing.T) {
	all := map[string]objects{}
	for _, file := range []string{"direct.yaml", "broker.yaml"} {
		all[file] = parse(t, read(t, "events", file))
	}
	source := find[sourcesv1.ApiServerSource](t, all["direct.yaml"], "ApiServerSource", serviceName)
	toBroker := find[sourcesv1.ApiServerSource](t, all["broker.yaml"], "ApiServerSource", serviceName)
	broker := find[eventingv1.Broker](t, all["broker.yaml"], "Broker", "trust")
	trigger := find[eventingv1.Trigger](t, all["broker.yaml"], "Trigger", serviceName)
	for _, object := range []knativeObject{&source, &toBroker, &broker, &trigger} {
		if err := accepted(t, object); err != nil {
			t.Errorf("%s: %v", object.GetName(), err)
		}
	}
	if broker.Spec.Config == nil || broker.Spec.Config.Name != "config-br-default-channel" {
		t.Errorf("the broker has the configuration %v, though Knative has a default", broker.Spec.Config)
	}
	if delivery := trigger.Spec.Delivery; delivery == nil || *delivery.Retry != 5 || *delivery.BackoffDelay != "PT0.5S" {
		t.Errorf("the trigger's delivery is %+v", delivery)
	}

	wrongMode, wrongDelay, wrongClass := source.DeepCopy(), trigger.DeepCopy(), broker.DeepCopy()
	wrongMode.Spec.EventMode = "Whole"
	*wrongDelay.Spec.Delivery.BackoffDelay = "half a second"
	wrongClass.Spec.Config.Kind = ""
	for _, object := range []knativeObject{wrongMode, wrongDelay, wrongClass} {
		if accepted(t, object) == nil {
			t.Errorf("%s: wrong, and accepted", object.GetName())
		}
	}
}

// knativeObject is what Knative's webhook knows of an object.
type knativeObject interface {
	metav1.Object
	apis.Defaultable
	apis.Validatable
}

// accepted defaults an object, and gives what is wrong with it.
func accepted(t *testing.T, object knativeObject) error {
	t.Helper()
	defaults, err := brokerdefaults.NewDefaultsConfigFromMap(map[string]string{brokerdefaults.BrokerDefaultsKey: "clusterDefault:\n  brokerClass: MTChannelBasedBroker\n  apiVersion: v1\n" +
		"  kind: ConfigMap\n  name: config-br-default-channel\n  namespace: knative-eventing\n"})
	if err != nil {
		t.Fatal(err)
	}
	ctx := apis.WithinCreate(brokerdefaults.ToContext(t.Context(), &brokerdefaults.Config{Defaults: defaults}))
	object.SetDefaults(ctx)
	if problem := object.Validate(ctx); problem != nil {
		return problem
	}
	return nil
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
