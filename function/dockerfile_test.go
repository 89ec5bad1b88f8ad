package function_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// TestDockerfilePinsItsInputsAndIsNotRoot parses the Dockerfile as BuildKit does.
func TestDockerfilePinsItsInputsAndIsNotRoot(t *testing.T) {
	file, err := os.Open("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	parsed, err := parser.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	stages, arguments, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(stages) != 3 {
		t.Fatalf("%d stages, want 3", len(stages))
	}
	for _, argument := range arguments {
		for _, pair := range argument.Args {
			if strings.HasSuffix(pair.Key, "_IMAGE") && !regexp.MustCompile(`:[^:@]+$|@sha256:`).MatchString(*pair.Value) {
				t.Errorf("base image %s is not pinned", *pair.Value)
			}
		}
	}
	final := stages[2].Commands
	user := commandOf[*instructions.UserCommand](t, final)
	if !regexp.MustCompile(`^[1-9][0-9]*(:[0-9]+)?$`).MatchString(user.User) {
		t.Errorf("USER %s is not a number other than 0", user.User)
	}
	labels := commandOf[*instructions.LabelCommand](t, final)
	if !slices.ContainsFunc(labels.Labels, func(l instructions.KeyValuePair) bool { return l.Key == "org.opencontainers.image.source" }) {
		t.Error("the image has no label org.opencontainers.image.source")
	}
	download := commandOf[*instructions.AddCommand](t, stages[1].Commands)
	if !strings.HasPrefix(download.Checksum, "sha256:") {
		t.Errorf("the plugin is downloaded without a checksum: %v", download)
	}
	build := strings.Join(commandOf[*instructions.RunCommand](t, stages[0].Commands[len(stages[0].Commands)-1:]).CmdLine, " ")
	for _, part := range []string{"CGO_ENABLED=0", "-trimpath", `-ldflags "-s -w"`} {
		if !strings.Contains(build, part) {
			t.Errorf("the binary is to be static, stripped and without paths of the builder's machine, but is built without %s: %s", part, build)
		}
	}
}

// commandOf finds the first command of a type.
func commandOf[T instructions.Command](t *testing.T, commands []instructions.Command) T {
	t.Helper()
	for _, command := range commands {
		if found, ok := command.(T); ok {
			return found
		}
	}
	var none T
	t.Fatalf("there is no %T", none)
	return none
}
