package validate

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// What Kyverno's Deployments should have.
const (
	caVolume = "kyverno-notation-venafi-ca"
	caPath   = "/etc/kyverno-notation-venafi/ca"
	certDirs = "/etc/ssl/certs:" + caPath
)

// kyvernoSource gives the folder of Kyverno's module, in the version that the tests with a real Kyverno use.
func kyvernoSource(t *testing.T) string {
	t.Helper()
	download := exec.Command("go", "mod", "download", "-json", "github.com/kyverno/kyverno")
	download.Dir = filepath.Join(configDir, "..", "e2e", "tools", "kyverno")
	text, err := download.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(text, &module); err != nil || module.Dir == "" {
		t.Fatalf("%v\n%s", err, text)
	}
	return module.Dir
}

// kyvernoChart renders Kyverno's chart with values, YAML; without any it is Kyverno as it comes.
func kyvernoChart(t *testing.T, values []byte) objects {
	t.Helper()
	chart, err := loader.LoadDir(filepath.Join(kyvernoSource(t), "charts", "kyverno"))
	if err != nil {
		t.Fatal(err)
	}
	var given map[string]any
	if err := yaml.UnmarshalStrict(values, &given); err != nil {
		t.Fatal(err)
	}
	if err := chartutil.ProcessDependencies(chart, given); err != nil {
		t.Fatal(err)
	}
	options := chartutil.ReleaseOptions{Name: "kyverno", Namespace: "kyverno", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, given, options, chartutil.DefaultCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		t.Fatal(err)
	}
	var found objects
	for name, text := range files {
		if strings.HasPrefix(name, "kyverno/templates/") && strings.HasSuffix(name, "/deployment.yaml") {
			found = append(found, parse(t, []byte(text))...)
		}
	}
	return found
}

// kyvernoManifest renders Kyverno's own manifest with the component.
func kyvernoManifest(t *testing.T) objects {
	t.Helper()
	manifest, err := os.ReadFile(filepath.Join(kyvernoSource(t), "config", "install-latest-testing.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	files := filesys.MakeFsInMemory()
	write := func(name string, text []byte) {
		if err := files.WriteFile(name, text); err != nil {
			t.Fatal(err)
		}
	}
	// Only its Deployments, as the rest takes kustomize long to read.
	write("/kyverno/install.yaml", []byte(strings.Join(slices.DeleteFunc(strings.Split(string(manifest), "\n---\n"), func(document string) bool {
		return !strings.Contains(document, "\nkind: Deployment\n")
	}), "\n---\n")))
	write("/kyverno/kustomization.yaml", []byte("resources: [install.yaml]\ncomponents: [trust]\n"))
	for _, name := range []string{"kustomization.yaml", "admission-controller.yaml", "reports-controller.yaml"} {
		write("/kyverno/trust/"+name, read(t, "kyverno", "trust", name))
	}
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, "/kyverno")
	if err != nil {
		t.Fatal(err)
	}
	text, err := rendered.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, text)
}

// trusts tells whether the containers of a Deployment's pods trust the CA beside the public ones.
func trusts(t *testing.T, deployment appsv1.Deployment) bool {
	t.Helper()
	pod := deployment.Spec.Template.Spec
	volume := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == caVolume })
	for _, container := range pod.Containers {
		variable := slices.IndexFunc(container.Env, func(e corev1.EnvVar) bool { return strings.HasPrefix(e.Name, "SSL_CERT") })
		mount := slices.IndexFunc(container.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == caVolume })
		if volume < 0 && variable < 0 && mount < 0 {
			return false
		}
		if volume < 0 || variable < 0 || mount < 0 {
			t.Fatalf("%s has a part of it only", deployment.Name)
		}
		if container.Env[variable] != (corev1.EnvVar{Name: "SSL_CERT_DIR", Value: certDirs}) {
			t.Errorf("%s: %v", deployment.Name, container.Env[variable])
		}
		if container.VolumeMounts[mount] != (corev1.VolumeMount{Name: caVolume, MountPath: caPath, ReadOnly: true}) {
			t.Errorf("%s: %v", deployment.Name, container.VolumeMounts[mount])
		}
		if source := pod.Volumes[volume].ConfigMap; source == nil || source.Name != caVolume || source.Optional == nil || !*source.Optional {
			t.Errorf("%s: %v", deployment.Name, pod.Volumes[volume])
		}
	}
	return true
}

// TestKyvernosDeploymentsMountTheCA holds it of each way to change Kyverno, and that nothing else is changed than what asks the
// service.
func TestKyvernosDeploymentsMountTheCA(t *testing.T) {
	asking := map[string]bool{"kyverno-admission-controller": true, "kyverno-reports-controller": true, "kyverno-background-controller": false, "kyverno-cleanup-controller": false}
	for way, test := range map[string]struct {
		objects objects
		changed bool
	}{
		"Helm":              {kyvernoChart(t, read(t, "kyverno", "values.yaml")), true},
		"Helm without it":   {kyvernoChart(t, nil), false},
		"the kustomization": {kyvernoManifest(t), true},
	} {
		for name, asks := range asking {
			if deployment := find[appsv1.Deployment](t, test.objects, "Deployment", name); trusts(t, deployment) != (asks && test.changed) {
				t.Errorf("%s: %s: want that it trusts the CA: %t", way, name, asks && test.changed)
			}
		}
	}
}

// TestKyvernosNamespaceGetsTheLeast states every right in Kyverno's namespace, and that the chart gives the same.
func TestKyvernosNamespaceGetsTheLeast(t *testing.T) {
	want := parse(t, render(t, "kyverno"))
	if got := rights(t, want); len(got) != 1 || !slices.Equal(got["Role kyverno/"+managerName], []string{" configmaps kyverno-notation-venafi-ca: get,update"}) {
		t.Errorf("the rights are %v", got)
	}
	plain := byIdentity(t, mustInstall(t, "{}"))
	var have objects
	for _, object := range withoutChartLabels(mustInstall(t, "{caCopy: {enabled: true}}")) {
		if plain[identity(object)] == nil {
			have = append(have, object)
		}
	}
	of := byIdentity(t, have)
	for id, object := range byIdentity(t, want) {
		if string(text(t, of[id])) != string(text(t, object)) {
			t.Errorf("%s: the chart has\n%s\nthe kustomization\n%s", id, text(t, of[id]), text(t, object))
		}
	}
	if len(have) != len(want) {
		t.Errorf("the chart has %d objects more, the kustomization %d", len(have), len(want))
	}
	elsewhere := 0
	for _, object := range mustInstall(t, "{caCopy: {enabled: true, namespace: policies}}") {
		if object.GetNamespace() == "policies" {
			elsewhere++
		}
	}
	if elsewhere != len(want) {
		t.Errorf("%d objects are in the namespace that the values name", elsewhere)
	}
}

// TestTheManagerIsToldTheNamespace is for a Kyverno elsewhere.
func TestTheManagerIsToldTheNamespace(t *testing.T) {
	for values, want := range map[string]string{
		"{}":                        "certmanager",
		"{caCopy: {enabled: true}}": "certmanager --caCopyNamespaces=kyverno",
		"{caCopy: {enabled: true, namespace: policies}}":  "certmanager --caCopyNamespaces=policies",
		"{caCopy: {enabled: false, namespace: policies}}": "certmanager",
	} {
		manager := find[appsv1.Deployment](t, mustInstall(t, values), "Deployment", managerName)
		same(t, values, strings.Join(manager.Spec.Template.Spec.Containers[0].Args, " "), want)
	}
}
