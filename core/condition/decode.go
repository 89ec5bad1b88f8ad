package condition

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// maxDepth bounds the nesting of lists and objects in a document.
const maxDepth = 1000

// errSyntax is the error of a text that is not JSON. JSON that is refused has other errors.
type errSyntax struct{ text string }

func (e errSyntax) Error() string { return e.text }

// decoder decodes JSON under a budget. It gives the values that encoding/json gives, but refuses what parsers disagree on.
type decoder struct {
	data   []byte
	at     int
	depth  int
	budget *budget
	values []any             // elements of the unfinished lists and objects
	names  []string          // names of the members of the unfinished objects
	known  map[string]string // strings that were decoded, shared by those that repeat
}

// decodeDocument decodes a document, which may begin with a byte order mark.
func decodeDocument(data []byte, b *budget) (any, error) {
	return decode(bytes.TrimPrefix(data, []byte("\xEF\xBB\xBF")), b)
}

func decode(data []byte, b *budget) (any, error) {
	d := &decoder{data: data, budget: b, known: map[string]string{}}
	value, err := d.value()
	if err != nil {
		return nil, err
	}
	if d.space(); d.at < len(d.data) {
		return nil, d.syntax("after the value")
	}
	return value, nil
}

func (d *decoder) syntax(where string) error {
	if d.at >= len(d.data) {
		return errSyntax{"unexpected end of JSON input"}
	}
	r, _ := utf8.DecodeRune(d.data[d.at:])
	return errSyntax{fmt.Sprintf("invalid character %q %s", r, where)}
}

// space skips white space and gives the next byte; 0 at the end.
func (d *decoder) space() byte {
	from := d.at
	for d.at < len(d.data) {
		switch c := d.data[d.at]; c {
		case ' ', '\n', '\r', '\t':
			d.at++
			if d.at-from >= lookAt {
				d.budget.step(d.at - from)
				from = d.at
			}
		default:
			d.budget.step((d.at-from)/4 + 1)
			return c
		}
	}
	return 0
}

func (d *decoder) value() (any, error) {
	d.budget.step(8)
	switch c := d.space(); {
	case c == '{' || c == '[':
		if d.depth++; d.depth > maxDepth {
			return nil, fmt.Errorf("it nests lists and objects over a depth of %d", maxDepth)
		}
		d.at++
		value, err := d.composite(c)
		d.depth--
		return value, err
	case c == '"':
		text, err := d.text()
		d.budget.grow(textBytes)
		return text, err
	case c == '-' || c >= '0' && c <= '9':
		return d.number()
	case c == 't':
		return true, d.word("true")
	case c == 'f':
		return false, d.word("false")
	case c == 'n':
		return nil, d.word("null")
	}
	return nil, d.syntax("looking for beginning of value")
}

func (d *decoder) word(word string) error {
	for i := range len(word) {
		if d.at >= len(d.data) || d.data[d.at] != word[i] {
			return d.syntax("in literal " + word)
		}
		d.at++
	}
	return nil
}

// composite reads a list or an object after its opening bracket.
func (d *decoder) composite(open byte) (any, error) {
	object := open == '{'
	end := open + 2 // ']' and '}'
	values, names := len(d.values), len(d.names)
	defer func() { d.values, d.names = d.values[:values], d.names[:names] }()
	if d.space() == end {
		d.at++
		return d.made(object, nil, nil)
	}
	for {
		if object {
			name, err := d.name()
			if err != nil {
				return nil, err
			}
			d.names = push(d.budget, d.names, name)
		}
		value, err := d.value()
		if err != nil {
			return nil, err
		}
		d.values = push(d.budget, d.values, value)
		switch d.space() {
		case ',':
			d.at++
		case end:
			d.at++
			return d.made(object, d.names[names:], d.values[values:])
		default:
			return nil, d.syntax("after a list's element or an object's member")
		}
	}
}

// push appends to an unfinished list, and pays for copying it when it grows.
func push[T any](b *budget, list []T, element T) []T {
	if len(list) == cap(list) {
		b.list(2 * cap(list))
		list = slices.Grow(list, max(16, cap(list)))
	}
	return append(list, element)
}

func (d *decoder) made(object bool, names []string, values []any) (any, error) {
	if !object {
		d.budget.list(len(values))
		return append(make([]any, 0, len(values)), values...), nil
	}
	d.budget.object(len(names))
	made := make(map[string]any, len(names))
	for i, name := range names {
		d.budget.step(10)
		made[name] = values[i]
		if len(made) <= i {
			return nil, fmt.Errorf("an object names %q twice; attach a document that names it once", reason.Clip(name, maxShown))
		}
	}
	return made, nil
}

// maxKnown bounds the strings that are kept to be shared.
const maxKnown = 1024

func (d *decoder) name() (string, error) {
	if d.space() != '"' {
		return "", d.syntax("looking for beginning of object key string")
	}
	name, err := d.text()
	if err != nil {
		return "", err
	}
	if d.space() != ':' {
		return "", d.syntax("after object key")
	}
	d.at++
	return name, nil
}

// text reads a string.
func (d *decoder) text() (string, error) {
	from, plain := d.at+1, true
	paid := from
	for d.at++; ; d.at++ {
		if d.at >= len(d.data) {
			return "", d.syntax("")
		}
		switch c := d.data[d.at]; {
		case c == '"':
			raw := d.data[from:d.at]
			d.at++
			if !plain {
				return d.unquoted(d.data[from-1 : d.at])
			}
			return d.shared(raw), nil
		case c == '\\':
			plain = false
			d.at++
		case c < ' ':
			return "", d.syntax("in string literal")
		case c >= utf8.RuneSelf:
			if _, n := utf8.DecodeRune(d.data[d.at:]); n == 1 {
				return "", errors.New("it has bytes that are not UTF-8")
			} else {
				d.at += n - 1
			}
		}
		if d.at-paid >= lookAt {
			d.budget.step((d.at - paid) / 2)
			paid = d.at
		}
	}
}

// shared gives a string, and the same memory for one that was decoded before.
func (d *decoder) shared(raw []byte) string {
	if text, ok := d.known[string(raw)]; ok {
		return text
	}
	d.budget.grow(len(raw))
	d.budget.step(len(raw) % lookAt / 2)
	text := string(raw)
	if len(text) <= 32 && len(d.known) < maxKnown {
		d.known[text] = text
	}
	return text
}

// maxEscaped bounds a string with escapes, which is decoded in one call that cannot be interrupted; bytes.
const maxEscaped = 4 << 20

func (d *decoder) unquoted(quoted []byte) (string, error) {
	if len(quoted) > maxEscaped {
		return "", fmt.Errorf("it has a text with escapes of %d bytes; at most %d are read", len(quoted), maxEscaped)
	}
	d.budget.grow(2 * len(quoted))
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		return "", errSyntax{err.Error()}
	}
	return text, nil
}

// number reads a number by JSON's grammar.
func (d *decoder) number() (any, error) {
	from := d.at
	digits := func() bool {
		start := d.at
		for d.at < len(d.data) && d.data[d.at] >= '0' && d.data[d.at] <= '9' {
			d.at++
		}
		return d.at > start
	}
	is := func(any string) bool {
		if d.at < len(d.data) && bytes.IndexByte([]byte(any), d.data[d.at]) >= 0 {
			d.at++
			return true
		}
		return false
	}
	is("-")
	if !is("0") && !digits() || is(".") && !digits() {
		return nil, d.syntax("in numeric literal")
	}
	if is("eE") {
		if is("+-"); !digits() {
			return nil, d.syntax("in exponent of numeric literal")
		}
	}
	d.budget.grow(numberBytes)
	text := d.data[from:d.at]
	if len(text) > maxNumber {
		return nil, fmt.Errorf("it has a number of %d characters; at most %d are read", len(text), maxNumber)
	}
	number, err := strconv.ParseFloat(string(text), 64)
	if err != nil || math.IsInf(number, 0) {
		return nil, fmt.Errorf("its number %s is out of range", reason.Clip(string(text), maxShown))
	}
	return number, nil
}

// maxNumber bounds the characters of a number.
const maxNumber = 1000
