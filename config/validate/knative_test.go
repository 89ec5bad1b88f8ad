package validate

import (
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"knative.dev/pkg/apis"
	"knative.dev/serving/pkg/apis/config"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

// validService does what Knative's webhook does when a Service is created, with the cluster's configuration as it
// comes. A warning is an error.
func validService(t *testing.T, service *servingv1.Service) {
	t.Helper()
	features, err := config.NewFeaturesConfigFromMap(map[string]string{})
	if err != nil {
		t.Fatal(err)
	}
	defaults, err := config.NewDefaultsConfigFromMap(map[string]string{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := apis.WithinCreate(config.ToContext(t.Context(), &config.Config{Features: features, Defaults: defaults}))
	service.SetDefaults(ctx)
	if err := service.Validate(ctx); err != nil {
		t.Errorf("Knative says: %v", err)
	}
}

func knativeService(t *testing.T) *servingv1.Service {
	t.Helper()
	for _, object := range parse(t, read(t, knativeFile)) {
		if object.GetAPIVersion() == "serving.knative.dev/v1" {
			service := &servingv1.Service{}
			decode(t, object, service)
			return service
		}
	}
	t.Fatal("there is no Knative Service")
	return nil
}

func TestTheKnativeServiceIsValid(t *testing.T) {
	validService(t, knativeService(t))
}

// TestKnativesValidationIsAsked makes sure of the test above: what Knative refuses is refused here.
func TestKnativesValidationIsAsked(t *testing.T) {
	for sentence, spoil := range map[string]func(*servingv1.Service){
		"a second port": func(s *servingv1.Service) {
			c := &s.Spec.Template.Spec.Containers[0]
			c.Ports = append(c.Ports, corev1.ContainerPort{ContainerPort: 9443})
		},
		"a scale on the Service": func(s *servingv1.Service) {
			s.Annotations = map[string]string{"autoscaling.knative.dev/min-scale": "2"}
		},
		"an affinity": func(s *servingv1.Service) { s.Spec.Template.Spec.Affinity = &corev1.Affinity{} },
	} {
		t.Run(sentence, func(t *testing.T) {
			service := knativeService(t)
			spoil(service)
			features, _ := config.NewFeaturesConfigFromMap(map[string]string{})
			defaults, _ := config.NewDefaultsConfigFromMap(map[string]string{})
			ctx := apis.WithinCreate(config.ToContext(t.Context(), &config.Config{Features: features, Defaults: defaults}))
			service.SetDefaults(ctx)
			if err := service.Validate(ctx); err == nil {
				t.Error("Knative accepts it")
			}
		})
	}
}

func TestTheKnativeServiceStaysWarmAndInside(t *testing.T) {
	service := knativeService(t)
	same(t, "visibility", service.Labels["networking.knative.dev/visibility"], "cluster-local")
	same(t, "min-scale", service.Spec.Template.Annotations["autoscaling.knative.dev/min-scale"], "2")
	same(t, "target-burst-capacity", service.Spec.Template.Annotations["autoscaling.knative.dev/target-burst-capacity"], "0")
}

// TestBothShapesRunTheSameService compares what the two manifests say of the container.
func TestBothShapesRunTheSameService(t *testing.T) {
	plain := pods(t, shapes(t)[plainFile])[serviceName].Spec.Containers[0]
	knative := knativeService(t).Spec.Template.Spec.Containers[0]
	type said struct {
		Image        string
		Args         []string
		Env          []corev1.EnvVar
		Resources    string
		VolumeMounts []corev1.VolumeMount
	}
	of := func(c corev1.Container) said {
		return said{c.Image, c.Args, c.Env, c.Resources.Requests.Memory().String() + c.Resources.Limits.Memory().String() + c.Resources.Requests.Cpu().String(), c.VolumeMounts}
	}
	same(t, "the container", jsonOf(t, of(knative)), jsonOf(t, of(plain)))
}

func TestKnativeReachesQueueProxy(t *testing.T) {
	policy := find[networkingv1.NetworkPolicy](t, shapes(t)[knativeFile], "NetworkPolicy", serviceName+"-knative")
	if !selects(t, &policy.Spec.PodSelector, knativeService(t).Spec.Template.Labels) {
		t.Error("the policy is for other pods")
	}
	// The numbers are those of knative.dev/serving/pkg/networking, which is too large to import.
	missing := map[int32]bool{8012: true, 8013: true, 8112: true, 9090: true}
	for _, rule := range policy.Spec.Ingress {
		same(t, "from", rule.From[0].NamespaceSelector.MatchLabels[corev1.LabelMetadataName], "knative-serving")
		for _, port := range rule.Ports {
			delete(missing, int32(port.Port.IntValue()))
		}
	}
	for port := range missing {
		t.Errorf("port %d is closed", port)
	}
}

func jsonOf(t *testing.T, value any) string {
	t.Helper()
	text, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
