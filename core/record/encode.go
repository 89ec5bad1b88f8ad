package record

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"

	"github.com/gowebpki/jcs"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// Canonical is the canonical form of a JSON text (RFC 8785). It fails where an object has a name twice.
func Canonical(text []byte) ([]byte, error) {
	canonical, err := jcs.Transform(text)
	if err != nil {
		return nil, fmt.Errorf("not canonical JSON: %w", err)
	}
	return canonical, nil
}

// Encode gives a record as one line of canonical JSON without its line break, of at most MaxBytes, and the record as it stands
// there. What is over that bound is cut, the least needed first, and the record says so.
func Encode(r Record) (Record, []byte, error) { return new(Encoder).Encode(r) }

// Encoder encodes records one after the other, in a buffer that it keeps. The zero value is ready to use.
type Encoder struct{ text []byte }

// maxKept bounds what an Encoder keeps of its buffer, bytes. Most records are far smaller.
const maxKept = 32 << 10

// Encode is as the function. The line is there until the next call.
func (e *Encoder) Encode(r Record) (Record, []byte, error) {
	if cap(e.text) > maxKept {
		e.text = nil
	}
	r.Version, r.Outcome, r.Replayable = Version, cmp.Or(r.Outcome, OutcomeOf(r.Verdict.Class)), len(r.Cut) == 0
	if line, ok := e.formed(&r); ok && len(line) <= MaxBytes && namesNoSecret(line) {
		return r, line, nil
	}
	r = hidden(r)
	for _, cut := range append([]func(*Record) string{nothing}, cuts...) {
		if said := cut(&r); said != "" {
			r.Cut = append(slices.Clone(r.Cut), said)
		}
		r.Replayable = len(r.Cut) == 0
		if line, err := e.line(&r); err == nil {
			return r, line, nil
		}
	}
	return r, nil, errTooLarge
}

var errTooLarge = errors.New("the record is over its bound without its evidence")

// formed is the canonical form of a record as it is. It is not ok for a record with what is rare in one, such as texts that are not
// UTF-8.
func (e *Encoder) formed(r *Record) (line []byte, ok bool) {
	e.text, ok = formOfRecord(e.text[:0], reflect.ValueOf(r).Elem())
	return e.text, ok
}

// line is the canonical form of a record as it is, within the bound.
func (e *Encoder) line(r *Record) ([]byte, error) {
	line, ok := e.formed(r)
	if !ok {
		text, err := marshal(r)
		if err != nil {
			return nil, err
		}
		if len(text) > MaxBytes {
			return nil, errTooLarge
		}
		if line, err = Canonical(text); err != nil {
			return nil, err
		}
	}
	if len(line) > MaxBytes {
		return nil, errTooLarge
	}
	return line, nil
}

// marshal is encoding/json without HTML's escapes.
func marshal(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
}

// few is how many images and results are left of a record that is over its bound without its evidence.
const few = 50

func nothing(*Record) string { return "" }

// cuts are what is left out, one after the other, until a record is within its bound.
var cuts = []func(*Record) string{
	func(r *Record) string {
		r.Evidence = each(r.Evidence, func(g Gathered) Gathered {
			g.Asked = each(g.Asked, func(a Asked) Asked { a.Report = nil; return a })
			return g
		})
		return "the reports on signatures"
	},
	func(r *Record) string {
		r.Plan.Stores = nil
		return "the certificates of trust stores"
	},
	func(r *Record) string {
		r.Evidence = each(r.Evidence, func(g Gathered) Gathered { g.Asked = nil; return g })
		return "what was asked and answered"
	},
	func(r *Record) string {
		r.Evidence, r.Plan.Demands, r.Plan.Tasks = []Gathered{}, nil, []Task{}
		return "the facts, and the tasks of the plan"
	},
	func(r *Record) string {
		said := fmt.Sprintf("all but %d of %d images, those that were not verified first", few, len(r.Verdict.Results))
		results := slices.Clone(r.Verdict.Results)
		slices.SortStableFunc(results, func(a, b core.Result) int {
			switch {
			case a.Verified == b.Verified:
				return 0
			case a.Verified:
				return 1
			}
			return -1
		})
		r.Verdict.Results = results[:min(few, len(results))]
		r.Plan.Images, r.Patches = nil, nil
		return said
	},
}

func each[T any](list []T, change func(T) T) []T {
	changed := make([]T, len(list))
	for i, element := range list {
		changed[i] = change(element)
	}
	return changed
}

// users and queries match in a JSON text what follows "://" in an address and may be a credential: the user, whose password may have
// an "@", and the query, as of presigned URLs. What is escaped belongs to either, but for quotes and line breaks.
var (
	users   = regexp.MustCompile(`://(?:[^/?#"\\\s]|\\[^"nrt])+@`)
	queries = regexp.MustCompile(`(://[^?"\\\s]*\?)(?:[^"\\\s]|\\[^"nrt])+`)
)

// hide hides queries and users of addresses in a JSON text.
func hide(text []byte) []byte {
	return queries.ReplaceAll(users.ReplaceAll(text, []byte("://***")), []byte("${1}***"))
}

// hidesNothing tells that [hidden] leaves a record as it is, by its text.
func hidesNothing(text []byte) bool {
	return !bytes.Contains(text, []byte(`\ufffd`)) && namesNoSecret(text)
}

// namesNoSecret tells that [hide] leaves a text as it is.
func namesNoSecret(text []byte) bool {
	return !bytes.Contains(text, []byte("://")) || bytes.Equal(hide(text), text)
}

// untrusted is what of a record has texts of strangers, from which the core concludes others.
type untrusted struct {
	Images   []core.PlannedImage `json:"images"`
	Evidence []Gathered          `json:"evidence"`
}

// hidden is a record whose images, evidence and verdict tell no secret of an address, and are UTF-8. Where that changes a text, the
// record has what the core concludes from the changed ones.
func hidden(r Record) Record {
	text, err := marshal(untrusted{r.Plan.Images, r.Evidence})
	if err != nil { // a time of no calendar
		r.Cut = append(slices.Clone(r.Cut), "the evidence, which has no form in JSON")
		r.Evidence = []Gathered{}
		return r
	}
	if hidesNothing(text) {
		return r
	}
	r.Altered = true
	var changed untrusted
	if err := json.Unmarshal(hide(text), &changed); err != nil {
		r.Evidence = []Gathered{}
		r.Cut = append(slices.Clone(r.Cut), "the evidence, which has no form in JSON")
		return r
	}
	r.Plan.Images, r.Evidence = changed.Images, changed.Evidence
	plan := r.Plan.plan()
	facts := make([]verification.Fact, len(r.Evidence))
	for i := range r.Evidence {
		if fact, err := r.Evidence[i].followed(plan.Tasks[i], r.Time); err == nil {
			r.Evidence[i].Fact = fact
		}
		facts[i] = r.Evidence[i].Fact
	}
	r.Verdict = core.Decide(plan, facts, r.Time)
	r.Outcome, r.Patches = OutcomeOf(r.Verdict.Class), core.Patches(r.Verdict)
	return r
}

// Decode reads a record in any form of JSON. It refuses what [Encode] does not write: unknown fields, names that stand twice,
// and other versions.
func Decode(text []byte) (Record, error) {
	if len(text) > 2*MaxBytes {
		return Record{}, fmt.Errorf("a record has at most %d bytes, and this has %d", MaxBytes, len(text))
	}
	canonical, err := Canonical(text)
	if err != nil {
		return Record{}, err
	}
	var r Record
	decoder := json.NewDecoder(bytes.NewReader(canonical))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return Record{}, fmt.Errorf("no record of a decision: %w", err)
	}
	if r.Version != Version {
		return Record{}, fmt.Errorf("a record of version %q; this program reads %q", r.Version, Version)
	}
	if again, err := marshal(r); err != nil {
		return Record{}, fmt.Errorf("no record of a decision: %w", err)
	} else if again, err = Canonical(again); err != nil || !bytes.Equal(again, canonical) {
		return Record{}, errors.New("no record of a decision: it has names in other letters, or lacks some")
	}
	return r, r.whole()
}

// ulid is the form of the id of a decision.
var ulid = regexp.MustCompile(`^[0-9A-HJKMNP-TV-Z]{26}$`)

// whole says in what a record contradicts itself; nil where it does not.
func (r Record) whole() error {
	if !ulid.MatchString(r.ID) {
		return fmt.Errorf("%q is no id of a decision", r.ID)
	}
	if len(r.Cut) > 0 == r.Replayable {
		return errors.New("the record says both that it can be replayed and that something was cut, or neither")
	}
	if r.Replayable && len(r.Evidence) != len(r.Plan.Tasks) {
		return fmt.Errorf("the record has evidence for %d tasks, and its plan has %d", len(r.Evidence), len(r.Plan.Tasks))
	}
	for _, planned := range r.Plan.Images {
		if planned.Decided == nil && (planned.Task < 0 || r.Replayable && planned.Task >= len(r.Plan.Tasks)) { // those of a cut record may be gone
			return fmt.Errorf("image %q of the record has the task %d, which does not exist", planned.Image.Name, planned.Task)
		}
	}
	if !r.Replayable {
		return nil
	}
	for _, task := range r.Plan.Tasks {
		if platforms, err := image.ReadPlatforms(task.Platforms); err != nil || !slices.Equal(platforms.List(), task.Platforms) {
			return fmt.Errorf("the record has a task with the platforms %q, which it cannot have", task.Platforms)
		}
		for _, identity := range task.Demands {
			if demand, ok := r.Plan.Demands[identity]; !ok || demand.demand().Identity() != identity {
				return fmt.Errorf("the record lacks the demand %q", identity)
			}
		}
	}
	return nil
}
