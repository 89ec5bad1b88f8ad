package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/sandbox"
)

// hostile names the attack of a re-executed test binary, and what it needs.
const (
	hostile = "SANDBOX_TEST_ATTACK"
	victim  = "SANDBOX_TEST_VICTIM"
)

func TestMain(m *testing.M) {
	if attack, ok := attacks[os.Getenv(hostile)]; ok {
		fmt.Println(attack(os.Getenv(victim)))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// attacks are what an exploited plugin tries; each gives what came of it. "done" is that it succeeded.
var attacks = map[string]func(string) string{
	"read":    func(path string) string { _, err := os.ReadFile(path); return result(err) },
	"list":    func(path string) string { _, err := os.ReadDir(path); return result(err) },
	"write":   func(path string) string { return result(os.WriteFile(path, []byte("x"), 0o600)) },
	"remove":  func(path string) string { return result(os.Remove(path)) },
	"execute": func(path string) string { return result(exec.Command(path).Run()) },
	"connect": func(address string) string {
		c, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err == nil {
			_ = c.Close()
		}
		return result(err)
	},
	"connect by multipath": func(address string) string {
		return result(connectBy(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP, address))
	},
	"connect to a unix socket": func(path string) string { _, err := net.Dial("unix", path); return result(err) },
	"listen":                   func(string) string { _, err := net.Listen("tcp", "127.0.0.1:0"); return result(err) },
	"open a raw socket":        func(string) string { return socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) },
	"open a packet socket":     func(string) string { return socket(unix.AF_PACKET, unix.SOCK_RAW, 0) },
	"open a netlink socket":    func(string) string { return socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE) },
	"open a vsock":             func(string) string { return socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0) },
	"signal":                   func(pid string) string { n, _ := strconv.Atoi(pid); return result(syscall.Kill(n, syscall.SIGUSR1)) },
	"trace":                    func(pid string) string { n, _ := strconv.Atoi(pid); return result(syscall.PtraceAttach(n)) },
	"read memory": func(pid string) string {
		n, _ := strconv.Atoi(pid)
		var word [8]byte
		local := []unix.Iovec{{Base: &word[0], Len: 8}}
		_, err := unix.ProcessVMReadv(n, local, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
		return result(err)
	},
	"bound": func(pid string) string {
		n, _ := strconv.Atoi(pid)
		return result(unix.Prlimit(n, unix.RLIMIT_NOFILE, &unix.Rlimit{}, nil))
	},
	"unshare": func(string) string { return result(unix.Unshare(unix.CLONE_NEWUSER)) },
	"mount":   func(path string) string { return result(unix.Mount("none", path, "tmpfs", 0, "")) },
	"clone a namespace": func(string) string {
		command := exec.Command("/proc/self/exe")
		command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
		return result(command.Start())
	},
	"make an io_uring": func(string) string {
		var parameters [120]byte
		_, _, err := syscall.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&parameters)), 0)
		return result(error(err))
	},
	"make a file in memory": func(string) string { _, err := unix.MemfdCreate("x", 0); return result(err) },
	"take memory": func(string) string {
		_, err := unix.Mmap(-1, 0, 1<<30, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		return result(err)
	},
	"open many files": func(string) string {
		for range 1000 {
			if _, err := unix.Dup(0); err != nil {
				return result(err)
			}
		}
		return "done"
	},
	"raise a bound": func(string) string {
		return result(unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 300, Max: 300}))
	},
	"gain capabilities": func(string) string {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var sets [2]unix.CapUserData
		if err := unix.Capget(&header, &sets[0]); err != nil {
			return result(err)
		}
		if sets[0].Permitted|sets[1].Permitted == 0 {
			return syscall.EPERM.Error()
		}
		return "done"
	},
	"spin": func(string) string { // until its bound ends it
		began := time.Now()
		for time.Since(began) < time.Hour {
		}
		return "done"
	},
	"tell bounds": func(string) string {
		var told []string
		for _, resource := range []int{unix.RLIMIT_DATA, unix.RLIMIT_AS, unix.RLIMIT_FSIZE, unix.RLIMIT_NOFILE, unix.RLIMIT_NPROC, unix.RLIMIT_CPU, unix.RLIMIT_CORE} {
			var bound unix.Rlimit
			if err := unix.Getrlimit(resource, &bound); err != nil {
				return result(err)
			}
			told = append(told, fmt.Sprint(bound.Max))
		}
		return strings.Join(told, " ")
	},
	"resolve": func(string) string { _, err := net.LookupHost("localhost"); return result(err) },
	"spawn":   spawn,
	"sleep":   func(string) string { time.Sleep(time.Hour); return "" },
	"nothing": func(string) string { return "done" },
}

// spawn starts children that leave the session, directly and as grandchildren, and tells their numbers.
func spawn(depth string) string {
	n, _ := strconv.Atoi(depth)
	next, of := "sleep", ""
	if n > 0 {
		next, of = "spawn", strconv.Itoa(n-1)
	}
	command := exec.Command("/proc/self/exe")
	command.Env = []string{hostile + "=" + next, victim + "=" + of}
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var output bytes.Buffer
	if n > 0 {
		command.Stdout = &output
		if err := command.Run(); err != nil {
			return result(err)
		}
		return strings.TrimSpace(output.String())
	}
	if err := command.Start(); err != nil {
		return result(err)
	}
	return "child " + strconv.Itoa(command.Process.Pid)
}

func socket(family, kind, protocol int) string {
	_, err := unix.Socket(family, kind, protocol)
	return result(err)
}

func connectBy(family, kind, protocol int, address string) error {
	fd, err := unix.Socket(family, kind, protocol)
	if err != nil {
		return err
	}
	to, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return err
	}
	return unix.Connect(fd, &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())})
}

func result(err error) string {
	if err == nil || err == syscall.Errno(0) {
		return "done"
	}
	return err.Error()
}

// needsSandbox skips where the kernel cannot confine, and says what it lacks.
func needsSandbox(t *testing.T) {
	t.Helper()
	if lacks := sandbox.Probe().Essential; len(lacks) > 0 {
		t.Skipf("this kernel lacks %s", strings.Join(lacks, ", "))
	}
}

// attack runs an attack under a policy in which the test binary may be executed.
func attack(t *testing.T, mode sandbox.Mode, policy sandbox.Policy, name, of string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	policy.Execute = append(policy.Execute, self, "/lib", "/lib64", "/usr/lib") // libraries, as the test binary may want
	var output bytes.Buffer
	command := exec.CommandContext(ctx, self)
	command.Env = []string{hostile + "=" + name, victim + "=" + of, "GOMAXPROCS=1", "GOTRACEBACK=none"}
	command.Stdout, command.Stderr = &output, &output
	command.WaitDelay = time.Second
	process, err := sandbox.Start(command, mode, policy)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	err = command.Wait()
	process.End()
	if err != nil {
		return strings.TrimSpace(output.String() + " " + err.Error())
	}
	return strings.TrimSpace(output.String())
}

// TestAttacksGetNothing tries each attack under the sandbox, and without it, where it must succeed: else the test could not fail.
func TestAttacksGetNothing(t *testing.T) {
	needsSandbox(t)
	dir := t.TempDir()
	secret, folder := filepath.Join(dir, "token"), filepath.Join(dir, "folder")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	local, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	victimProcess := exec.Command("/bin/sleep", "600")
	if err := victimProcess.Start(); err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(victimProcess.Process.Pid)
	t.Cleanup(func() { _ = victimProcess.Process.Kill(); _ = victimProcess.Wait() })
	for _, test := range []struct {
		name, of string
		asRoot   bool // it succeeds without a sandbox for root only
	}{
		{"read", secret, false}, {"read", "/proc/" + pid + "/environ", false}, {"read", "/etc/passwd", false}, {"list", dir, false}, {"list", "/", false},
		{"write", secret, false}, {"write", filepath.Join(dir, "new"), false}, {"execute", "/bin/true", false},
		{"connect", listener.Addr().String(), false}, {"connect to a unix socket", local.Addr().String(), false},
		{"listen", "", false}, {"open a raw socket", "", true}, {"open a packet socket", "", true}, {"open a netlink socket", "", false},
		{"trace", pid, true}, {"bound", pid, false}, {"gain capabilities", "", true}, {"mount", folder, true},
		{"make a file in memory", "", false}, {"take memory", "", false}, {"open many files", "", false}, {"raise a bound", "", false},
	} {
		t.Run(test.name+" "+strings.ReplaceAll(test.of, "/", "_"), func(t *testing.T) {
			for path, do := range map[string]func(string) error{secret: func(p string) error { return os.WriteFile(p, []byte("s"), 0o600) }, folder: func(p string) error { return os.MkdirAll(p, 0o700) }} {
				if err := do(path); err != nil {
					t.Fatal(err)
				}
			}
			if got := attack(t, sandbox.Require, sandbox.Policy{}, test.name, test.of); got == "done" || !refused(got) {
				t.Errorf("in the sandbox: %s", got)
			}
			if test.asRoot && os.Getuid() != 0 {
				return
			}
			if test.name == "mount" {
				return // it would stay
			}
			if got := attack(t, sandbox.Off, sandbox.Policy{}, test.name, test.of); got != "done" {
				t.Errorf("without: %s", got)
			}
		})
	}
	t.Run("signal", func(t *testing.T) {
		if slices.ContainsFunc(sandbox.Probe().Further, func(s string) bool { return strings.Contains(s, "signals") }) {
			t.Skip("this kernel lacks Landlock's scope of signals")
		}
		for _, of := range []string{pid, strconv.Itoa(os.Getpid())} {
			if got := attack(t, sandbox.Require, sandbox.Policy{}, "signal", of); !refused(got) {
				t.Errorf("of %s: %s", of, got)
			}
		}
	})
	for _, name := range []string{"connect by multipath", "open a vsock", "read memory", "unshare", "clone a namespace", "make an io_uring"} {
		t.Run(name, func(t *testing.T) { // whether they succeed without depends on the kernel
			of := pid
			if name == "connect by multipath" {
				of = listener.Addr().String()
			}
			if got := attack(t, sandbox.Require, sandbox.Policy{}, name, of); !refused(got) {
				t.Errorf("in the sandbox: %s", got)
			}
		})
	}
}

// refused tells whether what came of an attack is an error by which the kernel refuses.
func refused(got string) bool {
	for _, errno := range []syscall.Errno{syscall.EPERM, syscall.EACCES, syscall.ENOSYS, syscall.EMFILE, syscall.ENOMEM} {
		if strings.HasSuffix(got, errno.Error()) {
			return true
		}
	}
	return false
}

// TestThePolicyPermits tries what a plugin needs.
func TestThePolicyPermits(t *testing.T) {
	needsSandbox(t)
	dir := t.TempDir()
	file, cache, folder := filepath.Join(dir, "config.ini"), filepath.Join(dir, "cache"), filepath.Join(dir, "folder")
	if err := errors.Join(os.WriteFile(file, []byte("x"), 0o600), os.Mkdir(cache, 0o700), os.Mkdir(folder, 0o700)); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	policy := sandbox.Policy{
		Read: []string{file, "/etc/hosts", filepath.Join(dir, "absent"), folder}, Write: []string{cache}, Execute: []string{"/bin", "/usr/bin"},
		Ports: []uint16{uint16(listener.Addr().(*net.TCPAddr).Port)}, Time: time.Minute,
	}
	for _, test := range [][2]string{
		{"nothing", ""}, {"read", file}, {"list", folder}, {"write", filepath.Join(cache, "new")}, {"remove", filepath.Join(cache, "new")}, {"execute", "/bin/true"},
		{"connect", listener.Addr().String()}, {"resolve", ""},
	} {
		if got := attack(t, sandbox.Require, policy, test[0], test[1]); got != "done" {
			t.Errorf("%s: %s", test, got)
		}
	}
	if got := attack(t, sandbox.Require, policy, "write", file); !refused(got) {
		t.Errorf("write what may be read: %s", got)
	}
}

// TestBoundsHold reads the bounds in the program. Where this process has lower ones, those hold.
func TestBoundsHold(t *testing.T) {
	got := attack(t, sandbox.Prefer, sandbox.Policy{Time: 1500 * time.Millisecond}, "tell bounds", "")
	bounds := strings.Fields(got)
	most := []uint64{512 << 20, 4 << 30, 64 << 20, 256, 32768, 2, 0}
	if len(bounds) != len(most) {
		t.Fatal(got)
	}
	for i, bound := range bounds {
		if n, err := strconv.ParseUint(bound, 10, 64); err != nil || n > most[i] {
			t.Errorf("bound %d is %s; want at most %d", i, bound, most[i])
		}
	}
}

func TestProcessorTimeIsBounded(t *testing.T) {
	needsSandbox(t)
	if got := attack(t, sandbox.Require, sandbox.Policy{Time: time.Second}, "spin", ""); !strings.HasSuffix(got, "signal: killed") {
		t.Error(got)
	}
}

// TestEndKillsDescendants starts children that leave the session, with parents that have ended and without.
func TestEndKillsDescendants(t *testing.T) {
	for _, mode := range []sandbox.Mode{sandbox.Prefer, sandbox.Off} {
		for depth := range 4 {
			got := attack(t, mode, sandbox.Policy{Execute: []string{"/proc/self/exe"}}, "spawn", strconv.Itoa(depth))
			number, ok := strings.CutPrefix(got, "child ")
			pid, err := strconv.Atoi(number)
			if !ok || err != nil {
				t.Fatalf("mode %q, depth %d: %s", mode, depth, got)
			}
			if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
				t.Errorf("mode %q: process %d at depth %d is left: %v", mode, pid, depth, err)
			}
		}
	}
}

// TestOtherChildrenAreLeft expects that what this process starts itself is no orphan.
func TestOtherChildrenAreLeft(t *testing.T) {
	other := exec.Command("/bin/sleep", "600")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	attack(t, sandbox.Prefer, sandbox.Policy{}, "nothing", "")
	if err := other.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("it has ended: %v", err)
	}
	if err := errors.Join(other.Process.Kill()); err != nil {
		t.Error(err)
	}
	_ = other.Wait()
}

// TestTheServiceIsNotConfined expects that the restrictions went with their threads.
func TestTheServiceIsNotConfined(t *testing.T) {
	for range 10 {
		attack(t, sandbox.Prefer, sandbox.Policy{}, "nothing", "")
	}
	until := time.Now().Add(time.Minute) // a thread ends soon after its program
	for len(confined(t)) > 0 && time.Now().Before(until) {
		time.Sleep(10 * time.Millisecond)
	}
	if left := confined(t); len(left) > 0 {
		t.Errorf("these threads are confined: %s", left)
	}
	if _, err := os.ReadFile("/etc/passwd"); err != nil {
		t.Error(err)
	}
}

// confined gives the threads of this process that are.
func confined(t *testing.T) []string {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, task := range tasks {
		status, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		if err == nil && (bytes.Contains(status, []byte("Seccomp:\t2")) || bytes.Contains(status, []byte("NoNewPrivs:\t1"))) {
			found = append(found, task.Name())
		}
	}
	return found
}

func TestStartFailsForAProgramThatIsNoFile(t *testing.T) {
	command := exec.Command(filepath.Join(t.TempDir(), "absent"))
	if _, err := sandbox.Start(command, sandbox.Prefer, sandbox.Policy{}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// BenchmarkStart pairs a program that does nothing in the sandbox and without it, in turns. Processor time is that of this process and
// of the program.
func BenchmarkStart(b *testing.B) {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	elapsed, processor := map[sandbox.Mode]time.Duration{}, map[sandbox.Mode]time.Duration{}
	for range b.N {
		for _, mode := range []sandbox.Mode{sandbox.Prefer, sandbox.Off} {
			command := exec.Command(self)
			command.Env = []string{hostile + "=nothing", "GOMAXPROCS=1"}
			began, used := time.Now(), processorTime(b)
			process, err := sandbox.Start(command, mode, sandbox.Policy{Execute: []string{self, "/lib", "/lib64", "/usr/lib"}, Time: time.Minute})
			if err != nil {
				b.Fatal(err)
			}
			err = command.Wait()
			process.End()
			elapsed[mode] += time.Since(began)
			processor[mode] += processorTime(b) - used
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	for name, spent := range map[string]map[sandbox.Mode]time.Duration{"µs": elapsed, "cpu-µs": processor} {
		b.ReportMetric(float64((spent[sandbox.Prefer]-spent[sandbox.Off]).Microseconds())/float64(b.N), name+"-more/process")
		b.ReportMetric(float64(spent[sandbox.Off].Microseconds())/float64(b.N), name+"-without/process")
	}
}

// processorTime is that of this process and of its children that have ended.
func processorTime(b *testing.B) time.Duration {
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var usage syscall.Rusage
		if err := syscall.Getrusage(who, &usage); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	return sum
}
