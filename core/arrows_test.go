package core_test

import (
	"fmt"
	"maps"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// arrows gives the rooms of the service, and for each the rooms that it may import. A room is a folder with all below it
// that has no entry of its own; what a room may import includes what is below that. Folders without an entry, libraries
// for tests and the commands that are made of them serve tests: they may import anything, and no room may import them.
var arrows = map[string][]string{
	"core/reason":       nil,
	"core/wildcard":     nil,
	"core/budget":       nil,
	"core/image":        {"core/reason", "core/wildcard"},
	"core/trust":        {"core/reason", "core/image"},
	"core/condition":    {"core/reason", "core/wildcard"},
	"core/verification": {"core/reason", "core/image", "core/trust", "core/condition"},
	"core/certificates": nil,
	"core/recordkey":    {"core/certificates"},
	"core/vsa":          {"core"},
	"core/ledger":       {"core/certificates"},
	"core/migrate":      nil,
	"core/notation":     {"core/reason", "core/trust"},
	"core/audit":        {"core"},
	"core/auditor":      {"core", "core/audit"},
	"core/record":       {"core"},
	"core/console":      {"core"},
	"core":              {"core/reason", "core/image", "core/trust", "core/condition", "core/verification"},
	"shell":             {"core"},
	"shell/kubeclient":  {"core", "shell/trust"},
	"shell/inventory":   {"core", "shell/kubeclient", "shell/trust"},
	"shell/auditor":     {"core", "shell/inventory", "shell/kubeclient"},
	"shell/kube":        {"core", "shell/flight", "shell/kubeclient", "shell/registry", "shell/trust"}, // of the serving replicas
	"shell/certmanager": {"core", "shell/issuer", "shell/kubeclient", "shell/trust"},                   // of the other Deployment
	"function":          {"core", "shell"},
	"function/cmd":      {"core", "shell", "function"},
	".":                 {"function"}, // func.go
}

// forTests are commands that start a registry and sign images, beside what is shipped.
var forTests = []string{"function/cmd/demo", "function/cmd/load"}

// binary is the package of the command that is shipped.
const binary = module + "/function/cmd/kyverno-notation-venafi"

func TestPackagesImportOneWay(t *testing.T) {
	for _, problem := range wrongArrows(importGraph(t)) {
		t.Error(problem)
	}
}

func TestBinaryLinksNoAdversary(t *testing.T) {
	linked := reachable(importGraph(t), binary)
	if !slices.Contains(linked, module+"/core") {
		t.Fatalf("%s links %d packages, and not the core", binary, len(linked))
	}
	for _, name := range linked {
		if within(name, module+"/adversary") || within(name, module+"/e2e") || within(name, module+"/simulation") {
			t.Errorf("the binary links %s", name)
		}
	}
}

func TestWrongArrowsAreFound(t *testing.T) {
	tests := map[string]struct {
		from, to string
		wrong    bool
	}{
		"a reference's errors are cut to a bound":      {"core/image", "core/reason", false},
		"codes know nothing of images":                 {"core/reason", "core/image", true},
		"images know nothing of trust":                 {"core/image", "core/trust", true},
		"trust knows nothing of verification":          {"core/trust", "core/verification", true},
		"verification evaluates conditions":            {"core/verification", "core/condition", false},
		"conditions know nothing of trust":             {"core/condition", "core/trust", true},
		"verification knows nothing of requests":       {"core/verification", "core", true},
		"the core verifies":                            {"core", "core/verification", false},
		"the core issues no certificates":              {"core", "core/certificates", true},
		"a translation knows nothing of requests":      {"core/migrate", "core", true},
		"the core knows nothing of the shell":          {"core", "shell/registry", true},
		"a leaf knows nothing of the shell":            {"core/reason", "shell/cache", true},
		"the core knows nothing of the function":       {"core", "function", true},
		"the shell asks any part of the core":          {"shell/verify", "core/verification", false},
		"parts of the shell know each other":           {"shell/verify", "shell/cache", false},
		"serving and managing share one client":        {"shell/kube", "shell/kubeclient", false},
		"the manager has the same client":              {"shell/certmanager", "shell/kubeclient", false},
		"the client knows nothing of who serves":       {"shell/kubeclient", "shell/kube", true},
		"the client knows nothing of the manager":      {"shell/kubeclient", "shell/certmanager", true},
		"who serves knows nothing of the manager":      {"shell/kube", "shell/certmanager", true},
		"the manager knows nothing of who serves":      {"shell/certmanager", "shell/kube", true},
		"a verification knows nothing of the manager":  {"shell/verify", "shell/certmanager", true},
		"a verification knows nothing of Kubernetes":   {"shell/verify", "shell/kube", true},
		"who serves issues no certificates":            {"shell/kube", "shell/issuer", true},
		"the function wires the manager":               {"function", "shell/certmanager", false},
		"the shell knows nothing of the function":      {"shell/verify", "function", true},
		"the shell knows nothing of the command":       {"shell/verify", "function/cmd/x", true},
		"the function wires the shell":                 {"function", "shell/verify", false},
		"the function knows nothing of its command":    {"function", "function/cmd/x", true},
		"the function links nothing of tests":          {"function", "shell/registry/registrytest", true},
		"the shell links nothing of tests":             {"shell/registry", "shell/registry/registrytest", true},
		"the command links nothing of tests":           {"function/cmd/x", "shell/verify/signingtest", true},
		"the demonstration does":                       {"function/cmd/demo", "shell/verify/signingtest", false},
		"tests' libraries know each other":             {"shell/verify/scenariotest", "shell/verify/signingtest", false},
		"a room below one for tests is for tests too":  {"shell/verify", "shell/registry/registrytest/distribution", true},
		"the command links no adversary":               {"function/cmd/x", "adversary/oracle", true},
		"the function links no simulation":             {"function", "simulation", true},
		"the shim serves the function":                 {".", "function", false},
		"the shim wires nothing itself":                {".", "shell/verify", true},
		"tests import what they like":                  {"adversary", "shell/verify", false},
		"a folder is not within one whose name it has": {"shell", "corex", true},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			graph := map[string][]string{path.Join(module, tt.from): {"fmt", path.Join(module, tt.to)}}
			if problems := wrongArrows(graph); (len(problems) > 0) != tt.wrong {
				t.Errorf("problems %q, want some: %t", problems, tt.wrong)
			}
		})
	}
}

func TestReachablePackagesAreFound(t *testing.T) {
	graph := map[string][]string{"a": {"b", "c"}, "b": {"d"}, "d": {"a"}, "e": {"f"}}
	if got := slices.Sorted(slices.Values(reachable(graph, "a"))); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("reachable are %q", got)
	}
}

// wrongArrows lists the imports of a graph that no arrow allows.
func wrongArrows(graph map[string][]string) []string {
	var problems []string
	for _, name := range slices.Sorted(maps.Keys(graph)) {
		for _, imported := range graph[name] {
			if problem := wrong(name, imported); problem != "" {
				problems = append(problems, fmt.Sprintf("%s imports %s: %s", name, imported, problem))
			}
		}
	}
	return problems
}

// wrong says why a package may not import another; "" when it may.
func wrong(name, imported string) string {
	from := roomOf(name)
	if from == "" || from == roomOf(imported) || !within(imported, module) {
		return ""
	}
	if !servesTests(imported) && slices.ContainsFunc(arrows[from], func(allowed string) bool { return within(imported, module+"/"+allowed) }) {
		return ""
	}
	return fmt.Sprintf("of this repository, %s may import %q", from, arrows[from])
}

// roomOf gives the room of a package; "" for one that is in none.
func roomOf(name string) string {
	switch {
	case name == module:
		return "."
	case servesTests(name):
		return ""
	}
	room := ""
	for candidate := range arrows {
		if within(name, module+"/"+candidate) && len(candidate) > len(room) {
			room = candidate
		}
	}
	return room
}

// servesTests tells a library for tests, by the folder's name, and a command that is made of those.
func servesTests(name string) bool {
	return slices.ContainsFunc(forTests, func(command string) bool { return within(name, module+"/"+command) }) ||
		slices.ContainsFunc(strings.Split(name, "/"), func(folder string) bool { return strings.HasSuffix(folder, "test") })
}

// importGraph gives what each package of the repository imports.
func importGraph(t *testing.T) map[string][]string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{.ImportPath}}{{range .Imports}} {{.}}{{end}}", "./...")
	command.Dir = ".."
	var stderr strings.Builder
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	graph := map[string][]string{}
	for line := range strings.Lines(string(output)) {
		if names := strings.Fields(line); within(names[0], module) {
			graph[names[0]] = names[1:]
		}
	}
	return graph
}

// reachable lists a package and all that it imports, at whatever hand.
func reachable(graph map[string][]string, from string) []string {
	found := []string{from}
	for i := 0; i < len(found); i++ {
		for _, imported := range graph[found[i]] {
			if !slices.Contains(found, imported) {
				found = append(found, imported)
			}
		}
	}
	return found
}
