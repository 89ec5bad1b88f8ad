package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// SuperviseCommand is the argument with which the program that calls Up must call Supervise.
const SuperviseCommand = "supervise"

// restartPause keeps a part that ends at once from using up the machine.
const restartPause = time.Second

// Supervise is the first process inside the cluster's namespaces: it makes the network, starts the parts that it reads from
// input as JSON and starts them again when they end. All processes, mounts, links and addresses of the cluster live in
// namespaces that end with this process, however it ends. It does not return unless something fails.
func Supervise(input io.Reader) error {
	order := struct {
		Logs, Resolver string
		Parts          []part
	}{}
	// The input comes only after whoever started this process has written down its id, and not if that one died.
	if err := json.NewDecoder(input).Decode(&order); err != nil {
		return fmt.Errorf("orders of the cluster: %w", err)
	}
	if err := hideHost(order.Resolver); err != nil {
		return err
	}
	if err := makeNetwork(); err != nil {
		return err
	}
	h := &supervisor{logs: order.Logs, running: map[int]part{}}
	for _, p := range order.Parts {
		if err := h.start(p); err != nil {
			return err
		}
	}
	return h.reap()
}

// hideHost keeps what the parts mount and write below /run, /var/lib and /var/log to this mount namespace, and gives
// them a resolver of the cluster.
func hideHost(resolver string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, dir := range []string{"/run", "/var/lib", "/var/log"} {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	if err := syscall.Mount(resolver, "/etc/resolv.conf", "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount /etc/resolv.conf: %w", err)
	}
	return syscall.Sethostname([]byte(nodeName))
}

// makeNetwork gives the node its address, and a route for service addresses, which are rewritten before they would be
// sent. There is no other route: nothing leads out.
func makeNetwork() error {
	for _, command := range []string{
		"link set lo up",
		"link add " + nodeBridge + " type bridge",
		"address add " + nodeNetwork + " dev " + nodeBridge,
		"link set " + nodeBridge + " up",
		"route add " + services + " dev " + nodeBridge + " src " + nodeAddress,
	} {
		if err := finish(exec.Command("ip", strings.Fields(command)...), "ip "+command); err != nil {
			return err
		}
	}
	// These belong to the network namespace.
	for name, value := range map[string]string{"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1"} {
		if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0o644); err != nil {
			return fmt.Errorf("network: %w", err)
		}
	}
	return hasOnlyNodeAddress()
}

// hasOnlyNodeAddress is the proof that this is a network of its own before anything listens in it.
func hasOnlyNodeAddress() error {
	links, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	found := false
	for _, link := range links {
		addresses, err := link.Addrs()
		if err != nil {
			return fmt.Errorf("network: %w", err)
		}
		for _, address := range addresses {
			ip, _, err := net.ParseCIDR(address.String())
			switch {
			case err != nil:
				return fmt.Errorf("network: %w", err)
			case ip.String() == nodeAddress:
				found = true
			case !ip.IsLoopback() && !ip.IsLinkLocalUnicast():
				return fmt.Errorf("network: %s has the address %s, so this is not a namespace of its own", link.Name, ip)
			}
		}
	}
	if !found {
		return fmt.Errorf("network: the node's address %s is missing", nodeAddress)
	}
	return nil
}

// supervisor knows the parts by the id that they have in its own namespace.
type supervisor struct {
	logs    string
	mu      sync.Mutex // also keeps a part that ends at once from being reaped before it is known
	running map[int]part
}

func (h *supervisor) start(p part) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	out, err := os.OpenFile(filepath.Join(h.logs, p.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of %s: %w", p.Name, err)
	}
	defer out.Close()
	in, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	defer in.Close()
	program, err := exec.LookPath(p.Args[0])
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	process, err := os.StartProcess(program, p.Args, &os.ProcAttr{
		Dir: h.logs, Env: os.Environ(), Files: []*os.File{in, out, out}, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	h.running[process.Pid] = p
	return process.Release() // reap waits for it
}

// reap waits for everything that ends: parts, and the orphans that a first process inherits.
func (h *supervisor) reap() error {
	for {
		status := syscall.WaitStatus(0)
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for the parts: %w", err)
		}
		h.mu.Lock()
		p, isPart := h.running[pid]
		delete(h.running, pid)
		h.mu.Unlock()
		if isPart {
			fmt.Printf("%s %s ended (%d) and is started again\n", time.Now().Format(time.TimeOnly), p.Name, status.ExitStatus())
			time.Sleep(restartPause)
			if err := h.start(p); err != nil {
				return err
			}
		}
	}
}
