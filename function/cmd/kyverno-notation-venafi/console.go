package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nirmata/kyverno-notation-venafi/core/console"
	"github.com/nirmata/kyverno-notation-venafi/core/ledger"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/function"
)

// consoleOptions are the flags of console that are not settings.
type consoleOptions struct {
	records []string
	service serviceOptions
}

func (o *consoleOptions) register(flags *pflag.FlagSet) {
	flags.Func("records", "A `file` of records of decisions, as decisionLog writes it; repeatable.", func(file string) error {
		if file == "-" {
			return errors.New("standard input cannot be read again for each page; name a file")
		}
		o.records = append(o.records, file)
		return nil
	})
	o.service.register(flags)
}

func newConsole() *cobra.Command {
	var options consoleOptions
	var own function.ConsoleSettings
	command := &cobra.Command{
		Use: "console", Short: "Serve pages for a browser, about trust, decisions and what runs", Args: noArguments,
		Long: "Serves pages for a browser until SIGINT or SIGTERM. They change nothing.",
		Example: `  {program} console
  {program} console --trustDir trust --records decisions.jsonl`,
	}
	read := withClusterOfUser(command, "trust", "namespace", "tls", "log")
	flags := function.FlagsOf(&own)
	flags.Register(command.Flags())
	options.register(command.Flags())
	command.RunE = func(c *cobra.Command, _ []string) error {
		settings, err := read()
		if err := errors.Join(err, flags.Load(os.LookupEnv)); err != nil {
			return err
		}
		return runConsole(c.Context(), settings, own, &options, c.OutOrStdout(), c.ErrOrStderr())
	}
	return command
}

// runConsole serves pages for a browser until ctx ends, on SIGINT or SIGTERM.
func runConsole(ctx context.Context, settings function.Settings, own function.ConsoleSettings, options *consoleOptions, stdout, stderr io.Writer) error {
	log, err := function.NewLogger(settings, stderr)
	if err != nil {
		return err
	}
	decisions, err := options.decisions()
	if err != nil {
		return err
	}
	var pages *function.Console
	if settings.TrustDir != "" {
		pages, err = function.NewFilesConsole(settings, own, decisions, log)
	} else {
		client, failed := settings.Connect()
		if failed != nil {
			return fmt.Errorf("no trust: name a directory in --trustDir, or a cluster in --kubeconfig: %w", failed)
		}
		defer client.Close()
		pages, err = function.NewClusterConsole(settings, own, client, decisions, log)
	}
	if err != nil {
		return err
	}
	listener, err := pages.Listen()
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "the console is at %s\n", pages.Address(listener))
	return pages.Serve(ctx, listener)
}

// decisions gives where decisions are read from; nil for nowhere.
func (o *consoleOptions) decisions() (function.ConsoleDecisions, error) {
	switch {
	case o.service.url != "" && len(o.records) > 0:
		return nil, errors.New("--service and --records are both set; leave one of them out")
	case o.service.url != "":
		return serviceDecisions{&o.service}, nil
	case len(o.records) > 0:
		return fileDecisions(o.records), nil
	}
	return nil, nil
}

// fileDecisions are the decisions in files.
type fileDecisions []string

// maxTail bounds what is read of a file for a list, bytes from its end.
const maxTail = 32 << 20

// Recent gives the heads of the records at the end of each file.
func (f fileDecisions) Recent(ctx context.Context) (decisions []console.Decision, from string, err error) {
	var names []string
	for _, name := range f {
		cut, err := tail(ctx, name, func(line []byte) {
			if head, err := console.ReadDecision(line); err == nil && head.ID != "" {
				decisions = append(decisions, head)
			}
		})
		if err != nil {
			return nil, "", err
		}
		if cut {
			name = fmt.Sprintf("the last %d MiB of %s", maxTail>>20, name)
		}
		names = append(names, name)
	}
	return decisions, "From " + strings.Join(names, ", ") + ".", nil
}

// tail calls do for the records at the end of a file, and tells whether there is more before them.
func tail(ctx context.Context, name string, do func(line []byte)) (cut bool, err error) {
	file, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer file.Close()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	start := max(0, size-maxTail)
	if _, err := file.Seek(start, io.SeekStart); err != nil {
		return false, err
	}
	lines := bufio.NewReaderSize(io.LimitReader(file, size-start), maxLine)
	for first := true; ctx.Err() == nil; first = false {
		line, err := lines.ReadSlice('\n')
		partial := first && start > 0
		if text, ok := ledger.Record(line); ok && !partial && !errors.Is(err, bufio.ErrBufferFull) {
			do(text)
		}
		switch {
		case errors.Is(err, io.EOF):
			return start > 0, nil
		case errors.Is(err, bufio.ErrBufferFull): // the line is passed over
		case err != nil:
			return false, err
		}
	}
	return false, ctx.Err()
}

// Find looks a record up where Recent finds it.
func (f fileDecisions) Find(ctx context.Context, id string) (found record.Record, err error) {
	if !decisionID.MatchString(id) {
		return found, fmt.Errorf("%w: %q is no id", function.ErrNoDecision, plain(id))
	}
	var line []byte
	for _, name := range f {
		if _, err := tail(ctx, name, func(text []byte) {
			if !bytes.Contains(text, []byte(id)) {
				return
			}
			if head, err := console.ReadDecision(text); err == nil && head.ID == id {
				line = slices.Clone(text)
			}
		}); err != nil {
			return found, err
		}
	}
	if line == nil {
		return found, fmt.Errorf("%w in %s", function.ErrNoDecision, strings.Join(f, ", "))
	}
	return record.Decode(line)
}

// serviceDecisions are those in the memory of a service.
type serviceDecisions struct{ *serviceOptions }

// Bounds on what a service gives for a list: as many as it has in memory.
const (
	mostOfService  = 500
	bytesOfService = 16 << 20
)

// Recent reads the service's GET /decisions.
func (s serviceDecisions) Recent(ctx context.Context) (decisions []console.Decision, from string, err error) {
	text, err := s.get(ctx, bytesOfService, url.Values{"limit": {fmt.Sprint(mostOfService)}})
	if err != nil {
		return nil, "", err
	}
	var answer struct{ Decisions []json.RawMessage }
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, "", fmt.Errorf("the service's answer is no list of decisions: %w", err)
	}
	for _, line := range answer.Decisions {
		if head, err := console.ReadDecision(line); err == nil && head.ID != "" {
			decisions = append(decisions, head)
		}
	}
	return decisions, "From the memory of one replica behind " + s.url + ".", nil
}

// Find reads one record from the service.
func (s serviceDecisions) Find(ctx context.Context, id string) (found record.Record, err error) {
	if !decisionID.MatchString(id) {
		return found, fmt.Errorf("%w: %q is no id", function.ErrNoDecision, plain(id))
	}
	found, err = s.decision(ctx, id)
	var refused *statusError
	if errors.As(err, &refused) && refused.code == http.StatusNotFound {
		return found, fmt.Errorf("%w: %w", function.ErrNoDecision, err)
	}
	return found, err
}
