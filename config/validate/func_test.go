package validate

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/yaml"
)

// functionFile is what func.yaml may hold, by func's public schema (specVersion 0.36.0); func itself cannot be had
// as a module.
type functionFile struct {
	SpecVersion string    `json:"specVersion"`
	Name        string    `json:"name"`
	Namespace   string    `json:"namespace"`
	Runtime     string    `json:"runtime"`
	Invoke      string    `json:"invoke"`
	Created     time.Time `json:"created"`
	Build       struct {
		Builder   string     `json:"builder"`
		BuildEnvs []variable `json:"buildEnvs"`
	} `json:"build"`
	Run struct {
		Envs    []variable `json:"envs"`
		Volumes []struct {
			Secret    *string `json:"secret"`
			ConfigMap *string `json:"configMap"`
			EmptyDir  *struct {
				Medium    string `json:"medium"`
				SizeLimit string `json:"sizeLimit"`
			} `json:"emptyDir"`
			Path string `json:"path"`
		} `json:"volumes"`
	} `json:"run"`
	Deploy struct {
		Annotations        map[string]string `json:"annotations"`
		ServiceAccountName string            `json:"serviceAccountName"`
		HealthEndpoints    struct {
			Liveness  string `json:"liveness"`
			Readiness string `json:"readiness"`
		} `json:"healthEndpoints"`
		Labels []struct {
			Key   string `json:"key"`
			Value string `json:"value"`
		} `json:"labels"`
		Options struct {
			Scale struct {
				Min *int64 `json:"min"`
				Max *int64 `json:"max"`
			} `json:"scale"`
			Resources struct {
				Requests map[corev1.ResourceName]string `json:"requests"`
				Limits   struct {
					CPU         string `json:"cpu"`
					Memory      string `json:"memory"`
					Concurrency *int64 `json:"concurrency"`
				} `json:"limits"`
			} `json:"resources"`
		} `json:"options"`
	} `json:"deploy"`
}

type variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func readFunction(t *testing.T) functionFile {
	t.Helper()
	text, err := os.ReadFile("../../func.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var function functionFile
	if err := yaml.UnmarshalStrict(text, &function); err != nil {
		t.Fatal(err)
	}
	return function
}

// deployed is the Knative Service that func makes of func.yaml: labels and annotations go to the Service and to the
// revision alike, scaling to the revision only, and the security context is func's own.
func deployed(t *testing.T, f functionFile) *servingv1.Service {
	t.Helper()
	yes, no := true, false
	container := corev1.Container{
		Image:          functionImage,
		LivenessProbe:  &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: f.Deploy.HealthEndpoints.Liveness}}},
		ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: f.Deploy.HealthEndpoints.Readiness}}},
		SecurityContext: &corev1.SecurityContext{
			RunAsNonRoot: &yes, AllowPrivilegeEscalation: &no,
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Env:       []corev1.EnvVar{{Name: "BUILT", Value: "20261123T000000"}, {Name: "ADDRESS", Value: "0.0.0.0"}},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}},
	}
	for _, env := range f.Run.Envs {
		container.Env = append(container.Env, corev1.EnvVar{Name: env.Name, Value: env.Value})
	}
	for name, amount := range f.Deploy.Options.Resources.Requests {
		container.Resources.Requests[name] = resource.MustParse(amount)
	}
	container.Resources.Limits[corev1.ResourceMemory] = resource.MustParse(f.Deploy.Options.Resources.Limits.Memory)
	service := &servingv1.Service{ObjectMeta: metav1.ObjectMeta{Name: f.Name, Namespace: f.Namespace, Labels: map[string]string{}, Annotations: map[string]string{"dapr.io/enabled": "true"}}}
	for _, label := range f.Deploy.Labels {
		service.Labels[label.Key] = label.Value
	}
	for name, value := range f.Deploy.Annotations {
		service.Annotations[name] = value
	}
	spec := &service.Spec.Template.Spec
	spec.ServiceAccountName = f.Deploy.ServiceAccountName
	spec.ContainerConcurrency = f.Deploy.Options.Resources.Limits.Concurrency
	spec.Volumes, container.VolumeMounts = functionVolumes(t, f)
	spec.Containers = []corev1.Container{container}
	service.Spec.Template.Labels = service.Labels
	service.Spec.Template.Annotations = map[string]string{"dapr.io/enabled": "true"}
	for name, bound := range map[string]*int64{"min-scale": f.Deploy.Options.Scale.Min, "max-scale": f.Deploy.Options.Scale.Max} {
		service.Spec.Template.Annotations["autoscaling.knative.dev/"+name] = resource.NewQuantity(*bound, resource.DecimalSI).String()
	}
	return service
}

func functionVolumes(t *testing.T, f functionFile) (volumes []corev1.Volume, mounts []corev1.VolumeMount) {
	t.Helper()
	for _, v := range f.Run.Volumes {
		volume := corev1.Volume{}
		switch {
		case v.Secret != nil:
			volume.Name, volume.Secret = "secret-"+*v.Secret, &corev1.SecretVolumeSource{SecretName: *v.Secret}
		case v.ConfigMap != nil:
			volume.Name, volume.ConfigMap = "config-map-"+*v.ConfigMap, &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: *v.ConfigMap}}
		case v.EmptyDir != nil:
			limit := resource.MustParse(v.EmptyDir.SizeLimit)
			volume.Name, volume.EmptyDir = "empty-dir-abcdefg", &corev1.EmptyDirVolumeSource{SizeLimit: &limit}
		default:
			t.Errorf("the volume at %s is of no kind", v.Path)
		}
		volumes = append(volumes, volume)
		mounts = append(mounts, corev1.VolumeMount{Name: volume.Name, MountPath: v.Path})
	}
	return volumes, mounts
}

// functionImage is the one that the manifests name.
const functionImage = "ghcr.io/nirmata/kyverno-notation-venafi:latest"

// TestRenderedFunctionIsThatOfTheSource keeps what func would apply in a file, for tests in a cluster.
func TestRenderedFunctionIsThatOfTheSource(t *testing.T) {
	service := deployed(t, readFunction(t))
	service.TypeMeta = metav1.TypeMeta{APIVersion: "serving.knative.dev/v1", Kind: "Service"}
	text, err := yaml.Marshal(service)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/function.yaml", append([]byte("# The Knative Service that func makes of func.yaml. Do not edit:\n#   go -C config/validate test -run Rendered -update\n"), text...))
}

func TestTheFunctionsServiceIsValid(t *testing.T) {
	service := deployed(t, readFunction(t))
	validService(t, service)
	pod := service.Spec.Template
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	result := policy.AggregateCheckResults(evaluator.EvaluatePod(psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}, &pod.ObjectMeta, &pod.Spec.PodSpec))
	if !result.Allowed {
		t.Error(result.ForbiddenDetail())
	}
}

func TestTheFunctionIsSetUp(t *testing.T) {
	function := readFunction(t)
	same(t, "name", function.Name, serviceName)
	same(t, "namespace", function.Namespace, productNamespace)
	same(t, "runtime and invocation", function.Runtime+" "+function.Invoke, "go http")
	if function.Created.IsZero() || !slices.Contains([]string{"host", "pack", "s2i"}, function.Build.Builder) {
		t.Errorf("created %v, builder %q", function.Created, function.Build.Builder)
	}
	for _, env := range function.Build.BuildEnvs {
		if env.Name == "GOFLAGS" { // Go takes no other -mod in a workspace, which .func/go.work is
			t.Errorf("the build has GOFLAGS=%s", env.Value)
		}
	}
}

// TestFuncBuildsInAWorkspace holds the files by which func's builder and runner use our versions. go.work takes no module that asks for a
// newer Go than it names, and func adds a line to .gitignore where it finds none.
func TestFuncBuildsInAWorkspace(t *testing.T) {
	source := func(name string) string {
		text, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	_, version, _ := strings.Cut(source("go.mod"), "\ngo ")
	version, _, _ = strings.Cut(version, "\n")
	for file, uses := range map[string]string{".func/go.work": "\t..\n\t./build\n", ".func/runs/go.work": "\t../..\n\t./8080\n"} {
		text := source(file)
		if !strings.Contains(text, "\ngo "+version+"\n") {
			t.Errorf("%s is not for go %s, as go.mod is", file, version)
		}
		if !strings.Contains(text, "use (\n"+uses+")\n") {
			t.Errorf("%s uses other modules than %q", file, uses)
		}
	}
	if !strings.Contains(source(".gitignore"), "\n/.func") {
		t.Error("func would add a line to .gitignore")
	}
}

// TestTheFunctionIsLikeTheKnativeService compares the two ways to a Knative Service.
func TestTheFunctionIsLikeTheKnativeService(t *testing.T) {
	function, manifest := deployed(t, readFunction(t)), knativeService(t)
	if !reflect.DeepEqual(function.Labels, manifest.Labels) {
		t.Errorf("labels %v and %v", function.Labels, manifest.Labels)
	}
	for _, name := range []string{"min-scale", "max-scale"} {
		same(t, name, function.Spec.Template.Annotations["autoscaling.knative.dev/"+name], manifest.Spec.Template.Annotations["autoscaling.knative.dev/"+name])
	}
	have, want := function.Spec.Template.Spec, manifest.Spec.Template.Spec
	same(t, "account", have.ServiceAccountName, want.ServiceAccountName)
	same(t, "memory", have.Containers[0].Resources.Limits.Memory().String(), want.Containers[0].Resources.Limits.Memory().String())
	for _, env := range want.Containers[0].Env {
		if !slices.Contains(have.Containers[0].Env, env) {
			t.Errorf("the function has no %s=%s", env.Name, env.Value)
		}
	}
	for _, mount := range want.Containers[0].VolumeMounts {
		if !slices.ContainsFunc(have.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == mount.MountPath }) {
			t.Errorf("the function mounts nothing at %s", mount.MountPath)
		}
	}
}

// TestWhatTheFunctionNeedsIsApplied holds config/func against the Knative manifest, which differs by the Service.
func TestWhatTheFunctionNeedsIsApplied(t *testing.T) {
	all := parse(t, render(t, "func"))
	have, want := byIdentity(t, all), byIdentity(t, parse(t, read(t, knativeFile)))
	delete(want, "serving.knative.dev/v1 Service "+productNamespace+"/"+serviceName)
	if !reflect.DeepEqual(have, want) {
		t.Errorf("config/func has %d objects, not the %d of the Knative manifest", len(have), len(want))
	}
	labels := deployed(t, readFunction(t)).Spec.Template.Labels
	if service := find[corev1.Service](t, all, "Service", "svc"); !selects(t, &metav1.LabelSelector{MatchLabels: service.Spec.Selector}, labels) {
		t.Error("svc does not find the function's pods")
	}
	if budget := find[policyv1.PodDisruptionBudget](t, all, "PodDisruptionBudget", serviceName); !selects(t, budget.Spec.Selector, labels) {
		t.Error("the disruption budget does not find the function's pods")
	}
}
