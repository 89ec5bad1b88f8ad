package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/function/cmd/internal/terminal"
)

var update = flag.Bool("update", false, "write the golden files")

// hostile would move the cursor of a terminal, end a line or an element, if it were written as it is.
const hostile = "reg.example/x\x1b[2J\n\"><evil/>&:v1"

func use(namespace, kind, name, image string) audit.Use {
	return audit.Use{Workload: audit.Workload{Namespace: namespace, Kind: kind, Name: name}, Container: "container app", Image: image, Pods: 2}
}

// auditReports are reports of each kind, with a line of every state.
func auditReports() map[string]auditReport {
	at := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	findings := []audit.Finding{}
	for i, state := range audit.States() {
		code := []reason.Code{reason.NoSignature, reason.SignatureUntrusted, reason.RegistryUnavailable, reason.Verified, reason.Skipped, reason.Verified}[i]
		findings = append(findings, audit.Finding{
			Use: use([]string{"team-a", "team-b", ""}[i%3], "Deployment", "web", "reg.example/acme/"+strings.ToLower(string(state))+":v1"), TrustPolicy: "tp-team-a",
			State: state, Code: code, Reason: "the sentence about " + string(state),
		})
	}
	findings[5].Warnings = []string{"expiry: it has expired"} // which the level only logs
	findings[0].Image, findings[0].Reason = hostile, "no signature is associated with "+hostile
	flips := []audit.Flip{}
	for _, change := range audit.Changes() {
		flips = append(flips, audit.Flip{Use: use("team-a", "Deployment", string(change), "reg.example/acme/app:v1"), Change: change,
			Now: audit.Side{Code: reason.Verified, Reason: "signed by CN=Acme"}, Proposed: audit.Side{Code: reason.SignatureUntrusted, Reason: "the signer is unknown"}})
	}
	return map[string]auditReport{
		"findings": {Findings: findings, source: "dir with space/workloads.yaml"},
		"flips":    {Findings: findings, Flips: flips},
		"expiries": {Findings: findings, until: at.AddDate(0, 4, 0),
			Expiries: []audit.Expiry{
				{Use: use("team-a", "CronJob", "nightly", "reg.example/acme/job:v1"), At: at, Cause: verification.NeedsRevocation, Reason: "newer revocation data is needed"},
				{Use: use("team-a", "Deployment", "web", "reg.example/acme/app:v1"), At: at.AddDate(0, 1, 0), Cause: verification.EndOfCertificate, Certain: true, Reason: "its certificate expires"},
			},
			Anchors: []audit.Anchor{{Store: "ca:acme", Subject: "CN=Acme Root", Fingerprint: strings.Repeat("ab", 32), NotAfter: at.AddDate(2, 0, 0), Images: 2, Workloads: 2, Pods: 4}}},
		"nothing": {Findings: findings, Flips: []audit.Flip{}},
	}
}

// TestAuditOutputs compares every format of every kind of report with its golden file. Those of SARIF are held against its
// schema in config/validate.
func TestAuditOutputs(t *testing.T) {
	for kind, report := range auditReports() {
		for _, format := range []string{"table", "json", "sarif", "junit"} {
			t.Run(kind+" as "+format, func(t *testing.T) {
				var got bytes.Buffer
				if err := (&auditOptions{output: format}).print(&got, report); err != nil {
					t.Fatal(err)
				}
				path := filepath.Join("testdata", "audit", kind+"."+format)
				if *update {
					if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(path)
				if err != nil || !bytes.Equal(want, got.Bytes()) {
					t.Errorf("%v; got\n%s\nwant\n%s", err, &got, want)
				}
				if format != "json" && format != "sarif" && bytes.ContainsAny(got.Bytes(), "\x1b") || bytes.Contains(got.Bytes(), []byte("<evil/>")) && format == "junit" {
					t.Error("what came from a cluster is written as it is")
				}
			})
		}
	}
}

// TestSARIFHasWhatReadersNeed: GitHub and others refuse a log without these, and take null for a list that was not made.
func TestSARIFHasWhatReadersNeed(t *testing.T) {
	for kind, report := range auditReports() {
		var text bytes.Buffer
		if err := (&auditOptions{output: "sarif"}).print(&text, report); err != nil {
			t.Fatal(err)
		}
		var log struct {
			Version string
			Runs    []struct {
				Tool struct {
					Driver struct {
						Name  string
						Rules []struct{ ID string }
					}
				}
				Results []struct {
					RuleID, Level string
					Message       struct{ Text string }
					Locations     []json.RawMessage
				}
			}
		}
		if err := json.Unmarshal(text.Bytes(), &log); err != nil || log.Version != "2.1.0" || len(log.Runs) != 1 || log.Runs[0].Results == nil {
			t.Fatalf("%s: %v\n%s", kind, err, &text)
		}
		var rules []string
		for _, rule := range log.Runs[0].Tool.Driver.Rules {
			rules = append(rules, rule.ID)
		}
		for _, result := range log.Runs[0].Results {
			if !slices.Contains(rules, result.RuleID) || !slices.Contains([]string{"error", "warning", "note"}, result.Level) || result.Message.Text == "" || len(result.Locations) != 1 {
				t.Errorf("%s: result %+v with rules %q", kind, result, rules)
			}
		}
	}
}

// TestJUnitAddsUp: the numbers of a suite are those of its cases, and hostile names stay text.
func TestJUnitAddsUp(t *testing.T) {
	for kind, report := range auditReports() {
		var text bytes.Buffer
		if err := (&auditOptions{output: "junit"}).print(&text, report); err != nil {
			t.Fatal(err)
		}
		var all junitSuites
		if err := xml.Unmarshal(text.Bytes(), &all); err != nil {
			t.Fatalf("%s: %v\n%s", kind, err, &text)
		}
		tests, failures, errors := 0, 0, 0
		for _, suite := range all.Suites {
			tests += len(suite.Cases)
			for _, c := range suite.Cases {
				if c.Failure != nil {
					failures++
				}
				if c.Error != nil {
					errors++
				}
			}
		}
		entries, _ := report.entries()
		if tests != len(entries) || all.Tests != tests || all.Failures != failures || all.Errors != errors {
			t.Errorf("%s: %d tests, %d failures, %d errors counted; %d, %d, %d said; %d entries", kind, tests, failures, errors, all.Tests, all.Failures, all.Errors, len(entries))
		}
	}
}

// TestReportsFailWhereTheExitStatusDoes: who reads only SARIF or JUnit must not take for good what ends the command with another
// status than 0.
func TestReportsFailWhereTheExitStatusDoes(t *testing.T) {
	at := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	for state, outcome := range map[audit.State]audit.Outcome{audit.DeniedOnRestart: audit.Bad, audit.RunsDenied: audit.Bad, audit.Unknown: audit.Indefinite, audit.Verified: audit.Good} {
		findings := []audit.Finding{{Use: use("team-a", "Deployment", "web", "reg.example/acme/app:v1"), State: state}}
		for kind, report := range map[string]auditReport{"findings": {Findings: findings}, "expiries": {Findings: findings, Expiries: []audit.Expiry{}, until: at}} {
			entries, _ := report.entries()
			failed := slices.ContainsFunc(entries, func(e entry) bool { return e.untold || e.severity == severityError })
			if report.outcome() != outcome || failed != (outcome != audit.Good) {
				t.Errorf("%s that are %s: outcome %d, entries %+v", kind, state, report.outcome(), entries)
			}
		}
	}
}

// TestProgressIsForTerminals, since it would be noise in a file.
func TestProgressIsForTerminals(t *testing.T) {
	var text bytes.Buffer
	progress := terminal.Progress(&text, "images")
	progress(1, 2)
	progress(2, 2)
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	terminal.Progress(file, "images")(1, 2)
	if info, err := file.Stat(); err != nil || info.Size() > 0 || text.Len() > 0 {
		t.Errorf("%q and %v, %v", &text, info, err)
	}
}
