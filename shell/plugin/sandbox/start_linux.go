package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/landlock-lsm/go-landlock/landlock"
	llsyscall "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Process is a started program.
type Process struct {
	pid   int
	ended chan struct{} // closed when its thread may end
}

// errUnconfined is that a program was not started, since it cannot be confined.
var errUnconfined = errors.New("it cannot be confined")

// Start starts a command under a policy. The caller waits for the command, and then calls End. Of the command's attributes for the
// system, Start sets its own.
func Start(command *exec.Cmd, mode Mode, policy Policy) (*Process, error) {
	if mode == Off {
		return startFreely(command)
	}
	prepare()
	fd, flags, err := ruleset(policy)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnconfined, err)
	}
	if fd >= 0 {
		defer unix.Close(fd)
	}
	p := &Process{ended: make(chan struct{})}
	stopped, limited, started := make(chan int), make(chan error), make(chan error, 1)
	onThreadOfItsOwn(func() {
		err := restrict(fd, flags, mode)
		if err == nil {
			err = launch(command, stopped, limited)
		}
		started <- err
		if err == nil {
			<-p.ended // when the thread ended, so would the program (PR_SET_PDEATHSIG)
		}
	})
	// This goroutine is free of the restrictions, one of which is to set bounds of another process.
	for {
		select {
		case pid := <-stopped:
			limited <- bound(pid, policy.Time)
		case err := <-started:
			if err != nil {
				close(p.ended)
				return nil, err
			}
			p.pid = command.Process.Pid
			return p, nil
		}
	}
}

// onThreadOfItsOwn runs a function on a thread that ends with it. It is never the process's first thread, which cannot end.
func onThreadOfItsOwn(do func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			do()
			return
		}
		other := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(other)
			do()
		}()
		<-other // until then the first thread is taken
		runtime.UnlockOSThread()
	}()
}

// prepare does what Go's library does once before it starts a process, on a thread that may do it.
var prepare = sync.OnceFunc(func() {
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Release()
	}
	_, _ = adopt(), mayTrace()
})

// mayTrace tells whether programs may be traced: neither Yama (kernel documentation, Yama.rst, ptrace_scope) nor a container's seccomp
// profile forbids it. Where it is forbidden, bounds are set right after the start instead of before it.
var mayTrace = sync.OnceValue(func() bool {
	scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if err == nil && strings.TrimSpace(string(scope)) > "1" {
		return false
	}
	return syscall.PtraceDetach(os.Getpid()) == syscall.ESRCH // a process cannot trace itself, so there is none to let go of
})

// launch starts the command from a restricted thread. The program stops before its first instruction, until its bounds are set.
func launch(command *exec.Cmd, stopped chan<- int, limited <-chan error) error {
	traced := mayTrace()
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Ptrace: traced, Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return err
	}
	pid := command.Process.Pid
	if traced {
		var status syscall.WaitStatus
		if _, err := retried(func() (int, error) { return syscall.Wait4(pid, &status, 0, nil) }); err != nil || !status.Stopped() {
			return abandon(command, fmt.Errorf("%w: it does not stop to be bounded: %w", errUnconfined, err))
		}
	}
	stopped <- pid
	if err := <-limited; err != nil {
		return abandon(command, fmt.Errorf("%w: %w", errUnconfined, err))
	}
	if traced {
		if err := syscall.PtraceDetach(pid); err != nil {
			return abandon(command, fmt.Errorf("%w: it cannot be let go: %w", errUnconfined, err))
		}
	}
	return nil
}

// abandon ends a program that was started and cannot go on.
func abandon(command *exec.Cmd, err error) error {
	_ = command.Process.Kill()
	_ = command.Wait()
	return err
}

// retried repeats a system call that a signal interrupts.
func retried(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}

// bound sets the bounds of a process.
func bound(pid int, processor time.Duration) error {
	bounds := map[int]uint64{
		unix.RLIMIT_DATA: maxData, unix.RLIMIT_AS: maxAddresses, unix.RLIMIT_FSIZE: maxFileSize, unix.RLIMIT_NOFILE: maxFiles,
		unix.RLIMIT_NPROC: maxProcesses, unix.RLIMIT_CORE: 0, unix.RLIMIT_MEMLOCK: 0, unix.RLIMIT_MSGQUEUE: 0,
	}
	if processor > 0 {
		bounds[unix.RLIMIT_CPU] = uint64((processor + time.Second - 1) / time.Second)
	}
	for resource, value := range bounds {
		var now unix.Rlimit
		if err := unix.Prlimit(pid, resource, nil, &now); err != nil {
			return fmt.Errorf("a bound of the process cannot be read: %w", err)
		}
		value = min(value, now.Max) // nobody may raise what is lower already
		if err := unix.Prlimit(pid, resource, &unix.Rlimit{Cur: value, Max: value}, nil); err != nil {
			return fmt.Errorf("a bound of the process cannot be set: %w", err)
		}
	}
	return nil
}

// restrict puts the restrictions on the calling thread. Its order matters: the later ones forbid the means of the earlier.
func restrict(rules int, flags uint32, mode Mode) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("%w: no_new_privs: %w", errUnconfined, err)
	}
	dropCapabilities()
	switch {
	case rules >= 0:
		if err := llsyscall.LandlockRestrictSelf(rules, flags); err != nil {
			return fmt.Errorf("%w: landlock: %w", errUnconfined, err)
		}
	case mode == Require:
		return fmt.Errorf("%w: the kernel lacks landlock", errUnconfined)
	}
	if err := filterCalls(); err != nil && (mode == Require || !errors.Is(err, errNoSeccomp)) {
		return fmt.Errorf("%w: %w", errUnconfined, err)
	}
	return nil
}

// lastCapability is the highest number that a kernel may know (capabilities(7)); it answers EINVAL from its own highest on.
const lastCapability = 63

// dropCapabilities takes all capabilities from what the thread executes, also as root, as far as the thread has any.
func dropCapabilities() {
	for capability := range uintptr(lastCapability) + 1 {
		if unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0) != nil {
			break
		}
	}
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
}

// errNoSeccomp is a kernel without filters for system calls.
var errNoSeccomp = errors.New("the kernel lacks seccomp filters")

// filterCalls restricts the system calls of the calling thread (seccomp(2), SECCOMP_SET_MODE_FILTER).
func filterCalls() error {
	program, err := filter()
	if err != nil {
		return err
	}
	sent := syscall.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, failed := syscall.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&sent)))
	switch failed {
	case 0:
		return nil
	case unix.ENOSYS, unix.EINVAL:
		return errNoSeccomp
	}
	return fmt.Errorf("seccomp: %w", failed)
}

// ofFiles are the rights that a rule on a file, and not on a folder, may give.
const ofFiles = llsyscall.AccessFSReadFile | llsyscall.AccessFSExecute | llsyscall.AccessFSWriteFile | llsyscall.AccessFSTruncate

// dns is the port of name servers, which are asked by TCP when an answer is long.
const dns = 53

// ruleset makes the rules of a policy, as far as the kernel knows them. It is -1 where the kernel lacks Landlock.
func ruleset(policy Policy) (fd int, flags uint32, err error) {
	const (
		read    = landlock.AccessFSSet(llsyscall.AccessFSReadFile | llsyscall.AccessFSReadDir)
		execute = read | llsyscall.AccessFSExecute
		// Without the right to move files between folders, with which Linux 5.13 would be left without all rules.
		write = read | llsyscall.AccessFSWriteFile | llsyscall.AccessFSTruncate | llsyscall.AccessFSMakeReg | llsyscall.AccessFSMakeDir |
			llsyscall.AccessFSRemoveFile | llsyscall.AccessFSRemoveDir
	)
	rules := []landlock.Rule{
		landlock.BindTCP(0), landlock.BindUDP(0), landlock.ConnectTCP(dns), landlock.ConnectSendUDP(dns),
		landlock.PathAccess(llsyscall.AccessFSReadFile|llsyscall.AccessFSWriteFile, "/dev/null").IgnoreIfMissing(),
		landlock.PathAccess(llsyscall.AccessFSReadFile, "/dev/zero", "/dev/random", "/dev/urandom").IgnoreIfMissing(),
	}
	for _, port := range policy.Ports {
		rules = append(rules, landlock.ConnectTCP(port))
	}
	for access, paths := range map[landlock.AccessFSSet][]string{execute: policy.Execute, read: policy.Read, write: policy.Write} {
		for _, path := range paths {
			var info unix.Stat_t
			if unix.Stat(path, &info) != nil {
				continue // what the service cannot see, the program cannot either
			}
			allowed := access
			if info.Mode&unix.S_IFMT != unix.S_IFDIR {
				allowed &= ofFiles
			}
			rules = append(rules, landlock.PathAccess(allowed, path).IgnoreIfMissing())
		}
	}
	return landlock.V10.BestEffort().NewRulesetFD(rules...)
}
