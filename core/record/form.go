package record

import (
	"cmp"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// form appends a value of one type to a text, as canonical JSON. It is not ok for a value that it does not know how to write, of
// which package encoding/json is left to tell the form, or that there is none.
//
// Forms are made from types, once, and follow the tags of package encoding/json. Canonical JSON comes out of them in one pass,
// since the order of a struct's members is known beforehand.
type form func(text []byte, v reflect.Value) (_ []byte, ok bool)

// formOfRecord is the form of a Record.
var formOfRecord = formOf(reflect.TypeFor[Record](), maxTypes)

// maxTypes is how deep types may stand in each other.
const maxTypes = 32

var (
	typeTime      = reflect.TypeFor[time.Time]()
	marshaler     = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
	zeroer        = reflect.TypeFor[interface{ IsZero() bool }]()
)

// unknown is the form of types that records do not have.
func unknown(text []byte, _ reflect.Value) ([]byte, bool) { return text, false }

// formOf gives the form of a type.
func formOf(t reflect.Type, depth int) form {
	pointer := reflect.PointerTo(t)
	switch kind := t.Kind(); {
	case depth == 0:
		return unknown
	case kind == reflect.Pointer:
		return pointed(formOf(t.Elem(), depth-1))
	case t == typeTime:
		return appendTime
	case pointer.Implements(marshaler):
		return unknown
	case pointer.Implements(textMarshaler):
		return appendMarshaled
	case kind == reflect.Struct:
		return structure(t, depth-1)
	case kind == reflect.Map && t.Key().Kind() == reflect.String && !t.Key().Implements(textMarshaler):
		return mapping(formOf(t.Elem(), depth-1))
	case kind == reflect.Slice && t.Elem() == reflect.TypeFor[byte]():
		return appendBytes
	case kind == reflect.Slice:
		return listed(formOf(t.Elem(), depth-1))
	case kind == reflect.String:
		return func(text []byte, v reflect.Value) ([]byte, bool) { return appendString(text, v.String()) }
	case kind == reflect.Bool:
		return func(text []byte, v reflect.Value) ([]byte, bool) { return strconv.AppendBool(text, v.Bool()), true }
	case kind >= reflect.Int && kind <= reflect.Int64:
		return appendInt
	}
	return unknown
}

func pointed(of form) form {
	return func(text []byte, v reflect.Value) ([]byte, bool) {
		if v.IsNil() {
			return append(text, "null"...), true
		}
		return of(text, v.Elem())
	}
}

func listed(each form) form {
	return func(text []byte, v reflect.Value) (_ []byte, ok bool) {
		if v.IsNil() {
			return append(text, "null"...), true
		}
		text = append(text, '[')
		for i := range v.Len() {
			if i > 0 {
				text = append(text, ',')
			}
			if text, ok = each(text, v.Index(i)); !ok {
				return text, false
			}
		}
		return append(text, ']'), true
	}
}

func mapping(each form) form {
	return func(text []byte, v reflect.Value) (_ []byte, ok bool) {
		if v.IsNil() {
			return append(text, "null"...), true
		}
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		text = append(text, '{')
		for i, key := range keys {
			if i > 0 {
				text = append(text, ',')
			}
			if !plainName(key.String()) {
				return text, false
			}
			text = append(append(append(text, '"'), key.String()...), `":`...)
			if text, ok = each(text, v.MapIndex(key)); !ok {
				return text, false
			}
		}
		return append(text, '}'), true
	}
}

// plainName tells whether a name needs no escape, and whether the order of its bytes is that of its UTF-16.
func plainName(name string) bool {
	for i := range len(name) {
		if c := name[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// field is a field of a struct.
type field struct {
	name   string
	prefix string // its name in JSON, and a colon
	index  []int
	omit   func(reflect.Value) bool // nil where it is always there
	form   form
}

// structure is the form of a struct.
func structure(t reflect.Type, depth int) form {
	fields := fieldsOf(t, nil, depth)
	slices.SortFunc(fields, func(a, b field) int { return cmp.Compare(a.name, b.name) })
	for i, f := range fields {
		if i > 0 && fields[i-1].name == f.name { // an embedded struct has the name too
			return unknown
		}
	}
	return func(text []byte, v reflect.Value) (_ []byte, ok bool) {
		text = append(text, '{')
		first := true
		for i := range fields {
			f := &fields[i]
			member := v.Field(f.index[0])
			for _, j := range f.index[1:] {
				member = member.Field(j)
			}
			if f.omit != nil && f.omit(member) {
				continue
			}
			if !first {
				text = append(text, ',')
			}
			first = false
			if text, ok = f.form(append(text, f.prefix...), member); !ok {
				return text, false
			}
		}
		return append(text, '}'), true
	}
}

// fieldsOf gives the fields of a struct, with those of structs that it embeds.
func fieldsOf(t reflect.Type, outer []int, depth int) (fields []field) {
	for i := range t.NumField() {
		f := t.Field(i)
		index := append(slices.Clone(outer), i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Tag.Get("json") == "-":
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			fields = append(fields, fieldsOf(f.Type, index, depth)...)
		case f.IsExported():
			fields = append(fields, fieldOf(f, cmp.Or(name, f.Name), strings.Split(options, ","), index, depth))
		}
	}
	return fields
}

func fieldOf(f reflect.StructField, name string, options []string, index []int, depth int) field {
	made := field{name: name, prefix: `"` + name + `":`, index: index, form: formOf(f.Type, depth)}
	if !plainName(name) || f.Anonymous {
		made.form = unknown
	}
	for _, option := range options {
		switch {
		case option == "omitempty":
			made.omit = isEmpty
		case option == "omitzero" && f.Type == typeTime:
			made.omit = func(v reflect.Value) bool { return timeIn(v).IsZero() }
		case option == "omitzero" && reflect.PointerTo(f.Type).Implements(zeroer):
			made.form = unknown
		case option == "omitzero":
			made.omit = reflect.Value.IsZero
		case option == "string" && f.Type.Kind() >= reflect.Int && f.Type.Kind() <= reflect.Int64:
			made.form = appendQuotedInt
		case option != "":
			made.form = unknown
		}
	}
	return made
}

// isEmpty is what omitempty leaves out.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.String, reflect.Array:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// exactInt bounds the integers that every reader of JSON takes as they are, and which are the same in canonical JSON.
const exactInt = 1e15

func appendInt(text []byte, v reflect.Value) ([]byte, bool) {
	n := v.Int()
	return strconv.AppendInt(text, n, 10), -exactInt < n && n < exactInt
}

func appendQuotedInt(text []byte, v reflect.Value) ([]byte, bool) {
	return append(strconv.AppendInt(append(text, '"'), v.Int(), 10), '"'), true
}

func appendBytes(text []byte, v reflect.Value) ([]byte, bool) {
	if v.IsNil() {
		return append(text, "null"...), true
	}
	return append(base64.StdEncoding.AppendEncode(append(text, '"'), v.Bytes()), '"'), true
}

func timeIn(v reflect.Value) time.Time {
	if v.CanAddr() { // which needs no copy on the heap
		return *v.Addr().Interface().(*time.Time)
	}
	return v.Interface().(time.Time)
}

func appendTime(text []byte, v reflect.Value) ([]byte, bool) {
	text, err := timeIn(v).AppendText(append(text, '"'))
	return append(text, '"'), err == nil
}

func appendMarshaled(text []byte, v reflect.Value) ([]byte, bool) {
	var value any
	if v.CanAddr() {
		value = v.Addr().Interface()
	} else {
		value = v.Interface()
	}
	marshals, ok := value.(encoding.TextMarshaler)
	if !ok {
		return text, false
	}
	written, err := marshals.MarshalText()
	if err != nil {
		return text, false
	}
	return appendString(text, string(written))
}

// appendString appends a string (RFC 8785, section 3.2.2.2). It is not ok for what is not UTF-8.
func appendString(text []byte, s string) (_ []byte, ok bool) {
	text = append(text, '"')
	from, ascii := 0, true
	for i := range len(s) {
		c := s[i]
		if c >= utf8.RuneSelf {
			ascii = false
		}
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		text = appendEscape(append(text, s[from:i]...), c)
		from = i + 1
	}
	return append(append(text, s[from:]...), '"'), ascii || utf8.ValidString(s)
}

func appendEscape(text []byte, c byte) []byte {
	const hexDigits = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(text, '\\', c)
	case '\b':
		return append(text, `\b`...)
	case '\t':
		return append(text, `\t`...)
	case '\n':
		return append(text, `\n`...)
	case '\f':
		return append(text, `\f`...)
	case '\r':
		return append(text, `\r`...)
	}
	return append(text, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}
