//go:build e2e_image && linux

package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/config/commands"
	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
)

const (
	document  = "config/README.md"
	readyTime = time.Minute
	endTime   = 20 * time.Second
	told      = 1 // exit status of the daemon that was told to end
)

// withCache is a runc that mounts the folder of Go's build cache into each container. BuildKit's own cache mounts stand in Dockerfiles,
// where other builders would not know them.
const withCache = `#!/bin/sh
previous=
for word; do
  if [ "$previous" = --bundle ]; then
    sed -i 's#"mounts":\[#&{"destination":"/root/.cache/go-build","type":"bind","source":"'"$KNV_GOCACHE"'","options":["rbind","rw"]},#' "$word/config.json"
  fi
  previous=$word
done
exec runc "$@"
`

// buildkit is a daemon of BuildKit, and Docker's command line of it.
type buildkit struct {
	*materials
	command     string   // the document's
	environment []string // in which docker is found, and finds the daemon
}

func TestBuildKitBuildsTheImage(t *testing.T) {
	m := newMaterials(t)
	if _, err := exec.LookPath("runc"); err != nil {
		t.Skipf("BuildKit runs commands with runc: %v; on Debian: apt-get install --no-install-recommends runc", err)
	}
	b := &buildkit{materials: m, command: documented(t)}
	b.start(t)
	first := b.build(t, "first")
	t.Run("for both platforms", func(t *testing.T) { holds(t, first) })
	t.Run("the same again", func(t *testing.T) {
		same(t, digests(first), digests(b.build(t, "second")))
	})
	t.Run("not with another plugin", func(t *testing.T) {
		said, err := b.run(t, "third", strings.Repeat("0", 64))
		if err == nil || !strings.Contains(said, refusal) {
			t.Errorf("%v, %s", err, said)
		}
	})
}

// documented is the command that the document shows.
func documented(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, document))
	if err != nil {
		t.Fatal(err)
	}
	shown := commands.In(string(text))
	at := slices.IndexFunc(shown, func(command string) bool { return strings.HasPrefix(command, "docker buildx build ") })
	if at < 0 {
		t.Fatalf("%s does not say how to build with BuildKit", document)
	}
	return shown[at]
}

// start starts the daemon in a folder of its own, on the host's network, and makes it the builder of a docker that has nothing but
// buildx. It ends with the test.
func (b *buildkit) start(t *testing.T) {
	t.Helper()
	daemon, buildx := built(t)
	dir := t.TempDir()
	group := fmt.Sprintf("kyverno-notation-venafi-image-%d", os.Getpid())
	config := fmt.Sprintf("[registry.%q]\n  http = true\n[worker.oci]\n  defaultCgroupParent = %q\n", b.registry.Host(), group)
	script := "#!/bin/sh\n[ \"$1\" = buildx ] && shift && exec " + buildx + " \"$@\"\n"
	files := map[string]string{"buildkitd.toml": config, "docker": script}
	if *cache != "" {
		files["runc"] = withCache
		files["buildkitd.toml"] += fmt.Sprintf("  binary = %q\n", filepath.Join(dir, "runc"))
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	address := "unix://" + filepath.Join(dir, "socket")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(daemon, "--root="+filepath.Join(dir, "root"), "--addr="+address, "--config="+filepath.Join(dir, "buildkitd.toml"),
		"--containerd-worker=false", "--oci-worker-net=host")
	cmd.Env = append(os.Environ(), "KNV_GOCACHE="+*cache)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(endTime, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		defer kill.Stop()
		if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != told {
			t.Errorf("buildkitd ended with %v", cmd.ProcessState)
		}
		removeCgroups(t, group)
		if said, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("buildkitd:\n%s", said)
		}
	})
	b.environment = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "BUILDX_CONFIG="+filepath.Join(dir, "buildx"), "DOCKER_CONFIG="+filepath.Join(dir, "config"), "BUILDX_BUILDER=test")
	ctx, cancel := context.WithTimeout(t.Context(), readyTime)
	defer cancel()
	if said, err := b.shell(ctx, "docker buildx create --name test --driver remote "+address).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for {
		said, err := b.shell(ctx, "docker buildx inspect --bootstrap test").CombinedOutput()
		if err == nil && strings.Contains(string(said), "running") {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("buildkitd does not answer: %v\n%s", err, said)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// removeCgroups removes what the daemon leaves, in each hierarchy.
func removeCgroups(t *testing.T, name string) {
	t.Helper()
	left, err := filepath.Glob("/sys/fs/cgroup/" + name)
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("/sys/fs/cgroup/*/" + name)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range append(left, more...) {
		folders := []string{}
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				folders = append(folders, path)
			}
			return err
		})
		for _, folder := range slices.Backward(folders) {
			err = errors.Join(err, os.Remove(folder))
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// built builds the programs, once.
func built(t *testing.T) (daemon, buildx string) {
	t.Helper()
	builder, err := bed.NewBuilder(t.Context(), bed.Options{Log: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	program := func(name, pkg string) string {
		return bed.BuildForTest(t, builder, func(ctx context.Context) (string, error) { return builder.Static(ctx, "buildkit", name, pkg) })
	}
	return program("buildkitd", "github.com/moby/buildkit/cmd/buildkitd"), program("buildx", "github.com/docker/buildx/cmd/buildx")
}

// build follows the document, and pulls what it pushed.
func (b *buildkit) build(t *testing.T, tag string) []Image {
	t.Helper()
	if said, err := b.run(t, tag, b.sums); err != nil {
		t.Fatalf("%s: %v\n%s", b.command, err, said)
	}
	return Read(t, b.reference(t, tag))
}

// run runs the document's command, with this machine's materials, and nothing kept from a build before.
func (b *buildkit) run(t *testing.T, tag, sums string) (string, error) {
	t.Helper()
	const begin = "docker buildx build "
	line := begin + "--no-cache --progress=plain " + strings.Join(b.arguments(t), " ") + " " + strings.TrimPrefix(b.command, begin)
	line = strings.NewReplacer("REGISTRY/kyverno-notation-venafi:v0.1.0", b.reference(t, tag).Name(), "linux/amd64,linux/arm64", *platforms).Replace(line)
	cmd := b.shell(t.Context(), line)
	cmd.Env = append(cmd.Env, "SUMS="+sums)
	said, err := cmd.CombinedOutput()
	return string(said), err
}

func (b *buildkit) shell(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir, cmd.Env, cmd.WaitDelay = repository, slices.Clone(b.environment), endTime
	return cmd
}
