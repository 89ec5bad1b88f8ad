package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Find gives the path of a server on this machine. Where there is none, the error says how to get one.
func Find() (string, error) {
	for _, name := range []string{"valkey-server", "redis-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("there is no valkey-server and no redis-server on this machine; Debian has them (apt-get install redis-server)")
}

// Server is a real server in a process of its own.
type Server struct {
	Address string // host:port

	dir, port string
	arguments []string
	mu        sync.Mutex
	command   *exec.Cmd
	ended     chan struct{}
	log       *os.File
}

// Start starts a server on a free loopback port, with further arguments, in a folder for its files, and waits until it listens. TLS and
// sentinels are a matter of arguments, in which PORT stands for the port; where they name none, it is that of plain connections.
func Start(ctx context.Context, dir string, arguments ...string) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil { // so that the server can listen there
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	s := &Server{Address: address, dir: dir, port: port}
	if !slices.ContainsFunc(arguments, func(a string) bool { return strings.Contains(a, "PORT") }) {
		arguments = append(arguments, "--port", "PORT")
	}
	for _, argument := range append(arguments, "--bind", "127.0.0.1", "--dir", dir, "--daemonize", "no") {
		s.arguments = append(s.arguments, strings.ReplaceAll(argument, "PORT", port))
	}
	return s, s.Restart(ctx)
}

// Restart starts the server again, on the same port, after it has ended.
func (s *Server) Restart(ctx context.Context) (err error) {
	path, err := Find()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log, err = os.Create(filepath.Join(s.dir, "server-"+s.port+".log")); err != nil {
		return err
	}
	s.command = exec.Command(path, s.arguments...)
	s.command.Stdout, s.command.Stderr = s.log, s.log
	if err := s.command.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	s.ended = ended
	go func(command *exec.Cmd) {
		_ = command.Wait() // it is killed in the end
		close(ended)
	}(s.command)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", s.Address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(s.log.Name())
			return fmt.Errorf("%s %q ended: %s", path, s.arguments, text)
		default:
		}
	}
	return errors.New("the server does not listen")
}

// Prefer has the server go before other processes, which only root may do.
func (s *Server) Prefer(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if said, err := exec.CommandContext(ctx, "renice", "-n", "-15", "-p", strconv.Itoa(s.command.Process.Pid)).CombinedOutput(); err != nil {
		return fmt.Errorf("renice: %w: %s", err, said)
	}
	return nil
}

// Signal sends a signal, such as SIGKILL, SIGSTOP and SIGCONT.
func (s *Server) Signal(signal syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.command.Process.Signal(signal) // it may have ended
}

// Kill ends the server at once (kill -9), and waits until it has ended.
func (s *Server) Kill() {
	s.Signal(syscall.SIGKILL)
	<-s.ended
	_ = s.log.Close() // nobody reads it any more
}
