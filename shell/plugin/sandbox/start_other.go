//go:build !linux

package sandbox

import (
	"errors"
	"os/exec"
	"syscall"
)

// Process is a started program.
type Process struct{ pid int }

// Start starts a command in a process group of its own. It confines nothing, and so fails where that is required.
func Start(command *exec.Cmd, mode Mode, _ Policy) (*Process, error) {
	if mode == Require {
		return nil, errors.New("it cannot be confined: that takes Linux")
	}
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		return nil, err
	}
	return &Process{command.Process.Pid}, nil
}

// Kill kills the program and those of its children that are in its process group.
func Kill(command *exec.Cmd) error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }

// End kills what the program has left behind in its process group. The command was waited for before.
func (p *Process) End() { _ = syscall.Kill(-p.pid, syscall.SIGKILL) }

// Probe tells what the kernel lacks.
func Probe() Support { return Support{Essential: []string{"Linux"}} }
