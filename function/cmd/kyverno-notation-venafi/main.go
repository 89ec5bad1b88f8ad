// Command kyverno-notation-venafi verifies container images for Kyverno. See the README.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/nirmata/kyverno-notation-venafi/function"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

const usage = `Usage: kyverno-notation-venafi [serve|certmanager|check|migrate|audit|records|replay|why|console|probe] [flags]

  serve        answer POST /checkimages and /verify (the default)
  certmanager  keep certificates and the status of trust resources, and audit what runs, as one leader among replicas
  check        verify images from the command line: check IMAGE... | -f FILE
  migrate      print the CEL policies for a file of ClusterPolicies: migrate -f FILE
  audit        hold what runs in a cluster against the trust of now, of a proposed change, and over time
  records      verify a log of decision records, and attest what it says of an image: records verify|vsa
  replay       decide again on recorded decisions, and say what differs: replay FILE...
  why          tell the chain of reasons for an image, a pod or a decision: why IMAGE|pod/NAME|ID
  console      serve pages for a browser, about trust, decisions and what runs
  probe        ask an address until it answers 200: probe --caFile FILE https://...

Run a command with -h for its flags.
`

// run runs the command that the arguments name, and returns the exit status: 2 if the command line or the settings are
// wrong.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	command := "serve"
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		command, args = args[0], args[1:]
	}
	switch command {
	case "serve":
		return report(serve(ctx, args, stderr), stdout, stderr)
	case "certmanager":
		return report(runCertmanager(ctx, args, stderr), stdout, stderr)
	case "check":
		return check(ctx, args, stdout, stderr)
	case "migrate":
		return migratePolicies(args, stdout, stderr)
	case "audit":
		return auditCommand(ctx, args, stdout, stderr)
	case "replay":
		return replay(ctx, args, stdout, stderr)
	case "why":
		return why(ctx, args, stdout, stderr)
	case "console":
		return report(consoleCommand(ctx, args, stdout, stderr), stdout, stderr)
	case "records":
		return recordsCommand(ctx, args, stdout, stderr)
	case "probe":
		return probe(ctx, args, stdout, stderr)
	case "help":
		fmt.Fprint(stdout, usage)
		return 0
	}
	fmt.Fprintf(stderr, "unknown command %q\n\n%s", command, usage)
	return 2
}

// report prints the error or help text that ended a command, and returns the exit status.
func report(err error, stdout, stderr io.Writer) int {
	var help *function.HelpError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &help):
		fmt.Fprint(stdout, help.Text)
		return 0
	}
	lines := strings.Split(err.Error(), "\n") // of errors that are joined
	for i := range lines {
		lines[i] = plain(lines[i]) // it may be from a file or a service
	}
	fmt.Fprintln(stderr, "error:", strings.Join(lines, "\n"))
	return 2
}

// serve runs the service until ctx ends, on SIGINT or SIGTERM.
func serve(ctx context.Context, args []string, stderr io.Writer) error {
	settings, log, err := prepare("serve", args, stderr)
	if err != nil {
		return err
	}
	service, err := function.New(settings, os.LookupEnv, log)
	if err != nil {
		return err
	}
	listeners, err := service.Listen()
	if err != nil {
		return err
	}
	service.Start(ctx)
	defer service.Stop()
	return service.Serve(ctx, listeners...)
}

// prepare reads the settings of a command without arguments, and makes its logger.
func prepare(name string, args []string, stderr io.Writer) (function.Settings, *slog.Logger, error) {
	settings, rest, err := function.LoadSettings(name, args, os.LookupEnv, nil)
	if err != nil {
		return settings, nil, err
	}
	if len(rest) > 0 {
		return settings, nil, fmt.Errorf("%s takes no arguments, but got %q", name, rest)
	}
	log, err := function.NewLogger(settings, stderr)
	return settings, log, err
}
