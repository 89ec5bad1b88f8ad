package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// cniPlugins is where Debian's package puts them.
const cniPlugins = "/usr/lib/cni"

// packages are Debian's names by the program that each brings.
var packages = []struct{ program, name string }{
	{"containerd", "containerd"}, {"ctr", "containerd"}, {"runc", "runc"},
	{filepath.Join(cniPlugins, "bridge"), "containernetworking-plugins"},
	{"nft", "nftables"}, {"ip", "iproute2"}, {"nsenter", "util-linux"}, {"kubectl", ""},
}

// checkHost says in one sentence what the machine lacks. kubectl is built if it is missing.
func checkHost() error {
	if os.Geteuid() != 0 {
		return errors.New("a cluster needs root, for its namespaces, mounts and cgroups; nothing was changed")
	}
	if missing := missingPackages(); len(missing) > 0 {
		return fmt.Errorf("missing on this machine: %[1]s. Install them with `apt-get install --no-install-recommends %[1]s`, "+
			"or let this program do so with --install-packages", strings.Join(missing, " "))
	}
	filesystems, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return fmt.Errorf("look for overlay file systems: %w", err)
	}
	if !strings.Contains(string(filesystems), "\toverlay\n") {
		return errors.New("the kernel knows no overlay file systems (try `modprobe overlay`)")
	}
	if _, err := os.Stat("/proc/sys/net/bridge"); err != nil {
		return errors.New("the kernel does not filter bridges (try `modprobe br_netfilter`)")
	}
	_, err = hierarchies()
	return err
}

func missingPackages() []string {
	missing := []string{}
	for _, p := range packages {
		if _, err := exec.LookPath(p.program); err != nil && p.name != "" && !slices.Contains(missing, p.name) {
			missing = append(missing, p.name)
		}
	}
	return missing
}

// installPackages asks Debian for what is missing.
func installPackages(ctx context.Context, log io.Writer) error {
	missing := missingPackages()
	if len(missing) == 0 {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("installing packages needs root")
	}
	for _, args := range [][]string{
		{"update", "-qq"},
		append([]string{"install", "-y", "-qq", "--no-install-recommends"}, missing...),
	} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w", args[0], err)
		}
	}
	return nil
}
