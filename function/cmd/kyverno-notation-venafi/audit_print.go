package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/function/cmd/internal/terminal"
)

// printAudit writes tables for a person.
func printAudit(w io.Writer, r auditReport, wide bool) error {
	t := tableFor(w, wide)
	switch {
	case r.Flips != nil:
		return printFlips(w, t, r.Flips, r.Findings)
	case r.Expiries != nil:
		return printExpiries(w, t, r)
	}
	return printFindings(w, t, r.Findings)
}

func printFindings(w io.Writer, t table, findings []audit.Finding) error {
	rows := [][]cell{cells("NAMESPACE", "WORKLOAD", "CONTAINER", "IMAGE", "STATE", "CODE", "REASON")}
	for _, f := range findings {
		colour := terminal.Yellow
		switch {
		case f.Denied():
			colour = terminal.Red
		case f.State == audit.Verified:
			colour = terminal.Green
		}
		rows = append(rows, append(usedBy(f.Use), cell{f.State.Words(), colour}, cell{text: string(f.Code)}, cell{text: sentenceOf(f)}))
	}
	if err := t.print(w, rows); err != nil {
		return err
	}
	counts, parts := audit.Counts(findings), []string{}
	for _, state := range audit.States() {
		if n := counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state.Words()))
		}
	}
	_, err := fmt.Fprintf(w, "\n%d images of workloads: %s\n", len(findings), strings.Join(parts, ", "))
	return err
}

// printFlips writes what changes, and how much of it in each namespace.
func printFlips(w io.Writer, t table, flips []audit.Flip, findings []audit.Finding) error {
	all := fmt.Sprintf("%d images of workloads, of which %d are denied now", len(findings), lo.CountBy(findings, audit.Finding.Denied))
	if len(flips) == 0 {
		_, err := fmt.Fprintf(w, "nothing changes for %s\n", all)
		return err
	}
	rows := [][]cell{cells("NAMESPACE", "WORKLOAD", "CONTAINER", "IMAGE", "CHANGE", "NOW", "PROPOSED", "REASON")}
	for _, f := range flips {
		colour := terminal.Yellow
		switch f.Change {
		case audit.NewlyDenied:
			colour = terminal.Red
		case audit.NewlyAdmitted:
			colour = terminal.Green
		}
		why := f.Proposed.Reason
		now, proposed := f.Now.Code.Class(), f.Proposed.Code.Class()
		if f.Change == audit.NotTold && now != reason.Admitted && (now != reason.Denied || proposed == reason.Denied) {
			why = f.Now.Reason
		}
		rows = append(rows, append(append(usedBy(f.Use), cell{f.Change.Words(), colour}), cells(string(f.Now.Code), string(f.Proposed.Code), why)...))
	}
	if err := t.print(w, rows); err != nil {
		return err
	}
	var text strings.Builder
	for _, namespace := range lo.Uniq(lo.Map(flips, func(f audit.Flip, _ int) string { return f.Namespace })) {
		for _, change := range audit.Changes() {
			n := lo.CountBy(flips, func(f audit.Flip) bool { return f.Namespace == namespace && f.Change == change })
			if n > 0 {
				fmt.Fprintf(&text, "%s: %d %s\n", cmp.Or(plain(namespace), "no namespace"), n, change.Words())
			}
		}
	}
	_, err := fmt.Fprintf(w, "\n%s%d of %s\n", text.String(), len(flips), all)
	return err
}

// printExpiries writes what ends by date, and the certificates that carry what runs.
func printExpiries(w io.Writer, t table, r auditReport) error {
	rows := [][]cell{cells("DATE", "NAMESPACE", "WORKLOAD", "CONTAINER", "IMAGE", "ENDS", "CAUSE", "REASON")}
	for _, e := range r.Expiries {
		ends := cell{"certainly", terminal.Red}
		if !e.Certain {
			ends = cell{"perhaps", terminal.Yellow}
		}
		rows = append(rows, slices.Concat(cells(day(e.At)), usedBy(e.Use), []cell{ends}, cells(string(e.Cause), e.Reason)))
	}
	if len(r.Expiries) == 0 {
		rows = nil
		fmt.Fprintf(w, "of what is admitted now, nothing ends until %s\n", day(r.until))
	}
	if err := t.print(w, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	rows = [][]cell{cells("TRUST STORE", "CERTIFICATE", "EXPIRES", "IMAGES", "WORKLOADS", "PODS", "SHA-256")}
	for _, a := range r.Anchors {
		rows = append(rows, cells(a.Store, a.Subject, day(a.NotAfter), fmt.Sprint(a.Images), fmt.Sprint(a.Workloads), fmt.Sprint(a.Pods), a.Fingerprint[:min(16, len(a.Fingerprint))]))
	}
	if err := t.print(w, rows); err != nil {
		return err
	}
	counts := audit.Counts(r.Findings)
	admitted := len(r.Findings) - counts[audit.DeniedOnRestart] - counts[audit.Unknown]
	_, err := fmt.Fprintf(w, "\n%d of %d images of workloads are admitted now; run audit without --until for the others\n", admitted, len(r.Findings))
	return err
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// usedBy are the first columns of a row.
func usedBy(u audit.Use) []cell {
	return cells(dash(u.Namespace), u.Kind+"/"+u.Name, u.Container, u.Image)
}

// plain is a text from a cluster or a registry that cannot move the terminal's cursor.
func plain(text string) string { return reason.OneLine(text) }
