package auditor

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Names in reports.
const (
	Source             = "kyverno-notation-venafi"
	LabelManagedBy     = "app.kubernetes.io/managed-by"
	ManagedBy          = "kyverno-notation-venafi"
	AnnotationRevision = "notation.nirmata.io/trust-revision"
	category           = "Image verification"
	namePrefix         = "notation-"
)

// Bounds on a report. An API server takes objects of up to 1.5 MiB.
const (
	maxResults  = 100
	maxProperty = 512 // bytes
)

// reportName is the name of a workload's report: the same in every process.
func reportName(uid string) string { return namePrefix + uid }

// Ours tells whether a report is of the auditor by its name. The label alone does not, since others may use it for theirs.
func Ours(name string) bool { return strings.HasPrefix(name, namePrefix) }

// Result is the outcome of a rule.
type Result string

// The results, worst first.
const (
	Fail  Result = "fail"
	Error Result = "error"
	Warn  Result = "warn"
	Skip  Result = "skip"
	Pass  Result = "pass"
)

// Results lists the results, worst first.
func Results() []Result { return []Result{Fail, Error, Warn, Skip, Pass} }

// resultOf gives the result and the severity of a state.
func resultOf(state audit.State) (Result, string) {
	switch state {
	case audit.DeniedOnRestart, audit.RunsDenied:
		return Fail, "high"
	case audit.Moved:
		return Warn, "medium"
	case audit.Unverified:
		return Skip, "low"
	case audit.Verified:
		return Pass, "info"
	}
	return Error, "medium"
}

// Report is a report in the form that the API groups openreports.io/v1alpha1 (Report) and wgpolicyk8s.io/v1alpha2 (PolicyReport)
// share.
type Report struct {
	APIVersion string       `json:"apiVersion,omitempty"` // set by who writes it
	Kind       string       `json:"kind,omitempty"`
	Metadata   Metadata     `json:"metadata"`
	Source     string       `json:"source,omitempty"` // only openreports.io has it here
	Scope      Scope        `json:"scope"`
	Summary    Summary      `json:"summary"`
	Results    []RuleResult `json:"results"`
}

// Metadata is what a report sets of its own.
type Metadata struct {
	Name            string            `json:"name"`
	Namespace       string            `json:"namespace"`
	ResourceVersion string            `json:"resourceVersion,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
	OwnerReferences []OwnerReference  `json:"ownerReferences,omitempty"`
}

// OwnerReference names the workload, with which the report is deleted.
type OwnerReference struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
}

// Scope names the workload that a report is about.
type Scope struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
}

// Summary counts results, also those that are left out.
type Summary struct {
	Pass  int `json:"pass"`
	Fail  int `json:"fail"`
	Warn  int `json:"warn"`
	Error int `json:"error"`
	Skip  int `json:"skip"`
}

// RuleResult is what was found of one image: policy is the trust policy, rule the container.
type RuleResult struct {
	Source     string            `json:"source"`
	Policy     string            `json:"policy"`
	Rule       string            `json:"rule"`
	Category   string            `json:"category"`
	Severity   string            `json:"severity"`
	Result     Result            `json:"result"`
	Message    string            `json:"message"`
	Scored     bool              `json:"scored"`
	Timestamp  Timestamp         `json:"timestamp"`
	Properties map[string]string `json:"properties"`
}

// Timestamp is a time in seconds since 1970.
type Timestamp struct {
	Seconds int64 `json:"seconds"`
	Nanos   int32 `json:"nanos"`
}

// report makes the report of a workload, with the worst results first; those over the bound are counted and told in one result.
func (s *State) report(w *workload) Report {
	uses, verdicts := w.audit()
	oldest := map[useKey]time.Time{}
	for _, u := range w.uses {
		oldest[u.key] = u.oldest()
	}
	report := Report{
		Metadata: Metadata{
			Name: reportName(w.UID), Namespace: w.Namespace,
			Labels:          map[string]string{LabelManagedBy: ManagedBy},
			Annotations:     map[string]string{AnnotationRevision: w.revision()},
			OwnerReferences: []OwnerReference{{APIVersion: w.APIVersion, Kind: w.Kind, Name: w.Name, UID: w.UID}},
		},
		Source:  Source,
		Scope:   Scope{APIVersion: w.APIVersion, Kind: w.Kind, Namespace: w.Namespace, Name: w.Name, UID: w.UID},
		Results: []RuleResult{},
	}
	for _, finding := range s.trust.Findings(uses, verdicts) {
		at := oldest[useKey{finding.Container, finding.Image, finding.Running}]
		result := ruleResult(finding, at)
		report.Summary.count(result.Result, 1)
		report.Results = append(report.Results, result)
	}
	slices.SortFunc(report.Results, compareResults)
	if over := len(report.Results) - maxResults; over > 0 {
		last := report.Results[maxResults]
		report.Results = append(report.Results[:maxResults:maxResults], RuleResult{
			Source: Source, Policy: last.Policy, Rule: "left out", Category: category, Severity: last.Severity, Result: last.Result, Scored: true,
			Message:   fmt.Sprintf("%d further images are left out of this report, of which none is worse than %q; the summary counts them", over, last.Result),
			Timestamp: last.Timestamp,
		})
	}
	return report
}

// compareResults orders results, the worst first, the same in every process.
func compareResults(a, b RuleResult) int {
	return cmp.Or(
		slices.Index(Results(), a.Result)-slices.Index(Results(), b.Result), strings.Compare(a.Rule, b.Rule), strings.Compare(a.Policy, b.Policy),
		strings.Compare(a.Properties["image"], b.Properties["image"]), strings.Compare(a.Properties["running"], b.Properties["running"]),
	)
}

// audit gives the images of a workload, sorted, and the verdicts on them.
func (w *workload) audit() ([]audit.Use, audit.Verdicts) {
	uses, verdicts := make([]audit.Use, 0, len(w.uses)), audit.Verdicts{}
	for _, u := range w.uses {
		uses = append(uses, w.use(u))
		for _, c := range u.checks {
			if c.verdict != nil {
				verdicts[c.Check] = *c.verdict
			}
		}
	}
	return audit.Merged(uses), verdicts
}

// oldest is when the oldest verdict on an image was made; zero where one is missing.
func (u *use) oldest() (oldest time.Time) {
	for i, c := range u.checks {
		if i == 0 || c.at.Before(oldest) {
			oldest = c.at
		}
	}
	return oldest
}

func ruleResult(finding audit.Finding, at time.Time) RuleResult {
	result, severity := resultOf(finding.State)
	message := finding.Reason
	if finding.State != audit.Verified {
		message = finding.State.Words() + ": " + finding.Reason
	}
	if len(finding.Warnings) > 0 {
		message += "; " + strings.Join(finding.Warnings, "; ")
	}
	properties := map[string]string{}
	for name, value := range map[string]string{
		"image": finding.Image, "running": finding.Running, "digest": finding.Digest, "code": string(finding.Code),
		"state": string(finding.State), "signer": finding.Signer, "pods": strconv.Itoa(finding.Pods),
	} {
		if value != "" {
			properties[name] = clean(value, maxProperty)
		}
	}
	return RuleResult{
		Source: Source, Policy: cmp.Or(clean(finding.TrustPolicy, reason.MaxName), "default"), Rule: clean(finding.Container, reason.MaxName),
		Category: category, Severity: severity, Result: result, Message: clean(message, reason.MaxWords), Scored: true,
		Timestamp: Timestamp{Seconds: max(0, at.Unix())}, Properties: properties,
	}
}

// clean is a text of others, on one line and within a bound.
func clean(text string, most int) string {
	return reason.Clip(strings.ToValidUTF8(reason.OneLine(text), "?"), most)
}

func (s *Summary) count(result Result, n int) {
	switch result {
	case Pass:
		s.Pass += n
	case Fail:
		s.Fail += n
	case Warn:
		s.Warn += n
	case Error:
		s.Error += n
	case Skip:
		s.Skip += n
	}
}

// worst is the worst result that a summary counts; Pass for none.
func (s Summary) worst() Result {
	switch {
	case s.Fail > 0:
		return Fail
	case s.Error > 0:
		return Error
	case s.Warn > 0:
		return Warn
	case s.Skip > 0:
		return Skip
	}
	return Pass
}

// revision is a hash of the trust under which the images of a workload are to be verified.
func (w *workload) revision() string {
	var all []string
	for _, u := range w.uses {
		for _, c := range u.checks {
			all = append(all, fmt.Sprintf("%q %q %s %q", c.Image, c.TrustPolicy, c.Rules, c.wanted))
		}
	}
	slices.Sort(all)
	hash := sha256.Sum256([]byte(strings.Join(slices.Compact(all), "\n")))
	return hex.EncodeToString(hash[:16])
}

// said is what is kept of a report that exists.
type said struct {
	Version  string // its resource version
	Revision string // of the trust under which its images were verified
	content  string // hash of what was meant, all but the times
	stored   string // the same of what an API server stored
	worst    Result
	oldest   int64     // time of its oldest result, in seconds since 1970
	due      time.Time // before which it is not deleted, where it is an orphan
	writing  bool
}

// read keeps what is needed of a report.
func read(report Report) said {
	have := said{
		Version: report.Metadata.ResourceVersion, Revision: report.Metadata.Annotations[AnnotationRevision],
		content: content(report), worst: report.Summary.worst(),
	}
	have.stored = have.content
	for i, result := range report.Results {
		if i == 0 || result.Timestamp.Seconds < have.oldest {
			have.oldest = result.Timestamp.Seconds
		}
	}
	return have
}

// content is a hash of a report without its times and its version.
func content(report Report) string {
	report.APIVersion, report.Kind, report.Metadata.ResourceVersion = "", "", ""
	report.Metadata.Labels = map[string]string{LabelManagedBy: report.Metadata.Labels[LabelManagedBy]}
	report.Metadata.Annotations = map[string]string{AnnotationRevision: report.Metadata.Annotations[AnnotationRevision]}
	report.Results = slices.Clone(report.Results)
	for i := range report.Results {
		report.Results[i].Timestamp = Timestamp{}
	}
	text, _ := json.Marshal(report) // strings, numbers, slices and maps of strings always encode
	hash := sha256.Sum256(text)
	return string(hash[:])
}
