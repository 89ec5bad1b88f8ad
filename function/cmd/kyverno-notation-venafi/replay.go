package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/function"
)

// The exit statuses of replay, beside 2 where it could not tell.
const (
	exitSame      = 0
	exitDifferent = 1
)

// replayed counts what came of records.
type replayed struct{ same, different, untold int }

// replayOptions are the flags of replay that are not settings.
type replayOptions struct {
	again bool
	id    string // "" for all
}

func newReplay() *cobra.Command {
	var options replayOptions
	command := &cobra.Command{
		Use: "replay FILE...", Short: "Decide again on recorded decisions, and say what differs",
		Long: `Decides again on recorded decisions, from the evidence in the records, or with --again from what is gathered now. It exits with 0 when
all come out the same, 1 when one does not, and 2 when it could not be told.`,
		Example: `  {program} replay decisions.jsonl
  {program} replay --again decisions.jsonl --id 01M8C95RNMTW6JAP53C04EWFKA`,
	}
	read := withClusterOfUser(command, "trust", "plugins", "registries", "verification")
	command.Flags().BoolVar(&options.again, "again", false, "Gather anew, and say what is different now.")
	command.Flags().StringVar(&options.id, "id", "", "Take the decision of this `id` only; else all in the files.")
	command.RunE = runs(func(c *cobra.Command, files []string) (int, error) {
		settings, err := read()
		if err == nil && len(files) == 0 {
			err = errors.New("name the files of the records, or - for standard input")
		}
		if err != nil {
			return 0, err
		}
		return replay(c.Context(), settings, options, files, c.OutOrStdout(), c.ErrOrStderr())
	})
	return command
}

// replay decides again on recorded decisions, from their evidence or with what is gathered now, and returns the exit status.
func replay(ctx context.Context, settings function.Settings, options replayOptions, files []string, stdout, stderr io.Writer) (int, error) {
	decide := func(r record.Record) error { return record.Replay(r) }
	if options.again {
		engine, snapshot, err := explainer(ctx, settings, stderr)
		if err != nil {
			return 0, err
		}
		defer engine.Close()
		decide = func(r record.Record) error { return anew(ctx, engine, snapshot, r, stdout) }
	}
	var counts replayed
	var broken error
	for _, file := range files {
		if err := eachRecord(file, func(r record.Record) error {
			if options.id == "" || r.ID == options.id {
				counts.add(r, decide(r), stdout)
			}
			return nil
		}); err != nil {
			broken = errors.Join(broken, err)
		}
	}
	fmt.Fprintf(stdout, "%d decisions: %d the same, %d different, %d could not be told\n", counts.same+counts.different+counts.untold, counts.same, counts.different, counts.untold)
	if broken != nil {
		report(broken, stderr)
		counts.untold++
	}
	return counts.status(), nil
}

// errOther is a decision that comes out otherwise now; what is different was printed.
var errOther = errors.New("it comes out otherwise now")

// anew gathers anew for a record, and prints what is different.
func anew(ctx context.Context, engine *function.Audit, snapshot trust.Snapshot, before record.Record, stdout io.Writer) error {
	after, err := engine.ExplainAgain(ctx, before, snapshot)
	if err != nil {
		return err
	}
	different := record.Differences(before, after)
	for _, line := range different {
		fmt.Fprintf(stdout, "%s: %s\n", before.ID, plain(line))
	}
	if len(different) > 0 {
		return errOther
	}
	return nil
}

func (c *replayed) add(r record.Record, err error, stdout io.Writer) {
	var differs *record.DifferenceError
	switch {
	case err == nil:
		c.same++
	case errors.Is(err, errOther):
		c.different++
	case errors.As(err, &differs):
		c.different++
		fmt.Fprintf(stdout, "%s: %s\n", r.ID, plain(err.Error()))
	default:
		c.untold++
		fmt.Fprintf(stdout, "%s: %s\n", r.ID, plain(err.Error()))
	}
}

func (c *replayed) status() int {
	switch {
	case c.different > 0:
		return exitDifferent
	case c.untold > 0 || c.same == 0:
		return exitUnknown
	}
	return exitSame
}
