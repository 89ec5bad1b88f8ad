package notation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// maxDepth bounds how deep a document is nested; a trust policy document has 5 levels.
const maxDepth = 20

// value is a JSON value with the line on which it ends, or begins where it is an object or a list.
type value struct {
	line   int
	scalar json.Token // of anything but an object and a list
	fields []field    // of an object, in order
	items  []value    // of a list
	kind   json.Delim // '{', '[', or 0 for a scalar
}

// field is a field of an object.
type field struct {
	name string
	line int
	value
}

// document reads one file, and collects what is wrong with it.
type document struct {
	file     string
	data     []byte
	decoder  *json.Decoder
	problems Errors
}

// parse reads a JSON document that has nothing behind it. It gives false where it is none.
func parse(file string, data []byte) (*document, value, bool) {
	d := &document{file: file, data: data, decoder: json.NewDecoder(bytes.NewReader(data))}
	d.decoder.UseNumber()
	if !utf8.Valid(data) {
		d.fail(0, "it is no UTF-8")
		return d, value{}, false
	}
	root, err := d.read(0)
	if err == nil {
		if _, more := d.decoder.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more behind the document")
		}
	}
	if err != nil {
		d.fail(d.line(), "it is no JSON: %s", reason.Clip(err.Error(), reason.MaxName))
	}
	return d, root, err == nil
}

// line is that of the token that was read last.
func (d *document) line() int {
	return 1 + bytes.Count(d.data[:d.decoder.InputOffset()], []byte("\n"))
}

func (d *document) fail(line int, format string, args ...any) {
	d.problems = append(d.problems, Problem{d.file, line, fmt.Sprintf(format, args...)})
}

func (d *document) read(depth int) (value, error) {
	if depth > maxDepth {
		return value{}, fmt.Errorf("it is nested deeper than %d levels", maxDepth)
	}
	token, err := d.decoder.Token()
	if err != nil {
		return value{}, err
	}
	v := value{line: d.line(), scalar: token}
	opened, ok := token.(json.Delim)
	if !ok {
		return v, nil
	}
	v.kind = opened
	seen := map[string]bool{}
	for d.decoder.More() {
		var name string
		if opened == '{' {
			key, err := d.decoder.Token()
			if err != nil {
				return v, err
			}
			name, _ = key.(string) // what stands before a colon is nothing else
			if seen[name] {
				d.fail(d.line(), "the field %q stands twice", reason.Clip(name, reason.MaxName))
			}
			seen[name] = true
		}
		line := d.line()
		below, err := d.read(depth + 1)
		if err != nil {
			return v, err
		}
		if opened == '{' {
			v.fields = append(v.fields, field{name, line, below})
		} else {
			v.items = append(v.items, below)
		}
	}
	_, err = d.decoder.Token()
	return v, err
}

// object hands each field of an object to what reads it. Others are problems.
func (d *document) object(v value, name string, known map[string]func(value)) {
	if v.kind != '{' {
		d.fail(v.line, "%s is no object", name)
		return
	}
	for _, f := range v.fields {
		if read := known[f.name]; read != nil {
			read(f.value)
		} else {
			d.fail(f.line, "%s has the field %q, which cannot be carried over", name, reason.Clip(f.name, reason.MaxName))
		}
	}
}

// text gives a string.
func (d *document) text(v value, name string) string {
	text, ok := v.scalar.(string)
	if !ok {
		d.fail(v.line, "%s is no string", name)
	}
	return text
}

// list gives the elements of a list; none of null, as encoding/json reads it.
func (d *document) list(v value, name string) []value {
	if v.kind != '[' && (v.kind != 0 || v.scalar != nil) {
		d.fail(v.line, "%s is no list", name)
	}
	return v.items
}

func (d *document) texts(v value, name string) (texts []string) {
	for i, item := range d.list(v, name) {
		texts = append(texts, d.text(item, fmt.Sprintf("%s[%d]", name, i)))
	}
	return texts
}
