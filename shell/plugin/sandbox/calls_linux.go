package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// permitted are the system calls for computation, files, connections, threads and processes. A name that an architecture lacks is
// passed over there. What is not here is answered with EPERM, or ENOSYS where C libraries then try an older one: namespaces, mounts,
// kernel modules, BPF, keys, io_uring, access to other processes' memory, sockets that listen.
const permitted = `
read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek _llseek sendfile sendfile64 splice tee copy_file_range
open openat close close_range creat stat fstat lstat newfstatat stat64 fstat64 lstat64 fstatat64 statx statfs fstatfs statfs64 fstatfs64
access faccessat faccessat2 readlink readlinkat getdents getdents64 getcwd chdir fchdir dup dup2 dup3 pipe pipe2 fcntl fcntl64 ioctl
flock fsync fdatasync truncate ftruncate truncate64 ftruncate64 fallocate fadvise64 arm_fadvise64_64 mkdir mkdirat rmdir rename renameat
renameat2 unlink unlinkat link linkat symlink symlinkat chmod fchmod fchmodat umask utimensat utime utimes
poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait
epoll_pwait2 eventfd eventfd2 timerfd_create timerfd_settime timerfd_gettime
mmap mmap2 munmap mprotect mremap madvise msync mincore brk membarrier
exit exit_group execve vfork wait4 waitid getpid getppid gettid getpgrp getpgid getsid setsid getuid geteuid getgid getegid getuid32
geteuid32 getgid32 getegid32 getgroups getgroups32 getresuid getresgid getresuid32 getresgid32 capget prctl arch_prctl set_tid_address
set_tls cacheflush rseq set_robust_list get_robust_list futex futex_time64 futex_waitv sched_yield sched_getaffinity sched_getparam
sched_getscheduler sched_get_priority_max sched_get_priority_min getcpu getrlimit ugetrlimit getrusage times uname sysinfo getrandom
kill tkill tgkill rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 sigreturn
sigaltstack pause alarm setitimer getitimer timer_create timer_settime timer_settime64 timer_gettime timer_gettime64 timer_getoverrun
timer_delete restart_syscall nanosleep clock_nanosleep clock_nanosleep_time64 clock_gettime clock_gettime64 clock_getres
clock_getres_time64 gettimeofday time
socketpair connect bind getsockname getpeername getsockopt setsockopt shutdown sendto send recvfrom recv sendmsg recvmsg sendmmsg
recvmmsg recvmmsg_time64`

// newer are system calls without which C libraries do by older ones.
const newer = "clone3 openat2 fchmodat2"

// namespaces are the flags of clone that make namespaces (clone(2)).
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// conditional are the system calls that are permitted with some arguments only.
func conditional() []seccomp.NameWithConditions {
	calls := []seccomp.NameWithConditions{
		with("clone", bits(0, namespaces)),
		with("prlimit64", is(0, 0)), // of the calling process
		// The tracer of a started program lets go of it; and it asks to be traced before it executes.
		with("ptrace", is(0, unix.PTRACE_TRACEME)), with("ptrace", is(0, unix.PTRACE_DETACH)),
	}
	for _, family := range []uint64{unix.AF_INET, unix.AF_INET6} {
		for _, protocol := range []uint64{0, unix.IPPROTO_TCP, unix.IPPROTO_UDP} { // MPTCP would get round Landlock's ports
			for _, kind := range []uint64{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
				for _, flags := range []uint64{0, unix.SOCK_CLOEXEC, unix.SOCK_NONBLOCK, unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK} {
					calls = append(calls, with("socket", is(0, family), is(1, kind|flags), is(2, protocol)))
				}
			}
		}
	}
	return calls
}

func with(name string, conditions ...seccomp.Condition) seccomp.NameWithConditions {
	return seccomp.NameWithConditions{Name: name, Conditions: conditions}
}

func is(argument uint32, value uint64) seccomp.Condition {
	return seccomp.Condition{Argument: argument, Operation: seccomp.Equal, Value: value}
}

// bits is that none of these bits is set.
func bits(argument uint32, unset uint64) seccomp.Condition {
	return seccomp.Condition{Argument: argument, Operation: seccomp.BitsNotSet, Value: unset}
}

// filter is the program by which the kernel decides on system calls (seccomp(2)), made once.
var filter = sync.OnceValues(func() ([]syscall.SockFilter, error) {
	info, err := arch.GetInfo("")
	if err != nil {
		return nil, err
	}
	known := func(names string) []string {
		return slices.DeleteFunc(strings.Fields(names), func(name string) bool { _, ok := info.SyscallNames[name]; return !ok })
	}
	policy := seccomp.Policy{DefaultAction: seccomp.ActionErrno, Syscalls: []seccomp.SyscallGroup{
		{Names: known(permitted), Action: seccomp.ActionAllow},
		{Names: known(newer), Action: unix.SECCOMP_RET_ERRNO | seccomp.Action(unix.ENOSYS)},
		{NamesWithCondtions: conditional(), Action: seccomp.ActionAllow},
	}}
	instructions, err := policy.Assemble()
	if err != nil {
		return nil, fmt.Errorf("seccomp: %w", err)
	}
	assembled, err := bpf.Assemble(instructions)
	if err != nil {
		return nil, fmt.Errorf("seccomp: %w", err)
	}
	program := make([]syscall.SockFilter, len(assembled))
	for i, one := range assembled {
		program[i] = syscall.SockFilter{Code: one.Op, Jt: one.Jt, Jf: one.Jf, K: one.K}
	}
	return program, nil
})
