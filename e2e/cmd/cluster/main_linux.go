// Command cluster runs the cluster of package cluster by hand. It needs Linux and root.
//
//	go run ./e2e/cmd/cluster up          brings it up, or what is missing of it
//	go run ./e2e/cmd/cluster down        ends it and removes what it changed
//	go run ./e2e/cmd/cluster world       adds Kyverno, and a registry with images
//	go run ./e2e/cmd/cluster product WAY builds the product's image and installs it, WAY being knative, func, plain, helm or helm-knative
//	go run ./e2e/cmd/cluster kubectl ... runs kubectl as the administrator
//	go run ./e2e/cmd/cluster exec ...    runs a program of this machine in the cluster's network
//
// With --install-packages, up asks Debian for the packages that are missing.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"

	"github.com/nirmata/kyverno-notation-venafi/e2e/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	if ended := (*exec.ExitError)(nil); errors.As(err, &ended) {
		os.Exit(ended.ExitCode()) // it has said why
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	usage := errors.New("usage: cluster up [--install-packages] | down | world | product WAY | kubectl ARGS | exec PROGRAM ARGS")
	if len(args) == 0 {
		return usage
	}
	opts := cluster.Options{Log: os.Stderr, InstallPackages: slices.Contains(args[1:], "--install-packages")}
	switch command, rest := args[0], args[1:]; command {
	case "up":
		_, err := cluster.Up(ctx, opts)
		return err
	case "down":
		return cluster.Down(ctx, opts)
	case cluster.SuperviseCommand:
		return cluster.Supervise(os.Stdin)
	case "world":
		return world(ctx, opts)
	case "product":
		if len(rest) != 1 {
			return usage
		}
		return product(ctx, opts, rest[0])
	case "kubectl", "exec":
		if len(rest) == 0 {
			return usage
		}
		return inside(ctx, command, opts, rest)
	default:
		return usage
	}
}

func world(ctx context.Context, opts cluster.Options) error {
	c, err := cluster.Attach(opts)
	if err != nil {
		return err
	}
	return c.Do(ctx,
		cluster.Step{Name: "registry", Run: c.InstallRegistry},
		cluster.Step{Name: "Kyverno", Run: c.InstallKyverno})
}

// product leaves trust and policies to its user.
func product(ctx context.Context, opts cluster.Options, way string) error {
	c, err := cluster.Attach(opts)
	if err != nil {
		return err
	}
	return c.Do(ctx,
		cluster.Step{Name: "image", Run: c.ImportProduct},
		cluster.Step{Name: way, Run: func(ctx context.Context) error { return c.InstallProduct(ctx, way) }})
}

func inside(ctx context.Context, command string, opts cluster.Options, args []string) error {
	c, err := cluster.Attach(opts)
	if err != nil {
		return err
	}
	cmd := c.KubectlCommand(ctx, args...)
	if command == "exec" {
		cmd = c.Command(ctx, args[0], args[1:]...)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}
