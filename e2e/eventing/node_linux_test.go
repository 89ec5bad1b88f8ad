//go:build e2e && e2e_eventing

package eventing

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// Addresses on the node's bridge.
const (
	nodeAddress = "10.97.0.1"
	nodeNetwork = nodeAddress + "/16"
	podAddress  = "10.97.1.%d"
	bridge      = "bridge0"
)

// node is the network of this process: a bridge on which pods and Services have addresses.
type node struct {
	dir   string // of logs and files
	hosts string // file that all processes see as /etc/hosts

	mu   sync.Mutex
	pods int // that were ever started
}

// newNode makes the network, and gives this process and its children files of their own to resolve names with.
func newNode(dir string) (*node, error) {
	n := &node{dir: dir, hosts: filepath.Join(dir, "hosts")}
	if err := n.resolveHere(); err != nil {
		return nil, err
	}
	for _, command := range []string{
		"link set lo up",
		"link add " + bridge + " type bridge",
		"address add " + nodeNetwork + " dev " + bridge,
		"link set " + bridge + " up",
	} {
		if err := ip(command); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// resolveHere hides the machine's /etc/hosts and /etc/resolv.conf from this mount namespace.
func (n *node) resolveHere() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	for path, text := range map[string]string{"hosts": "127.0.0.1 localhost\n", "resolv.conf": "search svc.cluster.local\n"} {
		file := filepath.Join(n.dir, path)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
		if err := syscall.Mount(file, "/etc/"+path, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount /etc/%s: %w", path, err)
		}
	}
	return nil
}

// name makes an address known under names.
func (n *node) name(address string, names ...string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	file, err := os.OpenFile(n.hosts, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = fmt.Fprintln(file, address, strings.Join(names, " "))
	return err
}

// ip runs the command of that name in the network namespace of the calling thread.
func ip(command string) error {
	if output, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", command, err, output)
	}
	return nil
}

// pod is a process with a network namespace of its own.
type pod struct {
	name, address string
	log           string        // file
	ended         chan struct{} // closed when the process has ended

	number    int
	command   *exec.Cmd
	thread    chan int   // the id of the thread that is in the namespace
	connected chan error // nil once the namespace has a link to the node's bridge
}

// run starts a program in a namespace of its own, which ends with it.
func (n *node) run(name, program string, env []string) (*pod, error) {
	n.mu.Lock()
	n.pods++
	p := &pod{name: name, number: n.pods, address: fmt.Sprintf(podAddress, n.pods), ended: make(chan struct{}),
		thread: make(chan int), connected: make(chan error)}
	n.mu.Unlock()
	p.log = filepath.Join(n.dir, fmt.Sprintf("%s-%d.log", name, p.number))
	p.command = exec.Command(program)
	p.command.Env = env
	started := make(chan error, 1)
	go p.live(started)
	if thread := <-p.thread; thread != 0 {
		p.connected <- p.connect(thread)
	}
	if err := <-started; err != nil {
		return nil, fmt.Errorf("pod %s: %w", name, err)
	}
	return p, nil
}

// live holds the thread whose namespace the process is in. It never unlocks the thread, which so ends with it.
func (p *pod) live(started chan<- error) {
	runtime.LockOSThread()
	if syscall.Gettid() == syscall.Getpid() { // the first thread must stay in the node's namespace: give its place to another
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			p.live(started)
		}()
		<-ended
		runtime.UnlockOSThread()
		return
	}
	if err := p.start(); err != nil {
		started <- err
		return
	}
	started <- nil
	_ = p.command.Wait()
	close(p.ended)
}

func (p *pod) start() error {
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		p.thread <- 0
		return fmt.Errorf("network namespace: %w", err)
	}
	p.thread <- syscall.Gettid()
	if err := <-p.connected; err != nil {
		return err
	}
	for _, command := range []string{
		"link set lo up",
		"address add " + p.address + "/16 dev " + p.inner(),
		"link set " + p.inner() + " up",
		"route add default via " + nodeAddress,
	} {
		if err := ip(command); err != nil {
			return err
		}
	}
	log, err := os.Create(p.log)
	if err != nil {
		return err
	}
	defer log.Close()
	p.command.Stdout, p.command.Stderr = log, log
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return p.command.Start()
}

func (p *pod) outer() string { return fmt.Sprintf("pod%d", p.number) }
func (p *pod) inner() string { return fmt.Sprintf("eth%d", p.number) }

// connect makes a link from the bridge into the namespace that a thread is in.
func (p *pod) connect(thread int) error {
	for _, command := range []string{
		fmt.Sprintf("link add %s type veth peer name %s netns %d", p.outer(), p.inner(), thread),
		"link set " + p.outer() + " master " + bridge,
		"link set " + p.outer() + " up",
	} {
		if err := ip(command); err != nil {
			return err
		}
	}
	return nil
}

// end kills the process and waits for its end.
func (p *pod) end() {
	_ = p.command.Process.Kill()
	<-p.ended
}

// alive is an error with the log's end once the process has ended.
func (p *pod) alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("pod %s ended: %s", p.name, p.tail())
	default:
		return nil
	}
}

// tail is the end of the log.
func (p *pod) tail() string {
	text := p.logged()
	return text[max(0, len(text)-4000):]
}

func (p *pod) logged() string {
	text, _ := os.ReadFile(p.log)
	return string(text)
}

// forwarder is a port of a Service. While it is closed, or has no endpoint, it refuses connections.
type forwarder struct {
	address string // of the Service, host:port

	mu          sync.Mutex
	listener    net.Listener
	connections map[net.Conn]struct{}
}

// forward gives the node a Service's address, and sends what comes to its port to an endpoint.
func (n *node) forward(host string, port int, endpoint string) (*forwarder, error) {
	if err := ip("address replace " + host + "/32 dev " + bridge); err != nil {
		return nil, err
	}
	f := &forwarder{address: net.JoinHostPort(host, fmt.Sprint(port))}
	return f, f.open(endpoint)
}

func (f *forwarder) open(endpoint string) error {
	listener, err := net.Listen("tcp", f.address)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.listener, f.connections = listener, map[net.Conn]struct{}{}
	f.mu.Unlock()
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go f.carry(from, endpoint)
		}
	}()
	return nil
}

// close ends the connections too, as the end of the pod behind them would.
func (f *forwarder) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listener == nil {
		return errors.New("it is closed")
	}
	err := f.listener.Close()
	for connection := range f.connections {
		_ = connection.Close()
	}
	f.listener, f.connections = nil, nil
	return err
}

// keep has close end a connection; it is false if there is nothing left to keep it for.
func (f *forwarder) keep(connection net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.connections == nil {
		return false
	}
	f.connections[connection] = struct{}{}
	return true
}

func (f *forwarder) carry(from net.Conn, endpoint string) {
	defer from.Close()
	to, err := net.Dial("tcp", endpoint)
	if err != nil {
		return
	}
	defer to.Close()
	if !f.keep(from) {
		return
	}
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.connections, from)
	}()
	go func() {
		_, _ = io.Copy(to, from)
		_ = to.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(from, to)
}
