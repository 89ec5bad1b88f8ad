package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Escape sequences, for terminals only.
const (
	green, yellow, red, plain = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"
)

// isTerminal tells whether people look at what is written.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == ""
}

// mark is a verdict in a word, in colour on a terminal.
func mark(w io.Writer, verified bool) string {
	if verified {
		return paint(w, "verified", green)
	}
	return paint(w, "denied", red)
}

// markResult does not let an image that is admitted without having been verified read like one that was.
func markResult(w io.Writer, result core.Result) string {
	if result.Verified && result.Code != reason.Verified {
		return paint(w, "unverified", yellow)
	}
	return mark(w, result.Verified)
}

func paint(w io.Writer, word, colour string) string {
	if !isTerminal(w) {
		return word
	}
	return colour + word + plain
}

func printTable(w io.Writer, results []core.Result) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "IMAGE\tVERDICT\tCODE\tDIGEST\tREASON")
	for _, r := range results {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", r.Requested, markResult(w, r), r.Code, dash(r.Digest), r.Reason)
	}
	return table.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
