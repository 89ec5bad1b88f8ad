package bed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Process names a running process so that it can be ended later without hitting another that got its pid since.
type Process struct {
	Name    string `json:"name"`
	PID     int    `json:"pid"`
	Started string `json:"started"` // opaque; equal as long as the pid means the same process
}

// Identify names the process that has the pid now.
func Identify(name string, pid int) (Process, error) {
	started, err := startTime(pid)
	if err != nil {
		return Process{}, fmt.Errorf("%s: %w", name, err)
	}
	return Process{Name: name, PID: pid, Started: started}, nil
}

// Running tells whether the process still exists under its pid.
func (p Process) Running() bool {
	started, err := startTime(p.PID)
	return err == nil && started == p.Started
}

// Signal sends sig to the process, and to nothing else: a process that is gone is no error.
func (p Process) Signal(sig syscall.Signal) error {
	if !p.Running() {
		return nil
	}
	if err := syscall.Kill(p.PID, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("%s: signal %v to process %d: %w", p.Name, sig, p.PID, err)
	}
	return nil
}

// spawner starts commands from one thread that lives as long as the bed, because on Linux a child's parent-death
// signal is sent when the starting thread, not the process, ends.
type spawner struct {
	requests chan func()
}

func newSpawner() *spawner {
	s := &spawner{requests: make(chan func())}
	go func() {
		runtime.LockOSThread() // never unlocked: no other goroutine may end this thread
		for start := range s.requests {
			start()
		}
	}()
	return s
}

func (s *spawner) start(cmd *exec.Cmd) error {
	done := make(chan error)
	s.requests <- func() { done <- cmd.Start() }
	return <-done
}

// close ends the thread, and with it whatever child is left.
func (s *spawner) close() { close(s.requests) }

// child is one part of the control plane.
type child struct {
	Process
	again  func() (*child, error) // starts the same command once more
	log    string                 // path of what it wrote to stdout and stderr
	exited chan struct{}          // closed once it is reaped
	err    error                  // of its end; read only after exited
}

// spawn starts a program whose output is appended to log.
func (s *spawner) spawn(name, log string, env []string, program string, args ...string) (*child, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", name, err)
	}
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env, cmd.SysProcAttr = out, out, env, childAttr()
	if err := s.start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	again := func() (*child, error) { return s.spawn(name, log, env, program, args...) }
	c := &child{again: again, log: log, exited: make(chan struct{})}
	// Before the process is reaped its pid cannot be another's, so this names the right one even if it died already.
	c.Process, err = Identify(name, cmd.Process.Pid)
	if err != nil {
		c.Process = Process{Name: name, PID: cmd.Process.Pid}
	}
	go func() {
		if c.err = cmd.Wait(); c.err == nil {
			c.err = errors.New(cmd.ProcessState.String())
		}
		close(c.exited)
	}()
	return c, nil
}

// alive returns an error with the end of the child's log once it has exited; it ends a poll.
func (c *child) alive() error {
	select {
	case <-c.exited:
		return fatalError{fmt.Errorf("%s ended: %w%s", c.Name, c.err, tail(c.log))}
	default:
		return nil
	}
}

// stop asks the child's process group to end and, after the grace period, kills it. Without grace it kills at once.
func (c *child) stop(grace time.Duration) {
	if grace > 0 {
		c.signalGroup(syscall.SIGTERM)
		select {
		case <-c.exited:
		case <-time.After(grace):
		}
	}
	c.signalGroup(syscall.SIGKILL)
	<-c.exited
}

// signalGroup reaches what the child started as well. Once the child is reaped its group's id may be another's.
func (c *child) signalGroup(sig syscall.Signal) {
	select {
	case <-c.exited:
	default:
		_ = syscall.Kill(-c.PID, sig) // the group is there and ours, or just ended
	}
}

// tail returns the last lines of a log, set off for an error message.
func tail(path string) string {
	const limit = 2000 // bytes
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	if len(data) > limit {
		data = data[len(data)-limit:]
	}
	return "\n--- end of " + path + "\n" + string(bytes.TrimSpace(data))
}

// poll calls done every 100 ms until it returns nil. The error of the last try explains a missed deadline.
func poll(ctx context.Context, limit time.Duration, subject string, done func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := done(ctx)
		if err == nil {
			return nil
		}
		if fatal := (fatalError{}); errors.As(err, &fatal) {
			return fmt.Errorf("wait for %s: %w", subject, fatal.error)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", subject, context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}

// fatalError ends a poll early: waiting longer cannot help.
type fatalError struct{ error }
