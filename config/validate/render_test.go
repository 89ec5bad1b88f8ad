package validate

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

var update = flag.Bool("update", false, "write what is made from other files anew: rendered manifests, the chart's definitions, values and README")

// configDir is config/, seen from this folder.
const configDir = ".."

// The rendered manifests, and the folders they are rendered from.
const (
	plainFile, plainDir     = "install.yaml", "plain"
	knativeFile, knativeDir = "knative.yaml", "knative"
)

func TestRenderedManifestsAreThoseOfTheSource(t *testing.T) {
	for file, dir := range map[string]string{plainFile: plainDir, knativeFile: knativeDir} {
		t.Run(file, func(t *testing.T) {
			header := "# Rendered from config/" + dir + ", where the comments are. Do not edit:\n#   go -C config/validate test -run Rendered -update\n"
			golden(t, filepath.Join(configDir, file), append([]byte(header), render(t, dir)...))
		})
	}
}

func TestTheChartsDefinitionsAreThoseOfTheSource(t *testing.T) {
	for _, name := range []string{"trustpolicies.yaml", "truststores.yaml"} {
		golden(t, filepath.Join(configDir, "chart", "crds", name), read(t, "crds", name))
	}
}

// render does what kubectl kustomize does.
func render(t *testing.T, dir string) []byte {
	t.Helper()
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionUnspecified // the kustomization says it
	resources, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), filepath.Join(configDir, dir))
	if err != nil {
		t.Fatal(err)
	}
	text, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// golden compares a file with what it should be, or writes it.
func golden(t *testing.T, path string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Errorf("%s is not what its source gives; run its test with -update: -run Rendered, Definitions or Values", path)
	}
}

// read gives a file under config/.
func read(t *testing.T, path ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{configDir}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return text
}
