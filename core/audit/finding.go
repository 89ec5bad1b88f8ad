package audit

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// State says how a use stands, in one word.
type State string

// The states, worst first.
const (
	DeniedOnRestart State = "DeniedOnRestart"
	RunsDenied      State = "RunsDenied"
	Unknown         State = "Unknown"
	Moved           State = "Moved"
	Unverified      State = "Unverified"
	Verified        State = "Verified"
)

// States lists the states, worst first.
func States() []State {
	return []State{DeniedOnRestart, RunsDenied, Unknown, Moved, Unverified, Verified}
}

// Words are the state for a person.
func (s State) Words() string {
	switch s {
	case DeniedOnRestart:
		return "would be denied on restart"
	case RunsDenied:
		return "runs what would be denied"
	case Moved:
		return "runs another digest than its tag gives now"
	case Unverified:
		return "admitted without verification"
	case Verified:
		return "verified"
	}
	return "could not tell"
}

// Finding is how a use stands under the trust of now.
type Finding struct {
	Use
	TrustPolicy string      `json:"trustPolicy,omitempty"` // "" for the default
	State       State       `json:"state"`
	Code        reason.Code `json:"code"`             // of the verdict that decided
	Reason      string      `json:"reason"`           // a sentence
	Digest      string      `json:"digest,omitempty"` // that a restart would pull; "" where it is not known
	Signer      string      `json:"signer,omitempty"`
	Warnings    []string    `json:"warnings,omitempty"`
}

// Evaluation is what verdicts say, by what was demanded.
type Evaluation struct {
	Demands  Demands
	Verdicts Verdicts
}

// Findings gives one finding for each use: the worst of those under the trust policies that apply.
func (e Evaluation) Findings(uses []Use) []Finding {
	findings := make([]Finding, 0, len(uses))
	for _, use := range uses {
		findings = append(findings, slices.MinFunc(e.findings(use), func(a, b Finding) int {
			return cmp.Compare(slices.Index(States(), a.State), slices.Index(States(), b.State))
		}))
	}
	return findings
}

// FindingsByPolicy gives a finding for each use and each trust policy that applies to it.
func (e Evaluation) FindingsByPolicy(uses []Use) []Finding {
	findings := make([]Finding, 0, len(uses))
	for _, use := range uses {
		findings = append(findings, e.findings(use)...)
	}
	return findings
}

// findings gives one finding at least.
func (e Evaluation) findings(use Use) (findings []Finding) {
	for _, demand := range e.Demands.Of(use.Namespace) {
		var running *Verdict
		if _, runs := demand.checks(use); runs != nil && demand.Unknown == nil {
			running = new(e.Verdicts.of(*runs))
		}
		finding := find(use, e.restart(demand, use), running)
		finding.TrustPolicy = demand.TrustPolicy
		findings = append(findings, finding)
	}
	return findings
}

// restart gives the verdict of one trust policy on what a restart of a use would pull.
func (e Evaluation) restart(demand Demand, use Use) Verdict {
	if demand.Unknown != nil {
		return Verdict{Code: demand.Unknown.Code, Reason: demand.Unknown.Reason}
	}
	check, _ := demand.checks(use)
	return e.Verdicts.of(check)
}

// find decides on a use from the verdict on what a restart would pull and the verdict on what runs, nil where that is the same.
func find(use Use, restart Verdict, runs *Verdict) Finding {
	finding := Finding{
		Use: use, Code: restart.Code, Reason: restart.Reason, Digest: restart.Digest, Signer: restart.Signer, Warnings: restart.Warnings,
	}
	moved := runs != nil && restart.Digest != "" && restart.Digest != use.Running
	switch {
	case restart.denied():
		finding.State = DeniedOnRestart
	case runs != nil && runs.denied():
		finding.State, finding.Code = RunsDenied, runs.Code
		finding.Reason = fmt.Sprintf("%s runs: %s", use.Running, runs.Reason)
	case restart.undecided():
		finding.State = Unknown
	case runs != nil && runs.undecided():
		finding.State, finding.Code = Unknown, runs.Code
		finding.Reason = fmt.Sprintf("%s runs: %s", use.Running, runs.Reason)
	case moved:
		finding.State = Moved
		finding.Reason = fmt.Sprintf("%s runs, and a restart would pull %s; both are admitted", use.Running, restart.Digest)
	case restart.Code == reason.Verified:
		finding.State = Verified
	default:
		finding.State = Unverified
	}
	return finding
}

// Denied tells whether a finding is a reason to fail.
func (f Finding) Denied() bool { return f.State == DeniedOnRestart || f.State == RunsDenied }

// Counts gives the number of findings in each state.
func Counts(findings []Finding) map[State]int {
	counts := map[State]int{}
	for _, finding := range findings {
		counts[finding.State]++
	}
	return counts
}

// Outcome sums up for an exit status.
type Outcome int

// The outcomes.
const (
	Good       Outcome = iota // nothing is denied
	Bad                       // something is, or would be
	Indefinite                // something could not be told, and nothing else is bad
)

// Sum gives the outcome of findings.
func Sum(findings []Finding) Outcome {
	return sum(slices.ContainsFunc(findings, Finding.Denied), slices.ContainsFunc(findings, func(f Finding) bool { return f.State == Unknown }))
}

func sum(bad, indefinite bool) Outcome {
	switch {
	case bad:
		return Bad
	case indefinite:
		return Indefinite
	}
	return Good
}
