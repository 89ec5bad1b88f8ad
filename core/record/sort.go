package record

import (
	"bytes"
	"slices"
)

// sorter copies a text value by value, and puts the members of objects in order.
type sorter struct {
	text, out []byte
	at        int
	members   []member // of the objects that are not closed, the outer ones first
	swap      []byte   // for the members of an object while they are put in order
}

// sorted is the canonical form of what encoding/json wrote, in one pass and until the next call. It is not ok for what records do
// not have: names that are not plain ASCII, and numbers that are no short integers.
func (s *sorter) sorted(text []byte) (canonical []byte, ok bool) {
	s.text, s.at, s.out, s.members = text, 0, s.out[:0], s.members[:0]
	ok = s.value() && s.at == len(text)
	s.text = nil
	return s.out, ok && len(s.out) > 0
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
	return s.list(']', s.value)
}

// list copies what stands between brackets.
func (s *sorter) list(end byte, element func() bool) bool {
	s.out = append(s.out, s.text[s.at])
	s.at++
	for first := true; s.at < len(s.text); first = false {
		if s.text[s.at] == end {
			s.at++
			s.out = append(s.out, end)
			return true
		}
		if !first {
			if s.text[s.at] != ',' {
				return false
			}
			s.at++
			s.out = append(s.out, ',')
		}
		if !element() {
			return false
		}
	}
	return false
}

func (s *sorter) object() bool {
	outer, begin := len(s.members), len(s.out)+1
	if !s.list('}', s.member) {
		return false
	}
	members := s.members[outer:]
	s.members = s.members[:outer]
	byName := func(a, b member) int { return bytes.Compare(s.out[a.from+1:a.nameTo-1], s.out[b.from+1:b.nameTo-1]) }
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

// member copies a name with its value.
func (s *sorter) member() bool {
	m := member{from: len(s.out)}
	if !s.string() || s.at >= len(s.text) || s.text[s.at] != ':' {
		return false
	}
	m.nameTo = len(s.out)
	s.at++
	s.out = append(s.out, ':')
	if !plainName(s.out[m.from:m.nameTo]) || !s.value() {
		return false
	}
	m.to = len(s.out)
	s.members = append(s.members, m)
	return true
}

// plainName tells whether the order of a name's bytes is that of its UTF-16.
func plainName(quoted []byte) bool {
	for _, c := range quoted {
		if c < ' ' || c > '~' || c == '\\' {
			return false
		}
	}
	return true
}

// escapes are those that encoding/json writes and canonical JSON does not.
var escapes = []struct{ escape, raw string }{{`\u2028`, "\u2028"}, {`\u2029`, "\u2029"}, {`\ufffd`, "\ufffd"}}

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
			for _, e := range escapes {
				if bytes.HasPrefix(s.text[s.at:], []byte(e.escape)) {
					s.out = append(append(s.out, s.text[from:s.at]...), e.raw...)
					s.at += len(e.escape) - 2
					from = s.at + 2
					break
				}
			}
			s.at++
		}
	}
	return false
}
