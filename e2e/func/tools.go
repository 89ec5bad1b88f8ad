// Package function has func itself, and what the documents say of it, for tests that follow them. Its own test does so from a clean clone,
// with a registry on loopback and a real API server; it stands for the node and for Knative's controller: it runs what was deployed, from
// the image that was pushed. The test with pods is in e2e/knative.
package function

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
)

const (
	repository = "../.."
	readmeFile = "config/README.md"
)

// Clone is a clone of what is committed.
func Clone(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "clone")
	if out, err := exec.CommandContext(t.Context(), "git", "clone", "--quiet", "--no-hardlinks", repository, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// Tools gives a folder with func's command line, by the name that the documents use: the program, or the one of the version that
// e2e/tools/func pins where that is empty.
func Tools(t *testing.T, program string) string {
	t.Helper()
	if program == "" {
		program = built(t)
	}
	program, err := filepath.Abs(program)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := errors.Join(os.Symlink(program, filepath.Join(dir, "func")), os.WriteFile(filepath.Join(dir, "go-native"), []byte(goNative), 0o755)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func built(t *testing.T) string {
	t.Helper()
	builder, err := bed.NewBuilder(t.Context(), bed.Options{Log: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	return bed.BuildForTest(t, builder, func(ctx context.Context) (string, error) {
		return builder.Static(ctx, "func", "func", "knative.dev/func/cmd/func")
	})
}

// Environment is the process's own, with func found in the folder that Tools gives, and without what func or Go would take from it.
func Environment(tools string) []string {
	environment := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"GOFLAGS", "CGO_ENABLED", "GOWORK", "PATH"}, name) || strings.HasPrefix(name, "FUNC_") || strings.HasPrefix(name, "KUBE")
	})
	return append(environment, "PATH="+tools+":"+os.Getenv("PATH"))
}

// OnlyNative has func build for this machine's platform only, and have its program in the images of the others.
func OnlyNative(tools string) string { return "FUNC_GO=" + filepath.Join(tools, "go-native") }

// goNative is what func takes for the go command. The host builder has it build each platform: build -o FILE.
const goNative = `#!/bin/sh
case "$GOARCH" in
""|` + runtime.GOARCH + `) exec go "$@" ;;
esac
cp result/f.linux.` + runtime.GOARCH + ` "$3" || exec go "$@"
`

// command is a line that stands in the documents.
var command = regexp.MustCompile(`(?m)^    ((?:func|kubectl) .*)$`)

// Commands are those of the section on func, by what they do; REGISTRY is replaced.
func Commands(t *testing.T, registry string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, readmeFile))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n### func\n")
	section, _, more := strings.Cut(section, "\n### ")
	if !ok || !more {
		t.Fatalf("%s has no section func", readmeFile)
	}
	kinds := []struct{ what, sign string }{
		{"base", " --base-image "}, {"replace", " kubectl replace "}, {"set image", " set image "}, {"apply", "kubectl apply -k "},
		{"build", "func build "}, {"invoke", "func invoke "}, {"run", "func run"}, {"deploy", "func deploy"},
	}
	commands := map[string]string{}
	for _, match := range command.FindAllStringSubmatch(section, -1) {
		line := strings.ReplaceAll(match[1], "REGISTRY", registry)
		i := slices.IndexFunc(kinds, func(kind struct{ what, sign string }) bool { return strings.Contains(line, kind.sign) })
		if i < 0 || commands[kinds[i].what] != "" {
			t.Fatalf("%s: what is %q for?", readmeFile, line)
		}
		commands[kinds[i].what] = line
	}
	if len(commands) != len(kinds) {
		t.Fatalf("%s says only how to %v", readmeFile, commands)
	}
	return commands
}
