package console_test

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/auditor"
	"github.com/nirmata/kyverno-notation-venafi/core/console"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// decision is a decision about images of a code each, minutes after noon.
func decision(id, outcome, namespace string, minutes int, codes ...reason.Code) console.Decision {
	d := console.Decision{ID: id, Outcome: outcome, Time: noon.Add(time.Duration(minutes) * time.Minute), Object: core.Object{Namespace: namespace}}
	for _, code := range codes {
		d.Verdict.Results = append(d.Verdict.Results, core.Result{Requested: "reg.example/" + strings.ToLower(string(code)) + ":v1", Code: code})
	}
	return d
}

func TestSelect(t *testing.T) {
	all := []console.Decision{
		decision("early", "denied", "shop", 0, reason.NoSignature),
		decision("admitted", "admitted", "shop", 9, reason.Verified),
		decision("late", "denied", "shop", 5, reason.Verified, reason.SignatureExpired),
		decision("failed", "failed", "billing", 8, reason.RegistryUnavailable),
		decision("strange", "<b>", "", 7),
	}
	for sentence, tt := range map[string]struct {
		filter console.Filter
		want   []string
	}{
		"denials come first, then what was not decided, the newest first in each": {console.Filter{}, []string{"late", "early", "failed", "strange", "admitted"}},
		"a namespace":                               {console.Filter{Namespace: "billing"}, []string{"failed"}},
		"a part of a namespace is another":          {console.Filter{Namespace: "bill"}, nil},
		"a part of an image":                        {console.Filter{Image: "/no"}, []string{"early"}},
		"a code of one of the images":               {console.Filter{Code: "Verified"}, []string{"late", "admitted"}},
		"a code and an image of two different ones": {console.Filter{Code: "Verified", Image: "signatureexpired"}, nil},
		"what nobody has":                           {console.Filter{Code: "Nothing"}, nil},
	} {
		var got []string
		for _, d := range console.Select(all, tt.filter) {
			got = append(got, d.ID)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", sentence, got, tt.want)
		}
	}
	if all[0].ID != "early" {
		t.Error("what it was given was changed")
	}
}

func TestShownAreThoseToBlame(t *testing.T) {
	d := decision("one", "denied", "", 0, reason.Verified, reason.Verified, reason.RegistryUnavailable, reason.NoSignature)
	var got []string
	for _, r := range d.Shown() {
		got = append(got, string(r.Code))
	}
	if want := []string{"NoSignature", "RegistryUnavailable", "Verified"}; !slices.Equal(got, want) || d.More() != 1 {
		t.Errorf("%q and %d more, want %q", got, d.More(), want)
	}
}

func TestPageOf(t *testing.T) {
	for sentence, tt := range map[string]struct{ entries, page, number, pages, items int }{
		"nothing":            {0, 1, 1, 1, 0},
		"less than a page":   {3, 1, 1, 1, 3},
		"a full page":        {console.PerPage, 1, 1, 1, console.PerPage},
		"the last page":      {console.PerPage + 1, 2, 2, 2, 1},
		"beyond the last":    {console.PerPage + 1, 1 << 62, 2, 2, 1},
		"before the first":   {console.PerPage + 1, -1 << 62, 1, 2, console.PerPage},
		"a page of no lists": {0, 7, 1, 1, 0},
	} {
		if p := console.PageOf(make([]int, tt.entries), tt.page); p.Number != tt.number || p.Pages != tt.pages || len(p.Items) != tt.items || p.Total != tt.entries {
			t.Errorf("%s: %+v, want %+v", sentence, p, tt)
		}
	}
}

func TestTimeLine(t *testing.T) {
	const day = 24 * time.Hour
	never := time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	marks := console.Marks()
	if marks[0].Label != "today" || marks[4].At != console.LineLength || !slices.IsSortedFunc(marks, func(a, b console.Mark) int { return a.At - b.At }) {
		t.Errorf("marks %+v", marks)
	}
	for sentence, tt := range map[string]struct {
		from, to time.Time
		state    console.State
		words    string
		at, end  int
		beyond   bool
	}{
		"a year":               {noon, noon.Add(365 * day), console.Good, "365 days left", marks[0].At, marks[2].At, false},
		"all times":            {time.Time{}, never, console.Good, "2912382 days left", 0, console.LineLength, true},
		"a month":              {noon, noon.Add(30 * day), console.Doubt, "30 days left", marks[0].At, 113, false},
		"a day":                {noon, noon.Add(day), console.Doubt, "1 day left", marks[0].At, 77, false},
		"hours":                {noon, noon.Add(time.Hour), console.Doubt, "less than a day left", marks[0].At, 76, false},
		"it has just expired":  {time.Time{}, noon.Add(-time.Second), console.Bad, "expired less than a day ago", 0, 75, false},
		"it expired long ago":  {time.Time{}, noon.Add(-700 * day), console.Bad, "expired 700 days ago", 0, 0, false},
		"it is not valid yet":  {noon.Add(day), noon.Add(400 * day), console.Doubt, "400 days left", 77, 582, false},
		"it ends before it is": {never, time.Time{}, console.Bad, "expired 739675 days ago", console.LineLength, 0, false},
	} {
		got := console.NewCertificate(&x509.Certificate{NotBefore: tt.from, NotAfter: tt.to}, noon)
		if got.State != tt.state || got.Words() != tt.words || got.From != tt.at || got.To != tt.end || got.Beyond != tt.beyond || got.Length() < 4 {
			t.Errorf("%s: %+v (%s)", sentence, got, got.Words())
		}
	}
}

func TestUses(t *testing.T) {
	report := func(namespace string, results ...auditor.Result) auditor.Report {
		r := auditor.Report{Metadata: auditor.Metadata{Namespace: namespace}, Scope: auditor.Scope{Kind: "Deployment", Name: "web"}, Summary: auditor.Summary{Fail: 7, Pass: 1}}
		for _, result := range results {
			r.Results = append(r.Results, auditor.RuleResult{Rule: "app", Result: result, Properties: map[string]string{"image": "reg.example/" + string(result), "code": "C" + string(result)}})
		}
		return r
	}
	uses, sum := console.Uses([]auditor.Report{report("shop", auditor.Pass, auditor.Error), report("billing", auditor.Skip, auditor.Fail, auditor.Warn)})
	var got []string
	for _, u := range uses {
		got = append(got, string(u.Result)+" "+string(u.State()))
	}
	if want := []string{"fail bad", "error doubt", "warn doubt", "skip neutral", "pass good"}; !slices.Equal(got, want) || sum.Fail != 14 || sum.Pass != 2 {
		t.Errorf("%q and %+v, want %q", got, sum, want)
	}
	for sentence, tt := range map[string]struct {
		filter console.Filter
		want   int
	}{
		"all": {console.Filter{}, 5}, "a namespace": {console.Filter{Namespace: "shop"}, 2}, "an image": {console.Filter{Image: "pass"}, 1}, "a code": {console.Filter{Code: "Cfail"}, 1},
		"two that none has": {console.Filter{Code: "Cfail", Namespace: "shop"}, 0},
	} {
		if got := console.SelectUses(uses, tt.filter); len(got) != tt.want {
			t.Errorf("%s: %d, want %d", sentence, len(got), tt.want)
		}
	}
}

func TestReadDecision(t *testing.T) {
	d, err := console.ReadDecision([]byte(`{"id":"one","time":"2026-03-01T12:00:00Z","outcome":"denied","object":{"namespace":"shop"},"verdict":{"results":[{"code":"NoSignature"}]},"evidence":[{}],"later":1}`))
	if err != nil || d.ID != "one" || d.State() != console.Bad || d.Object.Namespace != "shop" || d.Shown()[0].Code != reason.NoSignature {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := console.ReadDecision([]byte(`{"id":1}`)); err == nil {
		t.Error("an id that is no text is read")
	}
}
