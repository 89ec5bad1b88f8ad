package validate

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/yaml"
)

// functionFile is what func.yaml may hold, by func's public schema (specVersion 0.36.0). make test-func has func itself read it.
type functionFile struct {
	SpecVersion string    `json:"specVersion"`
	Name        string    `json:"name"`
	Namespace   string    `json:"namespace"`
	Runtime     string    `json:"runtime"`
	Invoke      string    `json:"invoke"`
	Created     time.Time `json:"created"`
	Build       struct {
		Builder string `json:"builder"`
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

// source gives a file of the repository's root.
func source(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func readFunction(t *testing.T) functionFile {
	t.Helper()
	var function functionFile
	if err := yaml.UnmarshalStrict([]byte(source(t, "func.yaml")), &function); err != nil {
		t.Fatal(err)
	}
	return function
}

// functionService is the file with the Knative Service that func made of func.yaml; make test-func compares and rewrites it.
const functionService = "testdata/function.yaml"

// deployed is the Knative Service that func made of func.yaml.
func deployed(t *testing.T) *servingv1.Service {
	t.Helper()
	text, err := os.ReadFile(functionService)
	if err != nil {
		t.Fatal(err)
	}
	service := &servingv1.Service{}
	if err := yaml.UnmarshalStrict(text, service); err != nil {
		t.Fatal(err)
	}
	return service
}

// mounted is the name of what is mounted, with its kind as func has it in the volume's name.
func (f functionFile) mounted() (names, paths []string) {
	for _, v := range f.Run.Volumes {
		name := "empty-dir-"
		switch {
		case v.Secret != nil:
			name = "secret-" + *v.Secret
		case v.ConfigMap != nil:
			name = "config-map-" + *v.ConfigMap
		}
		names, paths = append(names, name), append(paths, v.Path)
	}
	return names, paths
}

// TestTheRecordedFunctionIsThatOfTheSource sees a func.yaml that was changed after func made the Service of it.
func TestTheRecordedFunctionIsThatOfTheSource(t *testing.T) {
	const again = "; record it anew: make test-func ARGS='-args -update'"
	function, service := readFunction(t), deployed(t)
	template := service.Spec.Template
	container := template.Spec.Containers[0]
	for _, env := range function.Run.Envs {
		if !slices.Contains(container.Env, corev1.EnvVar{Name: env.Name, Value: env.Value}) {
			t.Errorf("no variable %s=%s%s", env.Name, env.Value, again)
		}
	}
	if len(container.Env) != len(function.Run.Envs)+2 { // func adds BUILT and ADDRESS
		t.Errorf("variables %v%s", container.Env, again)
	}
	for _, label := range function.Deploy.Labels {
		same(t, "label "+label.Key+again, template.Labels[label.Key], label.Value)
	}
	names, paths := function.mounted()
	for i, mount := range container.VolumeMounts {
		if len(container.VolumeMounts) != len(names) || !strings.HasPrefix(mount.Name, names[i]) || mount.MountPath != paths[i] {
			t.Fatalf("mounts %v%s", container.VolumeMounts, again)
		}
	}
	limits, options := container.Resources.Limits, function.Deploy.Options
	for name, amount := range options.Resources.Requests {
		requested := container.Resources.Requests[name]
		same(t, "requested "+string(name)+again, requested.String(), amount)
	}
	for name, value := range map[string][2]string{
		"name":        {service.Namespace + "/" + service.Name, function.Namespace + "/" + function.Name},
		"account":     {template.Spec.ServiceAccountName, function.Deploy.ServiceAccountName},
		"liveness":    {container.LivenessProbe.HTTPGet.Path, function.Deploy.HealthEndpoints.Liveness},
		"readiness":   {container.ReadinessProbe.HTTPGet.Path, function.Deploy.HealthEndpoints.Readiness},
		"minimum":     {template.Annotations["autoscaling.knative.dev/min-scale"], fmt.Sprint(*options.Scale.Min)},
		"maximum":     {template.Annotations["autoscaling.knative.dev/max-scale"], fmt.Sprint(*options.Scale.Max)},
		"concurrency": {fmt.Sprint(*template.Spec.ContainerConcurrency), fmt.Sprint(*options.Resources.Limits.Concurrency)},
		"memory":      {limits.Memory().String(), options.Resources.Limits.Memory},
	} {
		same(t, name+again, value[0], value[1])
	}
}

func TestTheFunctionsServiceIsValid(t *testing.T) {
	service := deployed(t)
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
	if function.Created.IsZero() || function.Build.Builder != "host" {
		t.Errorf("created %v, builder %q", function.Created, function.Build.Builder)
	}
	if text := source(t, "func.yaml"); strings.Contains(text, "#") {
		t.Error("func.yaml has a comment, and func drops comments when it writes the file; put it into the README")
	}
}

// TestFuncBuildsInAWorkspace holds the files by which func's builder and runner use our versions: go.work takes no module that asks
// for a newer Go than it names, and func adds a line to .gitignore that it does not find.
func TestFuncBuildsInAWorkspace(t *testing.T) {
	_, version, _ := strings.Cut(source(t, "go.mod"), "\ngo ")
	version, _, _ = strings.Cut(version, "\n")
	for file, uses := range map[string][]string{".func/go.work": {"..", "./build"}, ".func/runs/go.work": {"../..", "./8080"}} {
		text := source(t, file)
		if !strings.Contains(text, "\ngo "+version+"\n") {
			t.Errorf("%s is not for go %s, as go.mod is", file, version)
		}
		if !strings.Contains(text, "use (\n\t"+strings.Join(uses, "\n\t")+"\n)\n") {
			t.Errorf("%s uses other modules than %v", file, uses)
		}
	}
	if !strings.Contains(source(t, ".gitignore"), "\n/.func") || !strings.Contains(source(t, ".dockerignore"), "\n.func\n") {
		t.Error("what func writes is not ignored")
	}
}

// TestTheFunctionIsLikeTheKnativeService compares the two ways to a Knative Service.
func TestTheFunctionIsLikeTheKnativeService(t *testing.T) {
	function, manifest := deployed(t), knativeService(t)
	for name, value := range manifest.Labels {
		same(t, "label "+name, function.Labels[name], value)
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

// TestWhatTheFunctionNeedsIsApplied holds config/func against the Knative manifest. They differ by the Service, by what func wants to
// exist beforehand, and by the image of certmanager, which is the function's.
func TestWhatTheFunctionNeedsIsApplied(t *testing.T) {
	all := parse(t, render(t, "func"))
	have, want := byIdentity(t, all), byIdentity(t, parse(t, read(t, knativeFile)))
	delete(want, "serving.knative.dev/v1 Service "+productNamespace+"/"+serviceName)
	service := deployed(t)
	for _, volume := range service.Spec.Template.Spec.Volumes {
		switch {
		case volume.Secret != nil:
			remove(t, have, "v1 Secret "+productNamespace+"/"+volume.Secret.SecretName)
		case volume.ConfigMap != nil:
			remove(t, have, "v1 ConfigMap "+productNamespace+"/"+volume.ConfigMap.Name)
		}
	}
	const manager = "apps/v1 Deployment " + productNamespace + "/" + managerName
	remove(t, have, manager)
	remove(t, want, manager)
	if !reflect.DeepEqual(have, want) {
		t.Errorf("config/func has %d further objects, not the %d of the Knative manifest", len(have), len(want))
	}
	container := find[appsv1.Deployment](t, all, "Deployment", managerName).Spec.Template.Spec.Containers[0]
	same(t, "what certmanager runs", strings.Join(append(container.Command, container.Args...), " "), "/func/f certmanager")
	if host, _, _ := strings.Cut(container.Image, "/"); !strings.HasSuffix(host, ".invalid") {
		t.Errorf("certmanager has the image %s, not that of the function", container.Image)
	}
	labels := service.Spec.Template.Labels
	if svc := find[corev1.Service](t, all, "Service", "svc"); !selects(t, &metav1.LabelSelector{MatchLabels: svc.Spec.Selector}, labels) {
		t.Error("svc does not find the function's pods")
	}
	if budget := find[policyv1.PodDisruptionBudget](t, all, "PodDisruptionBudget", serviceName); !selects(t, budget.Spec.Selector, labels) {
		t.Error("the disruption budget does not find the function's pods")
	}
}

// remove takes an object out, which must be there.
func remove[T any](t *testing.T, objects map[string]T, identity string) {
	t.Helper()
	if _, ok := objects[identity]; !ok {
		t.Errorf("there is no %s", identity)
	}
	delete(objects, identity)
}
