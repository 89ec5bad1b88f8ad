//go:build !linux

package bed

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// childAttr puts a child into a process group of its own, so that all it started can be ended with it.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// startTime identifies the process that has a pid now.
func startTime(pid int) (string, error) {
	out, err := exec.Command("ps", "-o", "lstart=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return "", fmt.Errorf("start time of process %d: %w", pid, err)
	}
	return strings.TrimSpace(string(out)), nil
}
