package console

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/auditor"
)

// Use is what an audit found of an image that runs.
type Use struct {
	Namespace, Workload, Container, Image, TrustPolicy string

	Result  auditor.Result
	Code    string
	Message string
	Pods    string    // a number
	At      time.Time // of the oldest verdict
}

// State is that of the result.
func (u Use) State() State {
	switch u.Result {
	case auditor.Fail:
		return Bad
	case auditor.Pass:
		return Good
	case auditor.Skip:
		return Neutral
	}
	return Doubt
}

// Uses lists what reports say, the worst first, and sums up all of them, also what they leave out.
func Uses(reports []auditor.Report) ([]Use, auditor.Summary) {
	var uses []Use
	var sum auditor.Summary
	for _, report := range reports {
		s := report.Summary
		sum.Pass, sum.Fail, sum.Warn, sum.Error, sum.Skip = sum.Pass+s.Pass, sum.Fail+s.Fail, sum.Warn+s.Warn, sum.Error+s.Error, sum.Skip+s.Skip
		for _, result := range report.Results {
			uses = append(uses, Use{
				Namespace: report.Metadata.Namespace, Workload: report.Scope.Kind + " " + report.Scope.Name, Container: result.Rule,
				Image: result.Properties["image"], TrustPolicy: result.Policy, Result: result.Result, Code: result.Properties["code"],
				Message: result.Message, Pods: result.Properties["pods"], At: time.Unix(result.Timestamp.Seconds, 0).UTC(),
			})
		}
	}
	worst := auditor.Results()
	slices.SortStableFunc(uses, func(a, b Use) int {
		return cmp.Or(slices.Index(worst, a.Result)-slices.Index(worst, b.Result), strings.Compare(a.Namespace, b.Namespace),
			strings.Compare(a.Workload, b.Workload), strings.Compare(a.Container, b.Container))
	})
	return uses, sum
}

// SelectUses gives the uses that a filter chooses.
func SelectUses(all []Use, f Filter) []Use {
	return slices.DeleteFunc(slices.Clone(all), func(u Use) bool {
		return f.Namespace != "" && u.Namespace != f.Namespace || !strings.Contains(u.Image, f.Image) || f.Code != "" && u.Code != f.Code
	})
}
