package config

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/nirmata/kyverno-notation-venafi/function"
)

// podSpec is what the test reads of a pod.
type podSpec struct {
	TerminationGracePeriodSeconds int64 `json:"terminationGracePeriodSeconds"`
	TimeoutSeconds                int64 `json:"timeoutSeconds"` // Knative's; it becomes the grace period
	Containers                    []struct {
		Args []string      `json:"args"`
		Env  []environment `json:"env"`

		Resources struct {
			Limits struct {
				Memory string `json:"memory"`
			} `json:"limits"`
		} `json:"resources"`
	} `json:"containers"`
}

type environment struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// manifestObject is what the test reads of any object.
type manifestObject struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Spec struct {
		Template struct {
			Spec podSpec `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
	Rules []struct {
		Resources     []string `json:"resources"`
		ResourceNames []string `json:"resourceNames"`
	} `json:"rules"`
}

const product = "kyverno-notation-venafi"

func manifest(t *testing.T, file string) []manifestObject {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []manifestObject
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		var object manifestObject
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		all = append(all, object)
	}
	return all
}

// service is the pod of the service, in the manifest of a shape.
func service(t *testing.T, file string) podSpec {
	t.Helper()
	for _, object := range manifest(t, file) {
		if pod := object.Spec.Template.Spec; object.Metadata.Name == product && len(pod.Containers) > 0 {
			return pod
		}
	}
	t.Fatalf("%s has no pod of the service", file)
	return podSpec{}
}

// settings loads what a container is given, as the command does.
func settings(t *testing.T, args []string, env []environment) function.Settings {
	t.Helper()
	lookup := func(name string) (string, bool) {
		index := slices.IndexFunc(env, func(e environment) bool { return e.Name == name })
		if index < 0 {
			return "", false
		}
		return env[index].Value, true
	}
	if len(args) > 0 && args[0] == "serve" {
		args = args[1:]
	}
	loaded, rest, err := function.LoadSettings("serve", args, lookup, nil)
	if err != nil || len(rest) > 0 {
		t.Errorf("%v, %v", rest, err)
	}
	return loaded
}

// given are the settings of every shape, by its file.
func given(t *testing.T) map[string]function.Settings {
	t.Helper()
	all := map[string]function.Settings{}
	for _, file := range []string{"install.yaml", "knative.yaml"} {
		container := service(t, file).Containers[0]
		all[file] = settings(t, container.Args, container.Env)
	}
	var funcFile struct {
		Run struct {
			Envs []environment `json:"envs"`
		} `json:"run"`
	}
	text, err := os.ReadFile("../func.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &funcFile); err != nil {
		t.Fatal(err)
	}
	known := []string{"HOME", "GOMEMLIMIT", "SSL_CERT_DIR"} // not ours
	for _, field := range function.Fields() {
		known = append(known, field.Env)
	}
	for _, env := range funcFile.Run.Envs {
		if !slices.Contains(known, env.Name) {
			t.Errorf("func.yaml sets %s, which is no setting", env.Name)
		}
	}
	all["func.yaml"] = settings(t, nil, funcFile.Run.Envs)
	return all
}

func TestAllShapesHaveTheSameSettings(t *testing.T) {
	all := given(t)
	want := all["install.yaml"]
	for file, have := range all {
		if !reflect.DeepEqual(have, want) {
			t.Errorf("%s: %+v, and install.yaml %+v", file, have, want)
		}
	}
}

func TestAPodLivesLongEnoughToDrain(t *testing.T) {
	for _, file := range []string{"install.yaml", "knative.yaml"} {
		pod, set := service(t, file), given(t)[file]
		grace := time.Duration(pod.TerminationGracePeriodSeconds+pod.TimeoutSeconds) * time.Second
		if drain := set.DrainDelay + set.DrainTimeout; grace <= drain {
			t.Errorf("%s: the pod has %s to end, and drains for %s", file, grace, drain)
		}
	}
}

// TestThePluginsHaveRoom adds up what Go may use and what the plugin processes of all verifications do.
func TestThePluginsHaveRoom(t *testing.T) {
	const pluginProcess = 15 // MiB, measured with the venafi-csp plugin
	for _, file := range []string{"install.yaml", "knative.yaml"} {
		container := service(t, file).Containers[0]
		var goes, limit int
		for _, env := range container.Env {
			if env.Name == "GOMEMLIMIT" {
				fmt.Sscanf(env.Value, "%dMiB", &goes)
			}
		}
		fmt.Sscanf(container.Resources.Limits.Memory, "%dGi", &limit)
		plugins := given(t)[file].MaxVerifications * pluginProcess
		if goes == 0 || goes+plugins > limit*1024 {
			t.Errorf("%s: Go has %d MiB, plugins may need %d, of %s", file, goes, plugins, container.Resources.Limits.Memory)
		}
	}
}

func TestTheServiceMayReadWhatItsFlagsName(t *testing.T) {
	for _, file := range []string{"install.yaml", "knative.yaml"} {
		set, allowed := given(t)[file], map[string][]string{}
		for _, object := range manifest(t, file) {
			if object.Kind != "Role" || object.Metadata.Name != product {
				continue
			}
			for _, rule := range object.Rules {
				allowed[rule.Resources[0]] = append(allowed[rule.Resources[0]], rule.ResourceNames...)
			}
		}
		for _, secret := range append(slices.Clone(set.ImagePullSecrets), set.PluginConfigSecret, set.TLSSecret, set.CallerSecret) {
			if !slices.Contains(allowed["secrets"], secret) {
				t.Errorf("%s: the Secret %s may not be read", file, secret)
			}
		}
		for _, configMap := range []string{set.PluginConfigMap, set.EpochConfigMap} {
			if !slices.Contains(allowed["configmaps"], configMap) {
				t.Errorf("%s: the ConfigMap %s may not be read", file, configMap)
			}
		}
	}
}

func TestTheEventsAreForTheService(t *testing.T) {
	for _, file := range []string{"events/direct.yaml", "events/broker.yaml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, audience := range given(t)["install.yaml"].EventAudiences {
			if !strings.Contains(string(text), "\n    audience: "+audience+"\n") {
				t.Errorf("%s: the sender's token is not for %s", file, audience)
			}
		}
	}
}
