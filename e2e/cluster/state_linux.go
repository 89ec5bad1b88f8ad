package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
)

// state is what Down needs to know. It is written before anything that it undoes.
type state struct {
	Supervisor bed.Process       `json:"holder"`  // its end is the end of every process, mount and link of the cluster
	Sysctls    map[string]string `json:"sysctls"` // values to put back, by path below /proc/sys
}

// changedSysctls belong to the whole machine, and kubelet or kube-proxy set them.
var changedSysctls = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
	"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes", "net/netfilter/nf_conntrack_max",
}

// readState returns an empty state if there is none.
func (l layout) readState() (state, error) {
	s := state{}
	data, err := os.ReadFile(l.stateFile())
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("state of the cluster: %w", err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("state of the cluster in %s: %w", l.stateFile(), err)
	}
	return s, nil
}

func (l layout) writeState(s state) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("state of the cluster: %w", err)
	}
	unfinished := l.stateFile() + ".unfinished"
	if err := os.WriteFile(unfinished, data, 0o600); err != nil {
		return fmt.Errorf("state of the cluster: %w", err)
	}
	return os.Rename(unfinished, l.stateFile())
}

func readSysctls() map[string]string {
	values := map[string]string{}
	for _, name := range changedSysctls {
		if data, err := os.ReadFile(filepath.Join("/proc/sys", name)); err == nil { // not every kernel has every one
			values[name] = strings.TrimSpace(string(data))
		}
	}
	return values
}

// restoreSysctls writes only what differs.
func restoreSysctls(values map[string]string) error {
	failures := []error{}
	for name, value := range values {
		path := filepath.Join("/proc/sys", name)
		now, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(now)) != value {
			err = os.WriteFile(path, []byte(value), 0o644)
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("put back %s=%s: %w", name, value, err))
		}
	}
	return errors.Join(failures...)
}

// hierarchies are the mounted roots of cgroups, of version 1 and 2.
func hierarchies() ([]string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
	}
	roots := []string{}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 2 && (fields[2] == "cgroup" || fields[2] == "cgroup2") {
			roots = append(roots, fields[1])
		}
	}
	if len(roots) == 0 {
		return nil, errors.New("cgroups: none is mounted")
	}
	return roots, nil
}

// makeCgroups creates the cluster's root in every hierarchy. A new cpuset is empty and takes no process before it is
// filled.
func makeCgroups() error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		dir := filepath.Join(root, cgroupName)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("cgroups: %w", err)
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			inherited, err := os.ReadFile(filepath.Join(root, file))
			if err != nil {
				continue // another hierarchy, or version 2, where the root has no such file and children inherit
			}
			if err := os.WriteFile(filepath.Join(dir, file), inherited, 0o644); err != nil {
				return fmt.Errorf("cgroups: %w", err)
			}
		}
	}
	return nil
}

// removeCgroups removes the cluster's groups from the leaves up. Their processes have ended; the kernel may take a
// moment to notice.
func removeCgroups() error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	failures := []error{}
	for _, root := range roots {
		failures = append(failures, removeGroups(filepath.Join(root, cgroupName)))
	}
	return errors.Join(failures...)
}

func removeGroups(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cgroups: %w", err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeGroups(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	for range 100 {
		if err = syscall.Rmdir(dir); err == nil || errors.Is(err, syscall.ENOENT) {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("remove cgroup %s: %w", dir, err)
}
