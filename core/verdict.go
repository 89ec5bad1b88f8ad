package core

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/samber/lo"
)

// Verdict is the answer to a request.
type Verdict struct {
	Verified bool     `json:"verified"` // every image is admitted
	Message  string   `json:"message"`  // for a person; a line per failed image in a denial
	Results  []Result `json:"results"`  // one per image, ordered by pointer; never nil

	Class Class `json:"-"` // the worst class among the results
}

// Result is the verdict on one image.
type Result struct {
	Name      string   `json:"name"`               // of the container or volume
	Kind      string   `json:"kind"`               // see [Image]
	Path      Pointer  `json:"path"`               // to the image field
	Image     string   `json:"image"`              // what the field should hold: pinned when verified, else as it was written
	Requested string   `json:"requested"`          // as it was written
	Verified  bool     `json:"verified"`           // admitted
	Code      Code     `json:"code"`               //
	Reason    string   `json:"reason"`             // a sentence without the image's name
	Digest    string   `json:"digest,omitempty"`   // resolved; "" when it was not
	Signer    string   `json:"signer,omitempty"`   // subject of the verified signature's certificate
	Warnings  []string `json:"warnings,omitempty"` // what the level only logs
	Op        string   `json:"op,omitempty"`       // "replace" where the field should be set to Value
	Value     string   `json:"value,omitempty"`    // equals Image where Op is set
}

// Patch is an RFC 6902 operation on an image field, in the form in which policies use it: by its path and
// image, or by its op, path and value.
type Patch struct {
	Name  string  `json:"name"`
	Path  Pointer `json:"path"`
	Image string  `json:"image"`
	Op    string  `json:"op"`
	Value string  `json:"value"`
}

// Patches gives the operations that pin what was verified, ordered by pointer; none for a denial. An image
// that is already the verified digest keeps its spelling.
func Patches(v Verdict) []Patch {
	if !v.Verified {
		return []Patch{}
	}
	return lo.FilterMap(v.Results, func(r Result, _ int) (Patch, bool) {
		return Patch{Name: r.Name, Path: r.Path, Image: r.Image, Op: r.Op, Value: r.Value}, r.Op != ""
	})
}

// newVerdict sums up results.
func newVerdict(results []Result) Verdict {
	class := Admitted
	for _, r := range results {
		class = worse(class, r.Code.Class())
	}
	v := Verdict{Verified: class == Admitted, Results: results, Class: class}
	v.Message = v.summary()
	return v
}

// worse orders classes for a request of several images: a denial goes before a failure, since trying again
// does not help.
func worse(a, b Class) Class {
	rank := []Class{Admitted, Busy, Failed, TimedOut, Rejected, Denied}
	return rank[max(slices.Index(rank, a), slices.Index(rank, b))]
}

func (v Verdict) summary() string {
	if !v.Verified {
		failed := lo.Filter(v.Results, func(r Result, _ int) bool { return !r.Verified })
		return strings.Join(lo.Map(failed, func(r Result, _ int) string { return r.denial() }), "\n")
	}
	if len(v.Results) == 0 {
		return "no images to verify"
	}
	count := lo.CountValuesBy(v.Results, func(r Result) Code { return r.Code })
	parts := []string{fmt.Sprintf("verified %d of %d images", count[Verified], len(v.Results))}
	for _, r := range v.Results {
		if r.Code == Skipped {
			parts = append(parts, fmt.Sprintf("%s was not verified: %s", r.Requested, r.Reason))
		}
		for _, warning := range r.Warnings {
			parts = append(parts, fmt.Sprintf("%s: only logged: %s", r.Requested, warning))
		}
	}
	return oneLine(strings.Join(parts, "; "))
}

// denial is the line that Kyverno prints to the person who was denied.
func (r Result) denial() string {
	return oneLine(fmt.Sprintf("failed to verify %s %s: failed to verify image %s: %s", r.Kind, r.Name, r.Requested, r.Reason))
}

// oneLine keeps what a registry, a plugin, a payload or the request wrote from looking like another line, and from
// steering the reader's terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if ' ' <= r && r <= '~' {
			return r
		}
		if unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
			return ' '
		}
		return r
	}, s)
}
