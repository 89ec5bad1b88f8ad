//go:build e2e && linux

package documents

import (
	"bytes"
	"cmp"
	"context"
	"errors"
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
	repository  = "../.."
	commandTime = 5 * time.Minute // for one command of a document
)

// machine is where somebody follows the documents: a checkout and a home of its own, with the programs that documents name.
type machine struct {
	checkout, home string
	programs       bed.Builder
	environment    []string
	values         map[string]string // what a reader puts in for a placeholder
	ran            map[string]bool   // commands of documents
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{checkout: filepath.Join(dir, "checkout"), home: filepath.Join(dir, "home"), values: map[string]string{}, ran: map[string]bool{}}
	programs := filepath.Join(dir, "bin")
	for _, folder := range []string{m.checkout, filepath.Join(m.home, ".kube"), programs} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.environment = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains([]string{"HOME", "PATH", "KUBECONFIG", "GOWORK", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME",
			"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}, name) // nobody follows documents from within make
	})
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} { // not below the new home, where all would be built again
		value, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		m.environment = append(m.environment, name+"="+strings.TrimSpace(string(value)))
	}
	m.environment = append(m.environment, "HOME="+m.home, "PATH="+programs+":"+os.Getenv("PATH"))
	// What git knows, or would know.
	m.output(t, repository, "git ls-files -co --exclude-standard -z | tar --null --ignore-failed-read -cT - | tar -xC "+m.checkout)
	var err error
	if m.programs, err = bed.NewBuilder(t.Context(), bed.Options{Log: os.Stderr}); err != nil {
		t.Fatal(err)
	}
	helm := bed.BuildForTest(t, m.programs, func(ctx context.Context) (string, error) {
		return m.programs.Program(ctx, "helm", "helm", "helm.sh/helm/v3/cmd/helm")
	})
	for name, program := range map[string]string{"helm": helm, "knv": m.checkout + "/knv", "kubectl-knv": m.checkout + "/knv"} {
		if err := os.Symlink(program, filepath.Join(programs, name)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// module is where a module that tools/TOOL pins lies.
func (m *machine) module(t *testing.T, tool, path string) string {
	t.Helper()
	dir, err := m.programs.ModuleDir(t.Context(), tool, path)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// shell runs a command line in a folder, and gives what it prints and says.
func (m *machine) shell(ctx context.Context, dir, line string) (string, int, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	command := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", line)
	var said bytes.Buffer
	command.Dir, command.Env, command.Stdout, command.Stderr = dir, m.environment, &said, &said
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = time.Second
	err := command.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return said.String(), exit.ExitCode(), nil
	}
	return said.String(), 0, errors.Join(err, ctx.Err())
}

// output is what a command prints that is none of a document's.
func (m *machine) output(t *testing.T, dir, line string) string {
	t.Helper()
	said, status, err := m.shell(t.Context(), dir, line)
	if err != nil || status != 0 {
		t.Fatalf("%s: status %d, %v\n%s", line, status, err, said)
	}
	return strings.TrimSpace(said)
}

func (m *machine) write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.checkout, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// step is a command of a document.
type step struct {
	document, command string
	dir               string // where it runs; the checkout, if not set
	more              string // put behind the command, where a document shows a part of one
	status            int    // that it exits with
	says              string // part of what it prints
}

// follow runs commands of documents in their order.
func (m *machine) follow(t *testing.T, steps ...step) {
	t.Helper()
	for _, s := range steps {
		text, err := os.ReadFile(filepath.Join(m.checkout, s.document))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(commands.In(string(text)), s.command) {
			t.Fatalf("%s does not show the command %q", s.document, s.command)
		}
		m.ran[s.command] = true
		line := s.command + s.more
		for placeholder, value := range m.values {
			line = strings.ReplaceAll(line, placeholder, value)
		}
		began := time.Now()
		said, status, err := m.shell(t.Context(), cmp.Or(s.dir, m.checkout), line)
		if err != nil || status != s.status || !strings.Contains(said, s.says) {
			t.Fatalf("%s: %s: status %d and %v; want %d and %q\n%s", s.document, line, status, err, s.status, s.says, said)
		}
		t.Logf("%6.1f s  %s", time.Since(began).Seconds(), line)
	}
}

// cluster starts an API server and makes it the one of the machine.
func (m *machine) cluster(t *testing.T) *bed.Bed {
	t.Helper()
	b := bed.StartForTest(t, bed.Options{})
	config, err := os.ReadFile(b.Kubeconfig())
	if err == nil {
		err = os.WriteFile(filepath.Join(m.home, ".kube", "config"), config, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// up has the documents' own command start an API server with Kyverno, and makes it the one of the machine. What is built for it comes from the
// cache of the tests; what runs is noted in a cache of the machine's own, so that an environment which is up beside this one stays.
func (m *machine) up(t *testing.T) {
	t.Helper()
	cache, err := bed.DefaultCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	bed.BuildForTest(t, m.programs, func(ctx context.Context) (string, error) { return m.programs.KyvernoManifest(ctx) })
	m.output(t, m.home, "mkdir -p .cache/kyverno-notation-venafi/e2e && ln -sfn "+cache+"/*/ .cache/kyverno-notation-venafi/e2e/")
	t.Cleanup(func() { _, _, _ = m.shell(context.WithoutCancel(t.Context()), m.checkout, "make e2e-down") }) // again, if the test ended before it came to that
	m.follow(t, step{document: "e2e/README.md", command: "make e2e-up", more: " | tail -1 | tee ~/up", says: "export KUBECONFIG="})
	m.output(t, m.home, ". ./up && cp $KUBECONFIG .kube/config")
}

// define creates definitions that an installation of others brings.
func (m *machine) define(t *testing.T, files ...string) {
	t.Helper()
	for _, file := range files {
		m.output(t, m.checkout, "kubectl create -f "+file)
		m.output(t, m.checkout, "kubectl wait --for=condition=Established --timeout=1m -f "+file)
	}
}

// accepted holds that all objects exist that a command line prints, and gives their number. Objects that the API server does not
// know, or fields of them, it has refused before: kubectl and helm ask it to.
func (m *machine) accepted(t *testing.T, manifest string) int {
	t.Helper()
	objects := strings.Count("\n"+m.output(t, m.checkout, manifest), "\nkind: ")
	names := m.output(t, m.checkout, manifest+" | kubectl get -f - -o name")
	if found := len(strings.Fields(names)); found != objects || found == 0 {
		t.Errorf("%s has %d objects, of which there are %d:\n%s", manifest, objects, found, names)
	}
	m.output(t, m.checkout, "kubectl wait --for=condition=Established --timeout=1m crd/trustpolicies.notation.nirmata.io crd/truststores.notation.nirmata.io")
	return objects
}

// all holds that this test ran what commands.txt says that it runs, and nothing else.
func (m *machine) all(t *testing.T, test string) {
	entries, err := commands.Read(filepath.Join(repository, "config", "commands.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if listed := slices.Contains(strings.Split(entry.By, ", "), test); listed != m.ran[entry.Command] {
			t.Errorf("config/commands.txt says that %s runs %q: %t; it ran: %t", test, entry.Command, listed, m.ran[entry.Command])
		}
	}
	t.Logf("%d commands of documents", len(m.ran))
}
