package core

import (
	"fmt"
	"slices"
	"strings"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Verdict is the answer to a request.
type Verdict struct {
	Verified bool     `json:"verified"` // every image is admitted
	Message  string   `json:"message"`  // for a person; a line per failed image in a denial
	Results  []Result `json:"results"`  // one per image, ordered by pointer; never nil

	Class reason.Class `json:"-"` // the worst class among the results
}

// Result is the verdict on one image.
type Result struct {
	Name      string        `json:"name"`               // of the container or volume
	Kind      string        `json:"kind"`               // see [Image]
	Path      image.Pointer `json:"path"`               // to the image field
	Image     string        `json:"image"`              // what the field should hold: pinned when verified, else as it was written
	Requested string        `json:"requested"`          // as it was written
	Verified  bool          `json:"verified"`           // admitted
	Code      reason.Code   `json:"code"`               //
	Reason    string        `json:"reason"`             // a sentence without the image's name
	Digest    string        `json:"digest,omitempty"`   // resolved; "" when it was not
	Signer    string        `json:"signer,omitempty"`   // subject of the verified signature's certificate
	Warnings  []string      `json:"warnings,omitempty"` // what the level only logs
	Op        string        `json:"op,omitempty"`       // "replace" where the field should be set to Value
	Value     string        `json:"value,omitempty"`    // equals Image where Op is set
}

// Patch is an RFC 6902 operation on an image field, in the form in which policies use it: by its path and
// image, or by its op, path and value.
type Patch struct {
	Name  string        `json:"name"`
	Path  image.Pointer `json:"path"`
	Image string        `json:"image"`
	Op    string        `json:"op"`
	Value string        `json:"value"`
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

// Bounds on what a verdict tells, bytes. What it repeats of the request is bounded by the request.
const (
	maxMessage = 32 << 10  // the message
	maxTexts   = 512 << 10 // the reasons of all results; as much again the warnings, and the signers
	maxText    = 4096      // the reason of one result; as much again its warnings
	maxNames   = 10        // images named of those that share a reason; a number
)

// newVerdict sums up results. Of none of them nothing was verified, and nothing is admitted.
func newVerdict(results []Result) Verdict {
	if len(results) == 0 {
		return Verdict{Message: "no image was asked about", Results: []Result{}, Class: reason.Rejected}
	}
	class := reason.Admitted
	most := min(maxText, maxTexts/len(results))
	for i, r := range results {
		class = worse(class, r.Code.Class())
		results[i] = r.clipped(most)
	}
	v := Verdict{Verified: class == reason.Admitted, Results: results, Class: class}
	v.Message = v.summary()
	return v
}

// clipped keeps of each kind of text what a bound allows.
func (r Result) clipped(most int) Result {
	r.Reason, r.Signer = reason.Clip(r.Reason, most), reason.Clip(r.Signer, most)
	var warnings []string
	for i, left := 0, most; i < len(r.Warnings); i++ {
		if left <= 0 {
			warnings = append(warnings, fmt.Sprintf("and %d more", len(r.Warnings)-i))
			break
		}
		warnings = append(warnings, reason.Clip(r.Warnings[i], left))
		left -= len(r.Warnings[i])
	}
	r.Warnings = warnings
	return r
}

// worse orders classes for a request of several images: a denial goes before a failure, since trying again
// does not help.
func worse(a, b reason.Class) reason.Class {
	rank := []reason.Class{reason.Admitted, reason.Busy, reason.Failed, reason.TimedOut, reason.Rejected, reason.Denied}
	return rank[max(slices.Index(rank, a), slices.Index(rank, b))]
}

func (v Verdict) summary() string {
	if !v.Verified {
		failed := telling{separator: "\n"}
		for _, r := range v.Results {
			if !r.Verified {
				failed.add(r, r.Reason, r.denial())
			}
		}
		return failed.text()
	}
	told := telling{separator: "; "}
	verified := 0
	for _, r := range v.Results {
		if r.Code == reason.Verified {
			verified++
		} else {
			told.add(r, r.Reason, reason.OneLine(fmt.Sprintf("%s was not verified: %s", r.Requested, r.Reason)))
		}
		for _, warning := range r.Warnings {
			told.add(r, "only logged: "+warning, reason.OneLine(fmt.Sprintf("%s: only logged: %s", r.Requested, warning)))
		}
	}
	head := fmt.Sprintf("verified %d of %d images", verified, len(v.Results))
	if verified == 0 {
		head = fmt.Sprintf("admitted without verification: %d of %d images", len(v.Results), len(v.Results))
	}
	if len(told.lines) == 0 {
		return head
	}
	return head + "; " + told.text()
}

// telling is what has to be told of images, each reason once.
type telling struct {
	separator string
	lines     []line
	known     map[string]int // index of a reason's line
}

type line struct {
	text string   // of the first image
	more []string // names of the others with the same reason
}

func (t *telling) add(r Result, reason, text string) {
	if i, ok := t.known[reason]; ok {
		t.lines[i].more = append(t.lines[i].more, r.Name)
		return
	}
	if t.known == nil {
		t.known = map[string]int{}
	}
	t.known[reason] = len(t.lines)
	t.lines = append(t.lines, line{text: text})
}

// text joins the lines up to the bound on a message, and then says how many images it does not tell of.
func (t *telling) text() string {
	var text strings.Builder
	for i, l := range t.lines {
		next := l.String()
		if i > 0 {
			next = t.separator + next
		}
		if text.Len()+len(next) > maxMessage {
			untold := lo.SumBy(t.lines[i:], func(l line) int { return 1 + len(l.more) })
			return text.String() + t.separator + fmt.Sprintf("and %d more images", untold)
		}
		text.WriteString(next)
	}
	return text.String()
}

// String is the line, with the names of the first of the others.
func (l line) String() string {
	n := len(l.more)
	switch {
	case n == 0:
		return l.text
	case n == 1:
		return l.text + reason.OneLine(fmt.Sprintf(" (and 1 more image: %s)", l.more[0]))
	case n > maxNames:
		return l.text + reason.OneLine(fmt.Sprintf(" (and %d more images: %s, ...)", n, strings.Join(l.more[:maxNames], ", ")))
	}
	return l.text + reason.OneLine(fmt.Sprintf(" (and %d more images: %s)", n, strings.Join(l.more, ", ")))
}

// denial is the line that Kyverno prints to the person who was denied.
func (r Result) denial() string {
	return reason.OneLine(fmt.Sprintf("failed to verify %s %s: failed to verify image %s: %s", r.Kind, r.Name, r.Requested, r.Reason))
}
