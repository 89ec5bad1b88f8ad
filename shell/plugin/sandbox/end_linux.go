package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// startFreely starts a command in a session of its own, and confines it by nothing else.
func startFreely(command *exec.Cmd) (*Process, error) {
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return nil, err
	}
	return &Process{pid: command.Process.Pid, ended: make(chan struct{})}, nil
}

// Kill kills the program and those of its children that are in its process group. The rest is left to End.
func Kill(command *exec.Cmd) error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }

// End kills what the program has left behind, and reaps it. The command was waited for before.
func (p *Process) End() {
	defer close(p.ended)
	_ = syscall.Kill(-p.pid, syscall.SIGKILL) // usually: there is nobody
	sweep()
}

// adopt makes this process the parent of orphans among its descendants (prctl(2), PR_SET_CHILD_SUBREAPER), as the first process of a
// container is anyway. So those that a program leaves behind are found.
var adopt = sync.OnceValue(func() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })

// sweeping is held while orphans are looked for, so that none is reaped twice and its number not reused in between.
var sweeping sync.Mutex

// sweepTime bounds the search for orphans. One that is killed ends at once, unless the kernel holds it in an uninterruptible wait.
const sweepTime = time.Second

// sweep kills and reaps the orphans of started programs: children of this process's first thread, which starts none itself, that have a
// session other than its own. A killed one's children become orphans in their turn, so it goes on until there are none.
func sweep() {
	sweeping.Lock()
	defer sweeping.Unlock()
	for until := time.Now().Add(sweepTime); time.Now().Before(until); time.Sleep(time.Millisecond) {
		orphans := strangers()
		if len(orphans) == 0 {
			return
		}
		for _, pid := range orphans {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		for _, pid := range orphans {
			_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		}
	}
}

// strangers gives the orphans; none where the kernel does not list children (CONFIG_PROC_CHILDREN).
func strangers() []int {
	own, err := unix.Getsid(0)
	if err != nil {
		return nil
	}
	listed, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	if err != nil {
		return nil
	}
	var found []int
	for _, word := range bytes.Fields(listed) {
		pid, err := strconv.Atoi(string(word))
		if err != nil {
			continue
		}
		if session, err := unix.Getsid(pid); err == nil && session != own {
			found = append(found, pid)
		}
	}
	return found
}
