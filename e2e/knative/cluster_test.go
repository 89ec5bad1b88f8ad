//go:build e2e_knative

package knative

import (
	"bytes"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/cluster"
)

// TestTheClusterComesAndGoes brings the cluster up and down as the make targets do, also after an interruption and a crash, and
// compares the machine afterwards with that before. It ends with a new cluster for the other tests.
func TestTheClusterComesAndGoes(t *testing.T) {
	program := filepath.Join(t.TempDir(), "cluster")
	if out, err := exec.Command("go", "build", "-o", program, "../cmd/cluster").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	do := func(command string) {
		t.Helper()
		if out, err := exec.Command(program, command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	t.Cleanup(func() {
		do("up")
		do("world")
	})
	do("down")
	before := machine(t)

	interrupted(t, program)
	do("up")
	first := attach(t)
	kubectl(t, first, "wait", "--for=condition=Available", "deployment", "--all", "--namespace=knative-serving", "--timeout=1m")
	do("up")
	if again := attach(t); again.Supervisor() != first.Supervisor() {
		t.Errorf("a second up started another cluster: %v and %v", again.Supervisor(), first.Supervisor())
	}

	if err := first.Supervisor().Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); first.Supervisor().Running(); time.Sleep(100 * time.Millisecond) { // it takes all others with it first
		if time.Now().After(deadline) {
			t.Fatal("the cluster's first process does not end")
		}
	}
	do("up")
	if _, err := attach(t).Kubectl(t.Context(), "", "wait", "--for=condition=Ready", "node", "--all", "--timeout=1m"); err != nil {
		t.Errorf("after a crash: %v", err)
	}
	do("down")
	do("down")
	if after := machine(t); !maps.Equal(before, after) {
		for what := range before {
			if before[what] != after[what] {
				t.Errorf("%s: before\n%s\nafter\n%s", what, before[what], after[what])
			}
		}
	}
	if _, err := cluster.Attach(cluster.Options{}); err == nil {
		t.Error("there is still a cluster")
	}
}

// interrupted kills the program that brings the cluster up as soon as its node runs.
func interrupted(t *testing.T, program string) {
	t.Helper()
	cmd := exec.Command(program, "up")
	progress, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := []byte{}
	for part := make([]byte, 1024); !bytes.Contains(said, []byte("node started")); {
		n, err := progress.Read(part)
		said = append(said, part[:n]...)
		if err == io.EOF {
			t.Fatalf("up ended: %s", said)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

// machine is the state of the machine that a cluster changes or may change.
func machine(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, root := range []string{"vm", "kernel/keys", "kernel/panic", "kernel/panic_on_oops", "net/bridge", "net/ipv4/ip_forward", "net/netfilter/nf_conntrack_max"} {
		_ = filepath.WalkDir(filepath.Join("/proc/sys", root), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Type().IsRegular() {
				value, _ := os.ReadFile(path) // some can only be written
				found[path] = strings.TrimSpace(string(value))
			}
			return nil
		})
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/*")
	if err != nil {
		t.Fatal(err)
	}
	top, err := filepath.Glob("/sys/fs/cgroup/*")
	if err != nil {
		t.Fatal(err)
	}
	groups = slices.DeleteFunc(append(groups, top...), func(path string) bool {
		info, err := os.Stat(path)
		return err != nil || !info.IsDir()
	})
	found["cgroups"] = strings.Join(groups, "\n")
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	found["mounts"] = string(mounts)
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		found["links"] += link.Name + "\n"
	}
	found["processes in other namespaces"] = strings.Join(strangers(t), "\n")
	return found
}

// strangers are processes in other network namespaces than this process.
func strangers(t *testing.T) []string {
	t.Helper()
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	networks, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(networks, func(path string) bool {
		network, err := os.Readlink(path)
		return err != nil || network == own
	})
}
