// Command kyverno-notation-venafi verifies container images for Kyverno. See the README.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/nirmata/kyverno-notation-venafi/function/cmd/internal/terminal"
)

func main() {
	os.Exit(run(filepath.Base(os.Args[0]), os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the command that the arguments name, of the program of this name, and returns the exit status: 2 if the command line or the
// settings are wrong.
func run(name string, args []string, stdout, stderr io.Writer) int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	err := execute(ctx, name, args, stdout, stderr)
	var status exitStatus
	if errors.As(err, &status) {
		return int(status)
	}
	return report(err, stderr)
}

// execute runs the command that the arguments name. Its error is an exitStatus, where the command told its outcome.
func execute(ctx context.Context, name string, args []string, stdout, stderr io.Writer) error {
	root := newRoot(name, terminal.Width(stdout, helpWidth))
	root.SetOut(stdout)
	root.SetErr(stderr)
	args, err := arguments(root, args, stderr)
	if err != nil {
		return err
	}
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}

// exitStatus is the end of a command that told its outcome by itself. It is an error, since cobra knows no other way.
type exitStatus int

// Error is a sentence, which is not printed.
func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// report prints the error that ended a command, a line for each of those that are joined, and returns the exit status.
func report(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	lines := strings.Split(err.Error(), "\n")
	for i := range lines {
		lines[i] = plain(lines[i]) // it may be from a file or a service
	}
	fmt.Fprintln(stderr, "error:", strings.Join(lines, "\n"))
	return 2
}
