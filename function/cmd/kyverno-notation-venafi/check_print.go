package main

import (
	"fmt"
	"io"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/function/cmd/internal/terminal"
)

// checkDocument is what check prints for programs.
type checkDocument struct {
	Verdict  verdictWord   `json:"verdict"`  // on all
	Verified bool          `json:"verified"` // all are admitted
	Results  []checkResult `json:"results"`
}

// checkResult is the verdict on one image.
type checkResult struct {
	Verdict verdictWord `json:"verdict"`
	core.Result
}

// print writes what check found.
func (o *checkOptions) print(w io.Writer, found []checked) error {
	switch o.output {
	case "json":
		return printJSON(w, documentOf(found))
	case "yaml":
		return printYAML(w, documentOf(found))
	case "sarif":
		entries, rules := checkEntries(found)
		return printSARIF(w, sourceOf(o.manifest), entries, rules)
	case "junit":
		entries, _ := checkEntries(found)
		return printJUnit(w, "kyverno-notation-venafi check", entries)
	}
	return o.printTable(w, documentOf(found).Results)
}

func documentOf(found []checked) checkDocument {
	status := statusOf(found)
	document := checkDocument{
		Verdict:  map[int]verdictWord{exitVerified: wordVerified, exitDenied: wordDenied, exitUnknown: wordUnknown}[status],
		Verified: status == exitVerified, Results: []checkResult{},
	}
	for _, each := range found {
		for _, result := range each.verdict.Results {
			document.Results = append(document.Results, checkResult{wordOf(result), result})
		}
	}
	return document
}

// sourceOf is the file that results are about; "" for standard input and for what is in no file.
func sourceOf(file string) string {
	if file == "-" {
		return ""
	}
	return file
}

// colourOf is the colour of a verdict.
func colourOf(word verdictWord) terminal.Colour {
	switch word {
	case wordVerified:
		return terminal.Green
	case wordDenied:
		return terminal.Red
	}
	return terminal.Yellow
}

func (o *checkOptions) printTable(w io.Writer, results []checkResult) error {
	rows, counts := [][]cell{cells("IMAGE", "VERDICT", "CODE", "DIGEST", "REASON")}, map[verdictWord]int{}
	for _, r := range results {
		row := cells(r.Requested, string(r.Verdict), string(r.Code), dash(r.Digest), r.Reason)
		row[1].colour = colourOf(r.Verdict)
		rows = append(rows, row)
		counts[r.Verdict]++
	}
	if err := tableFor(w, o.wide).print(w, rows); err != nil || len(results) < 2 {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", summary("images", counts, len(results)))
	return err
}

// containerOf names where an image stands; an image that was named by itself stands nowhere.
func containerOf(workload audit.Workload, r core.Result) string {
	if workload.Name == "" {
		return "-"
	}
	return r.Kind + " " + r.Name
}

// checkEntries are the results for reports that other programs read.
func checkEntries(found []checked) (entries []entry, rules []rule) {
	levels := map[verdictWord]severity{wordVerified: severityNone, wordUnverified: severityNote, wordDenied: severityError, wordUnknown: severityWarning}
	for _, each := range found {
		for _, r := range each.verdict.Results {
			workload := each.workload
			if workload.Name == "" { // of an image that was named by itself
				workload = audit.Workload{Kind: "Image", Name: r.Requested}
			}
			word := wordOf(r)
			entries = append(entries, entry{
				Use:  audit.Use{Workload: workload, Container: containerOf(each.workload, r), Image: r.Requested},
				rule: string(r.Code), severity: levels[word], untold: word == wordUnknown,
				message: fmt.Sprintf("%s is %s: %s: %s", r.Requested, word, r.Code, r.Reason),
			})
		}
	}
	for _, info := range reason.Codes() {
		rules = append(rules, rule{string(info.Code), info.Meaning})
	}
	return entries, rules
}
