// Command bed runs the control plane of package bed by hand.
//
//	go run ./e2e/cmd/bed build    builds the programs that are missing
//	go run ./e2e/cmd/bed up       starts a bed in the background and prints how to reach it
//	go run ./e2e/cmd/bed down     ends that bed and removes its data
//
// One bed at a time is known to up and down, by the file state.json in the cache directory.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bed:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	const usage = "usage: bed build | up | down"
	if len(args) != 1 {
		return fmt.Errorf("%s", usage)
	}
	cache, err := bed.DefaultCacheDir()
	if err != nil {
		return err
	}
	opts := bed.Options{Kyverno: true, Log: os.Stderr, CacheDir: cache}
	switch args[0] {
	case "build":
		_, err := bed.Build(ctx, opts)
		return err
	case "up":
		return up(ctx, opts)
	case "down":
		return down(ctx, cache)
	case superviseCommand:
		return supervise(ctx, opts)
	default:
		return fmt.Errorf("unknown command %q; %s", args[0], usage)
	}
}
