package bed

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// childAttr puts a child into a process group of its own, so that all it started can be ended with it, and has the
// kernel kill it when the thread that started it dies: a bed whose owner is killed leaves no processes.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// startTime identifies the process that has a pid now: proc_pid_stat(5), field 22, in clock ticks since boot.
func startTime(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", fmt.Errorf("start time of process %d: %w", pid, err)
	}
	// The second field is a name in parentheses that may itself hold blanks.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return "", fmt.Errorf("start time of process %d: only %d fields", pid, len(fields))
	}
	if fields[0] == "Z" {
		return "", fmt.Errorf("start time of process %d: %w", pid, os.ErrProcessDone)
	}
	return fields[19], nil
}
