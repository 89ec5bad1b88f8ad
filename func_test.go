package function

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/function"
)

// TestADemonstrationIsForFuncRunOnly changes one thing at a time of what `func run` gives to the function.
func TestADemonstrationIsForFuncRunOnly(t *testing.T) {
	source, image := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(source, demoTrust), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir       string
		variables map[string]string
		want      bool
	}{
		"func run":                         {source, nil, true},
		"func run on IPv6":                 {source, map[string]string{"LISTEN_ADDRESS": "[::1]:8080"}, true},
		"func run 1.22, with func.yaml's":  {source, map[string]string{"DENIAL_EVENTS": "true", "IMAGE_PULL_SECRETS": "regcred"}, true},
		"in a pod":                         {source, map[string]string{"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, false},
		"with a cluster":                   {source, map[string]string{"KUBECONFIG": "/home/a/.kube/config"}, false},
		"with trust":                       {source, map[string]string{"TRUST_DIR": "/trust"}, false},
		"on all addresses, as images have": {source, map[string]string{"LISTEN_ADDRESS": "[::]:8080"}, false},
		"on an address of the machine":     {source, map[string]string{"LISTEN_ADDRESS": "192.0.2.1:8080"}, false},
		"on a name":                        {source, map[string]string{"LISTEN_ADDRESS": "localhost.example.com:8080"}, false},
		"on the runtime's default":         {source, map[string]string{"LISTEN_ADDRESS": ""}, false},
		"in an image":                      {image, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			variables := map[string]string{"LISTEN_ADDRESS": "127.0.0.1:8080"}
			for name, value := range c.variables {
				variables[name] = value
			}
			env := environment(func(name string) (string, bool) {
				value, ok := variables[name]
				return value, ok
			}, c.dir)
			settings, _, err := function.LoadSettings("function", nil, env, nil)
			if err != nil {
				t.Fatal(err)
			}
			demo := settings.TrustDir == filepath.Join(c.dir, demoTrust) && settings.DefaultTrustPolicy == "demo" && !settings.DenialEvents
			if demo != c.want {
				t.Errorf("demonstration: %t", demo)
			}
			if !c.want && settings.TrustDir != variables["TRUST_DIR"] {
				t.Errorf("trust of %q", settings.TrustDir)
			}
		})
	}
}
