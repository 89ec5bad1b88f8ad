package main

import (
	"io"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
)

// printAuditJSON writes all that was found, with a summary.
func printAuditJSON(w io.Writer, r auditReport) error {
	document := map[string]any{"outcome": map[audit.Outcome]string{audit.Good: "good", audit.Bad: "bad", audit.Indefinite: "unknown"}[r.outcome()]}
	switch {
	case r.Flips != nil:
		document["flips"], document["images"], document["summary"] = r.Flips, len(r.Findings), audit.Counts(r.Findings)
	case r.Expiries != nil:
		document["until"], document["expiries"], document["trustStoreCertificates"] = r.until.Format(time.RFC3339), r.Expiries, r.Anchors
		document["summary"] = audit.Counts(r.Findings)
	default:
		document["findings"], document["summary"] = r.Findings, audit.Counts(r.Findings)
	}
	return printJSON(w, document)
}
