package condition

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Bounds on the texts in a reason.
const (
	maxReason = 10_000 // bytes, of all conditions together
	maxWords  = 1000   // bytes, of an expression
	maxShown  = 200    // characters, of a value
)

// cut keeps the first maxShown characters of a text. reason.Clip bounds bytes instead.
func cut(s string) string {
	n := 0
	for i := range s {
		if n++; n > maxShown {
			return s[:i] + "..."
		}
	}
	return s
}

// written shows a condition's part as its author wrote it.
func written(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return reason.Clip(text, maxWords)
	}
	return cut(reason.Clip(string(raw), 4*maxShown+4))
}

// shown shows the beginning of a value, at a cost that does not depend on its size.
func (b *budget) shown(value any) string {
	e := excerpt{budget: b}
	e.write(value)
	return cut(e.text.String())
}

// excerpt is the beginning of a value's JSON.
type excerpt struct {
	*budget
	text  strings.Builder
	depth int
}

// maxExcerpt holds more than maxShown characters, however they are encoded; bytes.
const maxExcerpt = 4 * (maxShown + 1)

func (e *excerpt) full() bool { return e.text.Len() > maxExcerpt || e.depth > maxExcerpt }

func (e *excerpt) write(value any) {
	e.depth++
	defer func() { e.depth-- }()
	switch v := value.(type) {
	case string:
		e.text.WriteString(encoded(v[:min(len(v), 2*maxExcerpt)]))
	case []any:
		e.part(len(v), "[]", func(i int) { e.write(v[i]) })
	case map[string]any:
		names := e.firstNames(v)
		e.part(len(names), "{}", func(i int) {
			e.write(names[i])
			e.text.WriteString(":")
			e.write(v[names[i]])
		})
	case unevaluated:
		e.text.WriteString("an expression")
	default:
		e.text.WriteString(encoded(v))
	}
}

func (e *excerpt) part(n int, brackets string, part func(i int)) {
	e.text.WriteString(brackets[:1])
	for i := range n {
		if e.full() {
			return
		}
		if i > 0 {
			e.text.WriteString(",")
		}
		part(i)
	}
	e.text.WriteString(brackets[1:])
}

// firstNames gives the first names of an object in order, as many as can be shown.
func (b *budget) firstNames(object map[string]any) []string {
	var first []string
	for name := range object {
		b.step(8)
		at, _ := slices.BinarySearch(first, name)
		if at == maxExcerpt {
			continue
		}
		first = slices.Insert(first, at, name)[:min(len(first)+1, maxExcerpt)]
	}
	return first
}

func encoded(value any) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // the reader is a terminal
	if err := encoder.Encode(value); err != nil {
		return "a value that JSON does not know"
	}
	return strings.TrimSpace(text.String())
}

// chunk is how much of a string is encoded in one call, bytes.
const chunk = 64 << 10

// writeJSON writes a value as encoding/json does, under the budget.
func (b *budget) writeJSON(text *strings.Builder, value any) {
	b.grow(listBytes)
	switch v := value.(type) {
	case string:
		b.quote(text, v)
	case []any:
		text.WriteByte('[')
		for i, element := range v {
			if i > 0 {
				text.WriteByte(',')
			}
			b.writeJSON(text, element)
		}
		text.WriteByte(']')
	case map[string]any:
		text.WriteByte('{')
		for i, name := range b.names(v) {
			if i > 0 {
				text.WriteByte(',')
			}
			b.quote(text, name)
			text.WriteByte(':')
			b.writeJSON(text, v[name])
		}
		text.WriteByte('}')
	default:
		encoded, err := json.Marshal(v)
		if err != nil {
			refuse("%s cannot be written as JSON", b.shown(v))
		}
		text.Write(encoded)
	}
}

// quote writes a string as JSON, in chunks that end between two characters.
func (b *budget) quote(text *strings.Builder, s string) {
	text.WriteByte('"')
	for len(s) > 0 {
		n := min(len(s), chunk)
		for n > 0 && n < len(s) && !utf8.RuneStart(s[n]) && chunk-n < utf8.UTFMax {
			n--
		}
		b.grow(12 * n) // one character becomes up to six bytes, which are copied once
		piece, err := json.Marshal(s[:n])
		if err != nil {
			refuse("a text cannot be written as JSON")
		}
		text.Write(piece[1 : len(piece)-1])
		s = s[n:]
	}
	text.WriteByte('"')
}

// print writes a value as Kyverno's list operators compare it.
func (b *budget) print(text *strings.Builder, value any) {
	switch v := value.(type) {
	case string:
		b.grow(len(v))
		text.WriteString(v)
	case []any:
		b.grow(listBytes)
		text.WriteByte('[')
		for i, element := range v {
			if i > 0 {
				text.WriteByte(' ')
			}
			b.print(text, element)
		}
		text.WriteByte(']')
	case map[string]any:
		b.grow(mapBytes)
		text.WriteString("map[")
		for i, name := range b.names(v) {
			if i > 0 {
				text.WriteByte(' ')
			}
			b.grow(len(name))
			text.WriteString(name)
			text.WriteByte(':')
			b.print(text, v[name])
		}
		text.WriteByte(']')
	case float64:
		b.grow(listBytes)
		text.WriteString(digits(v))
	default:
		b.grow(listBytes)
		fmt.Fprint(text, v)
	}
}

// printed is print to a string.
func (b *budget) printed(value any) string {
	if text, ok := value.(string); ok {
		b.step(1)
		return text
	}
	var text strings.Builder
	b.print(&text, value)
	return text.String()
}

// digits formats a number, an integer without exponent.
func digits(n float64) string {
	if n == math.Trunc(n) && math.Abs(n) < 1<<63 {
		return strconv.FormatInt(int64(n), 10)
	}
	return fmt.Sprint(n)
}

// names gives an object's names, sorted.
func (b *budget) names(object map[string]any) []string {
	b.grow(len(object) * textBytes)
	names := make([]string, 0, len(object))
	for name := range object {
		b.step(4)
		names = append(names, name)
	}
	slices.SortFunc(names, func(x, y string) int {
		b.step(4 + min(len(x), len(y))/16)
		return strings.Compare(x, y)
	})
	return names
}

// mentions tells whether a value contains a text, in any of its strings or names.
func (b *budget) mentions(value any, text string) bool {
	b.step(1)
	switch v := value.(type) {
	case string:
		b.step(len(v) / 8)
		return strings.Contains(v, text)
	case []any:
		return lo.ContainsBy(v, func(element any) bool { return b.mentions(element, text) })
	case map[string]any:
		for name, member := range v {
			if b.mentions(name, text) || b.mentions(member, text) {
				return true
			}
		}
	}
	return false
}

// equal compares two values.
func (b *budget) equal(x, y any) bool {
	b.step(1)
	switch x := x.(type) {
	case string:
		y, ok := y.(string)
		return ok && b.same(x, y)
	case []any:
		y, ok := y.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !b.equal(x[i], y[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		y, ok := y.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for name, member := range x {
			other, ok := y[name]
			if b.step(4 + len(name)/16); !ok || !b.equal(member, other) {
				return false
			}
		}
		return true
	case float64, bool, nil:
		return x == y
	}
	return false
}

// same compares two strings.
func (b *budget) same(x, y string) bool {
	if len(x) != len(y) {
		b.step(1)
		return false
	}
	b.step(1 + len(x)/16)
	return x == y
}
