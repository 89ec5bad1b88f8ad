package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/function/cmd/internal/terminal"
)

// markResult is the verdict in the table. An image that is admitted without verification, for example under the level skip,
// is marked as unverified.
func markResult(w io.Writer, result core.Result) string {
	if result.Verified && result.Code != reason.Verified {
		return terminal.Paint(w, "unverified", terminal.Yellow)
	}
	return terminal.Verdict(w, result.Verified)
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
