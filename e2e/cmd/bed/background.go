package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
)

// superviseCommand is the command that up runs in the background. It runs the test environment until it gets SIGTERM.
const superviseCommand = "supervise"

const (
	upTime   = 10 * time.Minute // the programs are built before
	downTime = 30 * time.Second
)

// state is what down needs to know.
type state struct {
	Supervisor bed.Process   `json:"holder"`
	Parts      []bed.Process `json:"parts"`
	Kubeconfig string        `json:"kubeconfig"`
	Dir        string        `json:"dir"`
}

func stateFile(cache string) string { return filepath.Join(cache, "state.json") }

// readState returns fs.ErrNotExist if no bed is up.
func readState(cache string) (state, error) {
	s := state{}
	data, err := os.ReadFile(stateFile(cache))
	if err != nil {
		return s, fmt.Errorf("state of the bed: %w", err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("state of the bed in %s: %w", stateFile(cache), err)
	}
	return s, nil
}

// write replaces the file at once: up waits for it to appear.
func (s state) write(cache string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("state of the bed: %w", err)
	}
	unfinished := stateFile(cache) + ".unfinished"
	if err := os.WriteFile(unfinished, data, 0o600); err != nil {
		return fmt.Errorf("state of the bed: %w", err)
	}
	return os.Rename(unfinished, stateFile(cache))
}

// up builds in the foreground, where it can be watched and interrupted, and leaves the bed to a process of its own.
func up(ctx context.Context, opts bed.Options) error {
	if s, err := readState(opts.CacheDir); err == nil && s.Supervisor.Running() {
		return fmt.Errorf("a bed is up already: export KUBECONFIG=%s", s.Kubeconfig)
	}
	if _, err := bed.Build(ctx, opts); err != nil {
		return err
	}
	if err := down(ctx, opts.CacheDir); err != nil {
		return fmt.Errorf("remove what an earlier bed left: %w", err)
	}
	supervisor, exited, err := startSupervisor(opts.CacheDir)
	if err != nil {
		return err
	}
	s, err := awaitState(ctx, opts.CacheDir, exited)
	if err != nil {
		return errors.Join(err, supervisor.Signal(syscall.SIGTERM))
	}
	fmt.Printf("export KUBECONFIG=%s\n", s.Kubeconfig)
	return nil
}

// startSupervisor runs this program again, detached from the terminal.
func startSupervisor(cache string) (bed.Process, <-chan error, error) {
	self, err := os.Executable()
	if err != nil {
		return bed.Process{}, nil, fmt.Errorf("find this program: %w", err)
	}
	logFile, err := os.Create(filepath.Join(cache, "up.log"))
	if err != nil {
		return bed.Process{}, nil, fmt.Errorf("log of the bed: %w", err)
	}
	defer logFile.Close()
	cmd := exec.Command(self, superviseCommand)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = logFile, logFile, &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return bed.Process{}, nil, fmt.Errorf("start the bed in the background: %w", err)
	}
	exited := make(chan error, 1)
	go func() {
		exited <- fmt.Errorf("the bed ended (%v), see %s", cmd.Wait(), logFile.Name())
	}()
	supervisor, err := bed.Identify("bed", cmd.Process.Pid)
	return supervisor, exited, err
}

func awaitState(ctx context.Context, cache string, exited <-chan error) (state, error) {
	ctx, cancel := context.WithTimeout(ctx, upTime)
	defer cancel()
	for {
		s, err := readState(cache)
		if err == nil {
			return s, nil
		}
		select {
		case err := <-exited:
			return state{}, err
		case <-ctx.Done():
			return state{}, fmt.Errorf("wait for the bed: %w", ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// supervise runs a test environment until the process gets SIGTERM.
func supervise(ctx context.Context, opts bed.Options) error {
	b, err := bed.Start(ctx, opts)
	if err != nil {
		return err
	}
	supervisor, err := bed.Identify("bed", os.Getpid())
	if err == nil {
		s := state{Supervisor: supervisor, Parts: b.Processes(), Kubeconfig: b.Kubeconfig(), Dir: b.Dir()}
		err = s.write(opts.CacheDir)
	}
	if err != nil {
		return errors.Join(err, b.Close())
	}
	<-ctx.Done()
	return b.Close()
}

// down ends exactly the processes that were recorded. The supervisor ends its parts; they are looked at again in case that
// it was killed. It does nothing if no bed is up.
func down(ctx context.Context, cache string) error {
	s, err := readState(cache)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.Supervisor.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	_ = awaitEnd(ctx, s.Supervisor) // if it does not end in time it is killed now
	for _, p := range append(s.Parts, s.Supervisor) {
		if err := errors.Join(p.Signal(syscall.SIGKILL), awaitEnd(ctx, p)); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll(s.Dir), os.Remove(stateFile(cache)))
}

func awaitEnd(ctx context.Context, p bed.Process) error {
	ctx, cancel := context.WithTimeout(ctx, downTime)
	defer cancel()
	for p.Running() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s (process %d) to end: %w", p.Name, p.PID, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}
