package simulation

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	proof = flag.Bool("proof", false, "build the service with each mutation, and see that the simulation finds it")
	only  = flag.String("mutation", "", "of the mutations, those whose name matches")
)

// mutated gives the file of a mutation as it is and as it would be. The text to replace must be there once.
func mutated(t *testing.T, m Mutation) (path, text string) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", m.File))
	if err != nil {
		t.Fatal(err)
	}
	original, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = string(original)
	for _, edit := range m.edits() {
		if n := strings.Count(text, edit[0]); n != 1 {
			t.Fatalf("%s has the text %q %d times", m.File, edit[0], n)
		}
		text = strings.Replace(text, edit[0], edit[1], 1)
	}
	return path, text
}

func TestMutationsApply(t *testing.T) {
	names := map[string]bool{}
	for _, m := range Mutations {
		if mutated(t, m); m.Old == m.New || names[m.Name] {
			t.Errorf("%s changes nothing, or is there twice", m.Name)
		}
		names[m.Name] = true
	}
	if len(names) < 12 {
		t.Errorf("%d mutations", len(names))
	}
}

// TestSimulationFindsMutations builds the service with each of the mutations in turn, and expects a violation.
func TestSimulationFindsMutations(t *testing.T) {
	if !*proof {
		t.Skip("takes some seconds for each mutation: make simulate-proof")
	}
	for _, m := range Mutations {
		if matches, err := regexp.MatchString(*only, m.Name); err != nil || !matches {
			continue
		}
		t.Run(m.Name, func(t *testing.T) {
			path, text := mutated(t, m)
			dir := t.TempDir()
			overlay, mutant := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "mutant.go")
			described, err := json.Marshal(map[string]any{"Replace": map[string]string{path: mutant}})
			if err != nil {
				t.Fatal(err)
			}
			for name, content := range map[string][]byte{overlay: described, mutant: []byte(text)} {
				if err := os.WriteFile(name, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			run := exec.CommandContext(t.Context(), "go", "test", "-overlay", overlay, "-count=1", "-timeout", "30m", "-run", "^"+m.test()+"$", ".", "-args", "-sequences", "20000", "-first")
			output, err := run.CombinedOutput()
			found := regexp.MustCompile(`found after (\d+) sequences`).FindStringSubmatch(string(output))
			if err == nil || found == nil {
				t.Fatalf("it is not found: %v\n%s", err, output)
			}
			t.Logf("found after %s sequences", found[1])
		})
	}
}
