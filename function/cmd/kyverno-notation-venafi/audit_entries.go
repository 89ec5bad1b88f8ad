package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
)

// severity is how grave an entry is for those who read reports of many tools.
type severity string

// The severities, which are SARIF's levels.
const (
	severityNone    severity = "none" // all is well
	severityNote    severity = "note"
	severityWarning severity = "warning"
	severityError   severity = "error"
)

// entry is a line of a report, whatever was asked for.
type entry struct {
	audit.Use
	rule     string // a reason code, or what changes or ends
	severity severity
	untold   bool // it could not be told
	message  string
}

// rule is what entries have in common.
type rule struct{ id, description string }

// entries lists what was found, and the rules in the order in which they may be named.
func (r auditReport) entries() (entries []entry, rules []rule) {
	switch {
	case r.Flips != nil:
		for _, f := range r.Flips {
			level := map[audit.Change]severity{audit.NewlyDenied: severityError, audit.NewlyAdmitted: severityNote}[f.Change]
			text := fmt.Sprintf("%s %s under the proposed trust. Now %s: %s. Then %s: %s.", f.Image, f.Change.Words(), f.Now.Code, f.Now.Reason, f.Proposed.Code, f.Proposed.Reason)
			entries = append(entries, entry{f.Use, string(f.Change), cmp.Or(level, severityWarning), f.Change.Untold(), text})
		}
		for _, change := range audit.Changes() {
			rules = append(rules, rule{string(change), "The image " + change.Words() + " under the proposed trust."})
		}
	case r.Expiries != nil: // and what is not admitted now, which ends nowhere and fails the audit
		entries, rules = findingEntries(lo.Filter(r.Findings, func(f audit.Finding, _ int) bool { return f.Denied() || f.State == audit.Unknown }))
		for _, e := range r.Expiries {
			level := severityWarning
			if e.Certain {
				level = severityError
			}
			entries = append(entries, entry{e.Use, "Ends-" + string(e.Cause), level, false, fmt.Sprintf("%s may stop being admitted at %s: %s.", e.Image, e.At.Format("2006-01-02 15:04 MST"), e.Reason)})
		}
		rules = append(rules,
			rule{"Ends-signature", "The image's signature expires."}, rule{"Ends-certificate", "A certificate of the signer expires."},
			rule{"Ends-condition", "A condition on an attestation, which reads the clock, is not met any more."},
			rule{"Ends-timestamp", "A certificate of the signer expires, and then only a timestamp carries the signature."}, rule{"Ends-crl", "Newer revocation data is needed."},
		)
	default:
		return findingEntries(r.Findings)
	}
	return entries, rules
}

func findingEntries(findings []audit.Finding) (entries []entry, rules []rule) {
	for _, f := range findings {
		level := map[audit.State]severity{audit.Verified: severityNone, audit.Unverified: severityNote, audit.Unknown: severityWarning, audit.Moved: severityWarning}[f.State]
		if level == severityNone && len(f.Warnings) > 0 {
			level = severityNote
		}
		text := fmt.Sprintf("%s %s: %s: %s", f.Image, f.State.Words(), f.Code, sentenceOf(f))
		entries = append(entries, entry{f.Use, string(f.State), cmp.Or(level, severityError), f.State == audit.Unknown, text})
	}
	for _, state := range audit.States() {
		rules = append(rules, rule{string(state), "The image of the workload: " + state.Words() + "."})
	}
	return entries, rules
}

// sentenceOf is the reason of a finding, with what a level only logs.
func sentenceOf(f audit.Finding) string {
	return strings.Join(append([]string{f.Reason}, f.Warnings...), "; but ")
}

// place names the use in one text, "team-a/Deployment/web/container app".
func (e entry) place() string {
	parts := []string{e.Namespace, e.Kind, e.Name, e.Container}
	if e.Namespace == "" {
		parts = parts[1:]
	}
	return strings.Join(parts, "/")
}
