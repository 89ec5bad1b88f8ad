package differential

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/kyverno/kyverno/api/policyreport/v1alpha2"
	"github.com/kyverno/kyverno/pkg/openreports"
	reportutils "github.com/kyverno/kyverno/pkg/utils/report"
	openreportsv1alpha1 "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/auditor"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// TestKyvernoReadsTheAuditorsReports with its own types for both API groups, without a field that it does not know, and counts the
// results as they are counted.
func TestKyvernoReadsTheAuditorsReports(t *testing.T) {
	report := auditorsReport(t)
	var ours openreportsv1alpha1.Report
	readStrictly(t, report, &ours)
	adapter := &openreports.ReportAdapter{Report: &ours}
	results, summary := adapter.GetResults(), ours.Summary
	if got := reportutils.CalculateSummary(results); got != summary || got.Pass != 1 || got.Fail != 1 || got.Error != 1 {
		t.Errorf("it counts %+v, and the report says %+v", got, summary)
	}
	if ours.Source != auditor.Source || ours.Scope == nil || ours.Scope.Kind != "Deployment" {
		t.Errorf("source %q, scope %+v", ours.Source, ours.Scope)
	}
	report.Source = "" // of the report as a whole, which the other group does not have
	var older v1alpha2.PolicyReport
	readStrictly(t, report, &older)
	if got := reportutils.CalculateSummary(openreports.NewWGPolAdapter(&older).GetResults()); got != summary {
		t.Errorf("of the older group it counts %+v", got)
	}
	for i, result := range results {
		if result.Policy == "" || result.Rule == "" || result.Description == "" || result.Timestamp.Seconds == 0 || reportutils.SeverityFromString(string(result.Severity)) == "" {
			t.Errorf("result %+v", result)
		}
		if older.Results[i].Message != result.Description {
			t.Errorf("messages %q and %q", older.Results[i].Message, result.Description)
		}
	}
}

func readStrictly(t *testing.T, report auditor.Report, into any) {
	t.Helper()
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		t.Errorf("%v: %s", err, text)
	}
}

// auditorsReport is what the auditor writes of a Deployment with an image of each kind of result.
func auditorsReport(t *testing.T) auditor.Report {
	t.Helper()
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	state := auditor.New(auditor.Options{Interval: time.Hour})
	demands, err := audit.Everywhere("tp-{{ namespace }}", nil)
	if err != nil {
		t.Fatal(err)
	}
	state.Trust(auditor.Trust{
		Checks: func(use audit.Use) []audit.Check { return demands.Checks([]audit.Use{use}) },
		Findings: func(uses []audit.Use, verdicts audit.Verdicts) []audit.Finding {
			return audit.Evaluation{Demands: demands, Verdicts: verdicts}.FindingsByPolicy(uses)
		},
		Revision: func(audit.Check) (string, *audit.Verdict) { return "one", nil },
	}, now)
	state.Reports(nil)
	deployment := auditor.Ref{APIVersion: "apps/v1", Kind: "Deployment", Name: "web", UID: "b6e0c7a4"}
	state.Object(auditor.Object{Ref: deployment, Namespace: "team-a"}, now)
	pod := auditor.Pod{Object: auditor.Object{Ref: auditor.Ref{APIVersion: "v1", Kind: "Pod", Name: "web-a", UID: "0a1b"}, Namespace: "team-a", Controller: deployment}}
	codes := map[string]reason.Code{"reg.example/good:v1": reason.Verified, "reg.example/bad:v1": reason.NoSignature, "reg.example/untold:v1": reason.Timeout}
	for image := range codes {
		pod.Uses = append(pod.Uses, audit.Use{Container: "container app", Image: image})
	}
	state.Pod(pod, now)
	for range codes {
		task, _ := state.Next(now, func(string) time.Duration { return 0 })
		state.Verified(task, audit.Verdict{Code: codes[task.Image], Reason: "it is so"}, now)
	}
	write, _ := state.NextWrite(now)
	report := *write.Report
	report.APIVersion, report.Kind = "openreports.io/v1alpha1", "Report"
	return report
}
