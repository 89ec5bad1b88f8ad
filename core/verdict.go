package core

import (
	"fmt"
	"slices"
	"strconv"
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

// Patch is an RFC 6902 operation on an image field. It has the fields that policies use: path and image, or op, path and
// value.
type Patch struct {
	Name  string        `json:"name"`
	Path  image.Pointer `json:"path"`
	Image string        `json:"image"`
	Op    string        `json:"op"`
	Value string        `json:"value"`
}

// Patches gives the operations that pin the verified images, ordered by pointer; none for a denial. An image that is already
// named by the verified digest stays as it is written.
func Patches(v Verdict) []Patch {
	if !v.Verified {
		return []Patch{}
	}
	return lo.FilterMap(v.Results, func(r Result, _ int) (Patch, bool) {
		return Patch{Name: r.Name, Path: r.Path, Image: r.Image, Op: r.Op, Value: r.Value}, r.Op != ""
	})
}

// Bounds on the texts of a verdict, bytes. What it repeats of the request is bounded with the request.
const (
	maxMessage = 32 << 10  // the message
	maxTexts   = 512 << 10 // of the reasons of all results; the same for their warnings, and for their signers
	maxText    = 4096      // of the reason of one result; the same for its warnings
	maxNames   = 10        // images that are named of those that share a reason; a number
)

// newVerdict sums up results. Without any result nothing was verified, so the verdict denies.
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

// clipped cuts each kind of text to a bound.
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

// worse gives the class that decides for several images: a denial is worse than a failure, since a retry does not help.
func worse(a, b reason.Class) reason.Class {
	if a == b {
		return a
	}
	rank := []reason.Class{reason.Admitted, reason.Busy, reason.Failed, reason.TimedOut, reason.Rejected, reason.Denied}
	return rank[max(slices.Index(rank, a), slices.Index(rank, b))]
}

func (v Verdict) summary() string {
	if !v.Verified {
		failed := summary{separator: "\n"}
		for _, r := range v.Results {
			if !r.Verified {
				failed.add(r, r.Reason, r.denial())
			}
		}
		return failed.text()
	}
	notes := summary{separator: "; "}
	verified := 0
	for _, r := range v.Results {
		if r.Code == reason.Verified {
			verified++
		} else {
			notes.add(r, r.Reason, reason.OneLine(fmt.Sprintf("%s was not verified: %s", r.Requested, r.Reason)))
		}
		for _, warning := range r.Warnings {
			notes.add(r, "only logged: "+warning, reason.OneLine(fmt.Sprintf("%s: only logged: %s", r.Requested, warning)))
		}
	}
	head := "verified"
	if verified == 0 {
		head, verified = "admitted without verification:", len(v.Results)
	}
	head += " " + strconv.Itoa(verified) + " of " + strconv.Itoa(len(v.Results)) + " images"
	if len(notes.lines) == 0 {
		return head
	}
	return head + "; " + notes.text()
}

// summary is a message about several images, with one line for all that share a reason.
type summary struct {
	separator string
	lines     []line
	known     map[string]int // index of a reason's line
}

type line struct {
	text string   // of the first image
	more []string // names of the others with the same reason
}

func (s *summary) add(r Result, reason, text string) {
	if i, ok := s.known[reason]; ok {
		s.lines[i].more = append(s.lines[i].more, r.Name)
		return
	}
	if s.known == nil {
		s.known = map[string]int{}
	}
	s.known[reason] = len(s.lines)
	s.lines = append(s.lines, line{text: text})
}

// text joins the lines up to maxMessage, and then counts the images that are left out.
func (s *summary) text() string {
	var text strings.Builder
	for i, l := range s.lines {
		next := l.String()
		if i > 0 {
			next = s.separator + next
		}
		if text.Len()+len(next) > maxMessage {
			omitted := lo.SumBy(s.lines[i:], func(l line) int { return 1 + len(l.more) })
			return text.String() + s.separator + fmt.Sprintf("and %d more images", omitted)
		}
		text.WriteString(next)
	}
	return text.String()
}

// String is the line, with the names of the first few other images.
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

// denial is the line that Kyverno shows to the user whose request was denied.
func (r Result) denial() string {
	return reason.OneLine(fmt.Sprintf("failed to verify %s %s: failed to verify image %s: %s", r.Kind, r.Name, r.Requested, r.Reason))
}
