package function_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// dockerfile parses the Dockerfile as BuildKit does.
func dockerfile(t *testing.T) ([]instructions.Stage, []instructions.ArgCommand) {
	t.Helper()
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
	return stages, arguments
}

func TestDockerfilePinsItsInputsAndIsNotRoot(t *testing.T) {
	stages, arguments := dockerfile(t)
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
	build := strings.Join(commandOf[*instructions.RunCommand](t, stages[0].Commands[len(stages[0].Commands)-1:]).CmdLine, " ")
	for _, part := range []string{"CGO_ENABLED=0", "-trimpath", "-buildvcs=false", `-ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}"`} {
		if !strings.Contains(build, part) {
			t.Errorf("the binary is to be static, stripped and without paths of the builder's machine, but is built without %s: %s", part, build)
		}
	}
}

// TestDockerfileNeedsNoBuildKit: buildah and Podman know neither a frontend nor mounts, checksums and links of instructions.
func TestDockerfileNeedsNoBuildKit(t *testing.T) {
	text, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	if directive := regexp.MustCompile(`(?mi)^# *(syntax|escape|check) *=.*|<<-?[A-Z]+`).Find(text); directive != nil {
		t.Errorf("the Dockerfile has %q", directive)
	}
	const portable = "--from --chown --chmod --platform"
	for _, instruction := range regexp.MustCompile(`(?mi)^ *[a-z]+((?:[ \t\\\n]+--\S+)+)`).FindAllSubmatch(text, -1) {
		for flag := range strings.FieldsSeq(string(instruction[1])) {
			if name, _, _ := strings.Cut(flag, "="); strings.HasPrefix(flag, "--") && !slices.Contains(strings.Fields(portable), name) {
				t.Errorf("%s is BuildKit's", flag)
			}
		}
	}
}

// TestDockerfileChecksThePlugin runs the instruction that follows the plugin's download, on an archive in place of it.
func TestDockerfileChecksThePlugin(t *testing.T) {
	stages, _ := dockerfile(t)
	commandOf[*instructions.AddCommand](t, stages[1].Commands)
	command := strings.Join(commandOf[*instructions.RunCommand](t, stages[1].Commands).CmdLine, " ")
	archive := pluginArchive(t)
	sum, other := fmt.Sprintf("%x", sha256.Sum256(archive)), fmt.Sprintf("%x", sha256.Sum256(nil))
	for sentence, c := range map[string]struct {
		sums    string
		accepts bool
	}{
		"the checksum":                    {sum, true},
		"those of two platforms":          {other + " " + sum, true},
		"another one":                     {other, false},
		"none":                            {"", false},
		"half of it":                      {sum[:32], false},
		"more than it":                    {sum + "0", false},
		"one of another file":             {other + "  /dev/null", false},
		"one of another algorithm":        {fmt.Sprintf("%x", sha1.Sum(archive)), false},
		"what is no checksum, and the OK": {"plugin.tar.gz: OK", false},
	} {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "plugin.tar.gz"), archive, 0o600); err != nil {
				t.Fatal(err)
			}
			run := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(command, "/out/", dir+"/out/"))
			run.Dir, run.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "PLUGIN_SHA256=" + c.sums, "PLUGIN_RELEASE=https://example.com/v1", "TARGETARCH=arm64"}
			said, err := run.CombinedOutput()
			_, missing := os.Stat(filepath.Join(dir, "out/plugins/venafi-csp/notation-venafi-csp"))
			if (err == nil) != c.accepts || (missing == nil) != c.accepts || !c.accepts && !strings.Contains(string(said), "has not the checksum of the plugin in https://example.com/v1 for arm64") {
				t.Errorf("%v, the plugin: %v, %s", err, missing, said)
			}
		})
	}
}

// pluginArchive is an archive as the plugin's releases have it.
func pluginArchive(t *testing.T) []byte {
	t.Helper()
	var archive bytes.Buffer
	packed := gzip.NewWriter(&archive)
	files := tar.NewWriter(packed)
	const program = "#!/bin/sh\n"
	err := files.WriteHeader(&tar.Header{Name: "notation-venafi-csp", Mode: 0o755, Size: int64(len(program))})
	if err == nil {
		_, err = files.Write([]byte(program))
	}
	if err := errors.Join(err, files.Close(), packed.Close()); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
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
