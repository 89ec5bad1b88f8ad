package record

import (
	"bytes"
	"slices"
)

// sorted is the canonical form of what encoding/json wrote, in one pass and with few allocations. It is not ok for what records
// do not have: names that are not plain ASCII, and numbers that are no short integers.
func sorted(text []byte) (canonical []byte, ok bool) {
	s := sorter{text: text, out: make([]byte, 0, len(text))}
	return s.out, s.value() && s.at == len(text)
}

// sorter copies a text value by value, and puts the members of objects in order.
type sorter struct {
	text, out []byte
	at        int
	swap      []byte // for the members of an object while they are put in order
}

// member is the place of an object's member in out.
type member struct{ from, nameTo, to int }

func (s *sorter) value() bool {
	if s.at >= len(s.text) {
		return false
	}
	switch c := s.text[s.at]; c {
	case '{':
		return s.object()
	case '[':
		return s.array()
	case '"':
		return s.string()
	default:
		from := s.at
		for s.at < len(s.text) && bytes.IndexByte([]byte(",]}"), s.text[s.at]) < 0 {
			s.at++
		}
		word := s.text[from:s.at]
		s.out = append(s.out, word...)
		const exact = 15 // digits
		return c == 't' || c == 'f' || c == 'n' || len(word) <= exact && len(bytes.Trim(word, "0123456789")) == 0
	}
}

func (s *sorter) array() bool {
	return s.list(']', func(int) bool { return s.value() })
}

// list copies what stands between brackets.
func (s *sorter) list(end byte, element func(i int) bool) bool {
	s.out = append(s.out, s.text[s.at])
	s.at++
	for i := 0; s.at < len(s.text); i++ {
		if s.text[s.at] == end {
			s.at++
			s.out = append(s.out, end)
			return true
		}
		if i > 0 {
			if s.text[s.at] != ',' {
				return false
			}
			s.at++
			s.out = append(s.out, ',')
		}
		if !element(i) {
			return false
		}
	}
	return false
}

func (s *sorter) object() bool {
	var members []member
	begin := len(s.out) + 1
	if !s.list('}', func(int) bool {
		m := member{from: len(s.out)}
		if !s.string() || s.at >= len(s.text) || s.text[s.at] != ':' {
			return false
		}
		m.nameTo = len(s.out)
		s.at++
		s.out = append(s.out, ':')
		if !s.value() {
			return false
		}
		m.to = len(s.out)
		members = append(members, m)
		return plainName(s.out[m.from:m.nameTo])
	}) {
		return false
	}
	name := func(m member) []byte { return s.out[m.from+1 : m.nameTo-1] }
	byName := func(a, b member) int { return bytes.Compare(name(a), name(b)) }
	if slices.IsSortedFunc(members, byName) {
		return true
	}
	slices.SortFunc(members, byName)
	s.swap = s.swap[:0]
	for i, m := range members {
		if i > 0 {
			s.swap = append(s.swap, ',')
		}
		s.swap = append(s.swap, s.out[m.from:m.to]...)
	}
	copy(s.out[begin:], s.swap)
	return true
}

// plainName tells whether the order of a name's bytes is that of its UTF-16.
func plainName(quoted []byte) bool {
	return !bytes.ContainsFunc(quoted, func(r rune) bool { return r < ' ' || r > '~' || r == '\\' })
}

// string copies a string. encoding/json escapes what canonical JSON does, and two separators and what is not UTF-8 beside.
func (s *sorter) string() bool {
	if s.at >= len(s.text) || s.text[s.at] != '"' {
		return false
	}
	from := s.at
	for s.at++; s.at < len(s.text); s.at++ {
		switch s.text[s.at] {
		case '"':
			s.at++
			s.out = append(s.out, s.text[from:s.at]...)
			return true
		case '\\':
			for escape, raw := range map[string]string{`\u2028`: "\u2028", `\u2029`: "\u2029", `\ufffd`: "\ufffd"} {
				if bytes.HasPrefix(s.text[s.at:], []byte(escape)) {
					s.out = append(append(s.out, s.text[from:s.at]...), raw...)
					s.at += len(escape) - 2
					from = s.at + 2
					break
				}
			}
			s.at++
		}
	}
	return false
}
