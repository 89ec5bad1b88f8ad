package core

import (
	"bytes"
	"encoding/json"
	"math"
)

// document is a JSON text and the positions of its values, which are found in one pass without copying. Strings are
// decoded only when they are asked for.
type document struct {
	text  []byte
	nodes []node // in the order of the text: a list or an object is followed by its elements or members
}

// node is the position of a value in the text. Objects have many, so its indices are of 32 bits.
type node struct {
	key      key   // of a member; zero for a value that is not a member
	from, to int32 // start and end of the value, with its brackets or quotation marks
	next     int32 // index in nodes of the value after this one and everything inside it
	kind     byte  // '{', '[', '"', '0' for a number, and 't', 'f' or 'n'
	escaped  bool  // whether a string has escapes
}

// key is the position of a member's name in the text.
type key struct {
	from    int32 // index of its first byte, after its quotation mark
	size    int16 // bytes, at most maxKey
	escaped bool  // whether it has escapes
}

// value is a value of a document. The zero value is no value.
type value struct {
	*document
	at int
}

// readDocument reads a JSON text. valid is whether it follows JSON's grammar and is within the bounds of boundShape. plain is
// whether it needs no further checks: no object has a name twice, no name has escapes, and every number is surely in range.
func readDocument(text []byte) (root value, valid, plain bool) {
	const eachNode, most = 12, 1024 // bytes of text, as pods with many environment variables have them; nodes
	r := &reader{document: document{text: text, nodes: make([]node, 0, min(2+len(text)/eachNode, most))}, plain: true}
	valid = len(text) <= math.MaxInt32 && r.value(0, key{}) && r.space() == 0 && r.at == len(text)
	return value{&r.document, 0}, valid, r.plain
}

// reader reads a document. Its methods return false if the text is not JSON or exceeds a bound.
type reader struct {
	document
	at    int
	shape int // number of lists, objects and commas so far, at most maxShape
	plain bool
}

// space skips white space, and returns the byte after it without reading it; 0 at the end.
func (r *reader) space() byte {
	for ; r.at < len(r.text); r.at++ {
		if c := r.text[r.at]; c > ' ' || c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			return c
		}
	}
	return 0
}

// value reads a value, which has a name where it is a member of an object.
func (r *reader) value(depth int, name key) bool {
	kind := r.space()
	i := len(r.nodes)
	r.nodes = append(r.nodes, node{key: name, from: int32(r.at), kind: kind})
	var ok bool
	switch kind {
	case '{', '[':
		r.shape++
		r.at++
		ok = depth < maxDepth && r.shape <= maxShape && r.members(i, depth+1)
	case '"':
		var escaped bool
		escaped, ok = r.string()
		r.nodes[i].escaped = escaped
	case 't':
		ok = r.word("true")
	case 'f':
		ok = r.word("false")
	case 'n':
		ok = r.word("null")
	default:
		r.nodes[i].kind, ok = '0', r.number()
	}
	r.nodes[i].to, r.nodes[i].next = int32(r.at), int32(len(r.nodes))
	return ok
}

// members reads the elements of a list or the members of an object, and its closing bracket.
func (r *reader) members(parent, depth int) bool {
	object := r.nodes[parent].kind == '{'
	end := r.nodes[parent].kind + 2 // ']' and '}'
	if r.space() == end {
		r.at++
		return true
	}
	for n := 0; ; n++ {
		var name key
		ok := true
		if object {
			name, ok = r.key()
		}
		if !ok || !r.value(depth, name) {
			return false
		}
		switch r.space() {
		case ',':
			r.at++
			if r.shape++; r.shape > maxShape {
				return false
			}
		case end:
			r.at++
			if object && n > 0 {
				r.plain = r.plain && r.distinct(parent)
			}
			return true
		default:
			return false
		}
	}
}

// key reads a member's name and the colon after it.
func (r *reader) key() (name key, ok bool) {
	if r.space() != '"' {
		return key{}, false
	}
	from := r.at + 1
	escaped, ok := r.string()
	size := r.at - 1 - from
	if !ok || size > maxKey || r.space() != ':' {
		return key{}, false
	}
	r.at++
	r.plain = r.plain && !escaped
	return key{int32(from), int16(size), escaped}, true
}

// string skips a string. The caller has checked that the document is UTF-8.
func (r *reader) string() (escaped, ok bool) {
	for r.at++; ; r.at++ {
		rest := r.text[r.at:]
		usual := 0 // bytes that stand for themselves
		for usual < len(rest) && rest[usual] >= ' ' && rest[usual] != '"' && rest[usual] != '\\' {
			usual++
		}
		r.at += usual
		switch {
		case usual == len(rest) || rest[usual] < ' ':
			return false, false
		case rest[usual] == '"':
			r.at++
			return escaped, true
		}
		escaped = true
		if r.at++; !r.escape() {
			return false, false
		}
	}
}

// escape checks the part of an escape after its backslash, and moves to its last byte.
func (r *reader) escape() bool {
	if r.at >= len(r.text) {
		return false
	}
	if r.text[r.at] != 'u' {
		return bytes.IndexByte([]byte(`"\/bfnrt`), r.text[r.at]) >= 0
	}
	for range 4 {
		if r.at++; r.at >= len(r.text) || bytes.IndexByte([]byte("0123456789abcdefABCDEF"), r.text[r.at]) < 0 {
			return false
		}
	}
	return true
}

func (r *reader) word(word string) bool {
	if len(r.text)-r.at < len(word) || string(r.text[r.at:r.at+len(word)]) != word {
		return false
	}
	r.at += len(word)
	return true
}

// usualNumber is a length up to which a number without an exponent is surely in the range of float64; bytes.
const usualNumber = 100

// number skips a number.
func (r *reader) number() bool {
	from := r.at
	r.next("-")
	if !r.next("0") && !r.digits() || r.next(".") && !r.digits() {
		return false
	}
	if r.next("eE") {
		r.next("+-")
		r.plain = false
		return r.digits()
	}
	r.plain = r.plain && r.at-from <= usualNumber
	return true
}

// next skips one byte if it is one of those in among.
func (r *reader) next(among string) bool {
	if r.at < len(r.text) && bytes.IndexByte([]byte(among), r.text[r.at]) >= 0 {
		r.at++
		return true
	}
	return false
}

func (r *reader) digits() bool {
	from := r.at
	for r.at < len(r.text) && '0' <= r.text[r.at] && r.text[r.at] <= '9' {
		r.at++
	}
	return r.at > from
}

// fewMembers is a number of names up to which comparing each with each is faster than a set.
const fewMembers = 16

// distinct is true if no two members of an object have the same name.
func (r *reader) distinct(object int) bool {
	var seen map[string]bool
	n := 0
	for i := object + 1; i < len(r.nodes); i = int(r.nodes[i].next) {
		name := r.rawName(i)
		if n++; n > fewMembers {
			if seen == nil {
				seen = map[string]bool{}
				for j := object + 1; j < i; j = int(r.nodes[j].next) {
					seen[string(r.rawName(j))] = true
				}
			}
			if seen[string(name)] {
				return false
			}
			seen[string(name)] = true
			continue
		}
		for j := object + 1; j < i; j = int(r.nodes[j].next) {
			if bytes.Equal(name, r.rawName(j)) {
				return false
			}
		}
	}
	return true
}

// rawName is a member's name as it is written, with its escapes.
func (d *document) rawName(i int) []byte {
	name := d.nodes[i].key
	return d.text[name.from:][:name.size]
}

func (v value) kind() byte { return v.nodes[v.at].kind }

// raw is the JSON text of the value.
func (v value) raw() []byte { return v.text[v.nodes[v.at].from:v.nodes[v.at].to] }

// name is the decoded name of a member.
func (v value) name() []byte {
	name := v.nodes[v.at].key
	if !name.escaped {
		return v.rawName(v.at)
	}
	return []byte(unquoted(v.text[name.from-1:][:name.size+2]))
}

// string is the decoded string; "" for a value of another kind, and for no value.
func (v value) string() string {
	if v.document == nil || v.kind() != '"' {
		return ""
	}
	switch raw := v.raw(); {
	case v.nodes[v.at].escaped:
		return unquoted(raw)
	default:
		return string(raw[1 : len(raw)-1])
	}
}

func unquoted(quoted []byte) (text string) {
	_ = json.Unmarshal(quoted, &text) // never an error, since the reader checked its grammar
	return text
}

// nests is true for lists and objects; other values cannot contain a pod template.
func (v value) nests() bool { return v.kind() == '{' || v.kind() == '[' }

// all iterates over the members of an object or the elements of a list, with their indices.
func (v value) all() func(yield func(int, value) bool) {
	return func(yield func(int, value) bool) {
		if v.document == nil || !v.nests() {
			return
		}
		for i, at := 0, v.at+1; at < int(v.nodes[v.at].next); i, at = i+1, int(v.nodes[at].next) {
			if !yield(i, value{v.document, at}) {
				return
			}
		}
	}
}

// member finds a member of an object by its name; false if there is none, or the value is not an object.
func (v value) member(name string) (value, bool) {
	if v.kind() == '{' {
		for _, member := range v.all() {
			if string(member.name()) == name {
				return member, true
			}
		}
	}
	return value{}, false
}
