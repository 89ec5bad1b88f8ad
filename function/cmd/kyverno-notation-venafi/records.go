package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nirmata/kyverno-notation-venafi/core/ledger"
	"github.com/nirmata/kyverno-notation-venafi/core/recordkey"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/function/cmd/internal/terminal"
)

// The exit statuses of records verify, beside 2 where it could not tell.
const (
	exitWhole  = 0
	exitBroken = 1
)

func newRecords() *cobra.Command {
	command := &cobra.Command{
		Use: "records", Short: "Verify a log of decision records, and attest what it says of an image",
		Long: "Commands on logs of decision records, which the setting decisionLog writes.",
		RunE: someCommand,
	}
	command.AddCommand(newRecordsVerify(), newRecordsVSA())
	return command
}

// logOptions are the flags by which a log is verified.
type logOptions struct {
	keys, seen string
	accept     ledger.Accept
}

func (o *logOptions) register(flags *pflag.FlagSet) {
	flags.StringVar(&o.keys, "keys", "", "PEM `file` of the public keys; else those of the ConfigMap in the cluster of --kubeconfig.")
	flags.StringVar(&o.seen, "seen", "", "The `file` with what an earlier run printed with -o json: the log must still hold all that it held then.")
	flags.BoolVar(&o.accept.Partial, "partial", false, "Accept a log whose beginning is not in the files, as of one that is rotated.")
	flags.BoolVar(&o.accept.Open, "open", false, "Accept chains whose end is not signed, as of replicas that run or were killed. An end that was cut off looks the same.")
}

func newRecordsVerify() *cobra.Command {
	var options logOptions
	output := ""
	command := &cobra.Command{
		Use: "verify FILE...", Short: "Verify that a log of decision records is whole",
		Long:    "Verifies that a log of decision records is unchanged, uncut and signed, and tells where it is not. It exits with 1 where the log is not whole.",
		Example: "  {program} records verify decisions.jsonl --keys keys.pem",
	}
	read := withClusterOfUser(command, recordsFlags...)
	withOutput(command, &output, "text", "json")
	options.register(command.Flags())
	command.RunE = runs(func(c *cobra.Command, files []string) (int, error) {
		settings, err := read()
		if err != nil {
			return 0, err
		}
		return verifyRecords(c.Context(), settings, &options, files, output, c.OutOrStdout())
	})
	return command
}

// recordsFlags are the settings that the commands below records have flags for: where the public keys are published.
var recordsFlags = []string{"kubeconfig", "context", "namespace", "decisionKeySecret"}

// verifyRecords verifies a log, prints what was found, and returns the exit status.
func verifyRecords(ctx context.Context, settings function.Settings, options *logOptions, files []string, output string, stdout io.Writer) (int, error) {
	found, err := options.verify(ctx, settings, files, nil)
	if err != nil {
		return 0, err
	}
	if output == "json" {
		err = printJSON(stdout, found)
	} else {
		err = printLog(stdout, found)
	}
	if !found.Whole {
		return exitBroken, err
	}
	return exitWhole, err
}

// verify verifies the log in files, "-" for standard input. use is given each record in its place; it may be nil.
func (o *logOptions) verify(ctx context.Context, settings function.Settings, files []string, use func(record []byte, chain string, sequence uint64)) (ledger.Report, error) {
	if len(files) == 0 {
		return ledger.Report{}, errors.New("name the files of the log, or - for standard input")
	}
	seen, err := o.readSeen()
	if err != nil {
		return ledger.Report{}, err
	}
	keys, err := o.readKeys(ctx, settings)
	if err != nil {
		return ledger.Report{}, err
	}
	verifier := ledger.NewVerifier(keys, seen)
	for _, file := range files {
		from, err := openInput(file)
		if err != nil {
			return ledger.Report{}, err
		}
		if err := errors.Join(verifier.Read(file, from, use), from.Close()); err != nil {
			return ledger.Report{}, err
		}
	}
	return verifier.Report(o.accept), nil
}

func openInput(file string) (io.ReadCloser, error) {
	if file == "-" {
		return io.NopCloser(os.Stdin), nil
	}
	return os.Open(file)
}

// Bounds on what is read whole; bytes.
const (
	maxKeys = 1 << 20
	maxSeen = 64 << 20
)

func readBounded(file string, bound int64) ([]byte, error) {
	from, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	text, err := io.ReadAll(io.LimitReader(from, bound+1))
	if err == nil && int64(len(text)) > bound {
		err = fmt.Errorf("%s is over %d bytes", file, bound)
	}
	return text, err
}

func (o *logOptions) readKeys(ctx context.Context, settings function.Settings) (ledger.Keys, error) {
	if o.keys == "" {
		keys, err := settings.RecordKeys(ctx)
		if err == nil && len(keys) == 0 {
			err = errors.New("no public key for decision records is published")
		}
		if err != nil {
			return nil, fmt.Errorf("no keys; name a file with --keys: %w", err)
		}
		return keys, nil
	}
	text, err := readBounded(o.keys, maxKeys)
	if err != nil {
		return nil, err
	}
	keys := recordkey.Parse(text)
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s holds no public key for decision records", o.keys)
	}
	return keys, nil
}

// readSeen gives the heads of an earlier report.
func (o *logOptions) readSeen() ([]ledger.Head, error) {
	if o.seen == "" {
		return nil, nil
	}
	text, err := readBounded(o.seen, maxSeen)
	if err != nil {
		return nil, err
	}
	var earlier ledger.Report
	if err := json.Unmarshal(bytes.TrimSpace(text), &earlier); err != nil {
		return nil, fmt.Errorf("%s: %w", o.seen, err)
	}
	if !earlier.Whole {
		return nil, fmt.Errorf("%s is not of a log that was whole", o.seen)
	}
	return earlier.Heads(), nil
}

// printLog tells people what was found.
func printLog(stdout io.Writer, found ledger.Report) error {
	out := bufio.NewWriter(stdout)
	for _, finding := range found.Findings {
		place := finding.Chain
		if finding.File != "" {
			place = fmt.Sprintf("%s:%d", finding.File, finding.Line)
		}
		mark := terminal.Paint(stdout, string(finding.Kind), terminal.Red)
		if finding.Accepted {
			mark = terminal.Paint(stdout, string(finding.Kind)+" (accepted)", terminal.Yellow)
		}
		fmt.Fprintf(out, "%s: %s\n", strings.TrimPrefix(place+": "+mark, ": "), finding.Text)
	}
	if found.More > 0 {
		fmt.Fprintf(out, "and %d findings more\n", found.More)
	}
	for _, chain := range found.Chains {
		fmt.Fprintln(out, describeChain(chain))
	}
	verdict := terminal.Paint(stdout, "whole", terminal.Green)
	if !found.Whole {
		verdict = terminal.Paint(stdout, "NOT WHOLE", terminal.Red)
	}
	fmt.Fprintf(out, "%s: %d records in %d lines of %d chains\n", verdict, found.Records, found.Lines, len(found.Chains))
	return out.Flush()
}

// describeChain is like "chain X of pod-a since T: 12 records in lines 0 to 14, closed at T, key 1a2b3c4d".
func describeChain(chain ledger.Summary) string {
	parts := []string{fmt.Sprintf("chain %s", chain.Chain)}
	if chain.Replica != "" {
		parts[0] += fmt.Sprintf(" of %s since %s", chain.Replica, chain.Started.Format(time.RFC3339))
	}
	parts[0] += fmt.Sprintf(": %d records in lines %d to %d", chain.Records, chain.First, chain.Head.Sequence)
	if chain.Dropped > 0 {
		parts = append(parts, fmt.Sprintf("%d records dropped", chain.Dropped))
	}
	if chain.Checkpoints > 0 {
		what := "signed last"
		if chain.Closed {
			what = "closed"
		}
		parts = append(parts, fmt.Sprintf("%s at %s with key %s", what, chain.SignedAt.Format(time.RFC3339), chain.Key[:16]))
	}
	if chain.ContinuedBy != "" {
		parts = append(parts, "continued by chain "+chain.ContinuedBy)
	}
	if chain.Unsigned > 0 {
		parts = append(parts, fmt.Sprintf("%d lines unsigned", chain.Unsigned))
	}
	return strings.Join(parts, ", ")
}
