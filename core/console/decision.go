package console

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// State says at a glance how something stands.
type State string

// The states, worst first.
const (
	Bad     State = "bad"
	Doubt   State = "doubt" // it is not known, or soon it will be bad
	Good    State = "good"
	Neutral State = "neutral" // nothing was looked at
)

// Decision is what a list says of a decision: the head of a record.
type Decision struct {
	ID         string      `json:"id"`
	Time       time.Time   `json:"time"`
	Outcome    string      `json:"outcome"`
	Caller     string      `json:"caller"`
	Background bool        `json:"background"`
	Object     core.Object `json:"object"`
	Verdict    struct {
		Results []core.Result `json:"results"`
	} `json:"verdict"`
}

// ReadDecision reads the head of a record. It leaves the rest unread, which [record.Decode] checks.
func ReadDecision(line []byte) (d Decision, err error) {
	err = json.Unmarshal(line, &d)
	return d, err
}

// State is that of the outcome.
func (d Decision) State() State { return StateOf(d.Outcome) }

// StateOf gives the state of a record's outcome.
func StateOf(outcome string) State {
	switch outcome {
	case "admitted":
		return Good
	case "denied":
		return Bad
	}
	return Doubt
}

// MaxShown is how many images a list names of a decision.
const MaxShown = 3

// Shown gives the images of which a list speaks, those that were not verified first, and how many it leaves out.
func (d Decision) Shown() []core.Result {
	results := slices.Clone(d.Verdict.Results)
	slices.SortStableFunc(results, func(a, b core.Result) int { return cmp.Compare(rank(a.Code), rank(b.Code)) })
	return results[:min(MaxShown, len(results))]
}

// More is how many images Shown leaves out.
func (d Decision) More() int { return max(0, len(d.Verdict.Results)-MaxShown) }

func rank(code reason.Code) int {
	switch code.Class() {
	case reason.Admitted:
		return 2
	case reason.Denied:
		return 0
	}
	return 1
}

// Filter chooses what a list shows. Empty texts choose all.
type Filter struct {
	Namespace string // as it is
	Image     string // a part of the image as it is written
	Code      string // of one of the images
	Page      int    // from 1
}

// MaxFilter bounds a text of a filter, bytes.
const MaxFilter = 512

// Any tells whether the filter leaves anything out.
func (f Filter) Any() bool { return f.Namespace != "" || f.Image != "" || f.Code != "" }

func (f Filter) chooses(d Decision) bool {
	if f.Namespace != "" && d.Object.Namespace != f.Namespace {
		return false
	}
	if f.Image == "" && f.Code == "" {
		return true
	}
	return slices.ContainsFunc(d.Verdict.Results, func(r core.Result) bool {
		return strings.Contains(r.Requested, f.Image) && (f.Code == "" || string(r.Code) == f.Code)
	})
}

// Select gives the decisions that a filter chooses: denials first, then those that could not be made, and the newest first in each.
func Select(all []Decision, f Filter) []Decision {
	chosen := slices.DeleteFunc(slices.Clone(all), func(d Decision) bool { return !f.chooses(d) })
	order := []State{Bad, Doubt, Good}
	slices.SortStableFunc(chosen, func(a, b Decision) int {
		return cmp.Or(slices.Index(order, a.State())-slices.Index(order, b.State()), b.Time.Compare(a.Time), strings.Compare(b.ID, a.ID))
	})
	return chosen
}

// PerPage is how many entries a page of a list has.
const PerPage = 25

// Page is a part of a list.
type Page[T any] struct {
	Items         []T
	Number, Pages int // from 1
	Total         int // entries of the list
}

// PageOf gives a page of a list: the nearest where it has none of that number.
func PageOf[T any](all []T, number int) Page[T] {
	pages := max(1, (len(all)+PerPage-1)/PerPage)
	number = min(max(1, number), pages)
	first := (number - 1) * PerPage
	return Page[T]{all[first:min(first+PerPage, len(all))], number, pages, len(all)}
}

// Before is the number of the page before, 0 for none.
func (p Page[T]) Before() int { return p.Number - 1 }

// After is the number of the page after, 0 for none.
func (p Page[T]) After() int {
	if p.Number == p.Pages {
		return 0
	}
	return p.Number + 1
}
