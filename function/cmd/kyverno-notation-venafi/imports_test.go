package main

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/nirmata/kyverno-notation-venafi"

// Bounds on what is shipped.
const (
	maxPackages = 1100
	maxModules  = 140
)

// dependency is a package that a command is built of.
type dependency struct{ path, module string }

// TestServiceImportsNoTestLibraries and no more packages and modules than are reviewed.
func TestServiceImportsNoTestLibraries(t *testing.T) {
	shipped := dependencies(t, ".")
	for _, d := range shipped {
		if forTests(d.path) {
			t.Errorf("the service is built with %s, which is for tests", d.path)
		}
	}
	modules := map[string]bool{}
	for _, d := range shipped {
		if d.module != "" && d.module != module {
			modules[d.module] = true
		}
	}
	t.Logf("%d packages of %d modules", len(shipped), len(modules))
	if len(shipped) > maxPackages || len(modules) > maxModules {
		t.Errorf("the service is built of %d packages of %d modules; at most %d of %d", len(shipped), len(modules), maxPackages, maxModules)
	}
}

// TestTestLibrariesAreSeen in the demonstration, which is made of them.
func TestTestLibrariesAreSeen(t *testing.T) {
	var found []string
	for _, d := range dependencies(t, "../demo") {
		if forTests(d.path) {
			found = append(found, d.path)
		}
	}
	for _, library := range []string{"net/http/httptest", module + "/shell/registry/registrytest", module + "/shell/verify/scenariotest", module + "/shell/verify/signingtest"} {
		if !slices.Contains(found, library) {
			t.Errorf("%s is not seen; only %q are", library, found)
		}
	}
}

func TestForTests(t *testing.T) {
	for path, want := range map[string]bool{
		"testing":                               true,
		"testing/fstest":                        true,
		"net/http/httptest":                     true,
		"net/http":                              false,
		"internal/testlog":                      false, // the standard library's os has it
		module + "/shell/registry/registrytest": true,
		module + "/shell/registry/registrytest/distribution": true,
		module + "/testdata/registry":                        true,
		module + "/function/cmd/demo":                        true,
		module + "/shell/registry":                           false,
		"github.com/acme/attest":                             false, // what others call theirs is theirs
	} {
		if got := forTests(path); got != want {
			t.Errorf("forTests(%s) = %t", path, got)
		}
	}
}

// forTests is true for packages that only tests and demonstrations may import.
func forTests(path string) bool {
	ours, isOurs := strings.CutPrefix(path, module+"/")
	if isOurs {
		return strings.Contains(ours, "test") || strings.HasPrefix(ours, "function/cmd/demo")
	}
	return path == "testing" || strings.HasPrefix(path, "testing/") || path == "net/http/httptest"
}

// dependencies lists what a command is built of, in the way in which the image is.
func dependencies(t *testing.T, command string) []dependency {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{.ImportPath}} {{with .Module}}{{.Path}}{{end}}", command)
	output, err := list.Output()
	if err != nil {
		t.Fatal(fmt.Errorf("go list: %w", err))
	}
	var found []dependency
	for line := range strings.Lines(string(output)) {
		path, module, _ := strings.Cut(strings.TrimSpace(line), " ")
		found = append(found, dependency{path, module})
	}
	return found
}
