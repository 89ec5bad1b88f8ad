package ledger

import "bytes"

// maxDepth is how deep [compactObject] looks. Records are not as deep.
const maxDepth = 100

// compactObject tells whether a text is one JSON object without a space between its tokens, so that it can stand in a line as it
// is. It says no to what is deeper than maxDepth.
func compactObject(text []byte) bool {
	for _, c := range text {
		if c < ' ' { // neither in a string nor, but for spaces, between tokens
			return false
		}
	}
	if len(text) == 0 || text[0] != '{' {
		return false
	}
	rest, ok := skipValue(text, maxDepth)
	return ok && len(rest) == 0
}

// skipValue gives what comes after the value at the beginning of a text (RFC 8259). The same holds for the others.
func skipValue(text []byte, depth int) (rest []byte, ok bool) {
	if len(text) == 0 || depth == 0 {
		return nil, false
	}
	switch text[0] {
	case '{':
		return skipList(text, '}', depth-1)
	case '[':
		return skipList(text, ']', depth-1)
	case '"':
		return skipString(text)
	}
	for _, word := range []string{"true", "false", "null"} {
		if len(text) >= len(word) && string(text[:len(word)]) == word {
			return text[len(word):], true
		}
	}
	return skipNumber(text)
}

// skipList skips an object or an array, by what it ends with.
func skipList(text []byte, end byte, depth int) (rest []byte, ok bool) {
	if text = text[1:]; len(text) > 0 && text[0] == end {
		return text[1:], true
	}
	for {
		if end == '}' {
			if text, ok = skipString(text); !ok || len(text) == 0 || text[0] != ':' {
				return nil, false
			}
			text = text[1:]
		}
		if text, ok = skipValue(text, depth); !ok || len(text) == 0 {
			return nil, false
		}
		next := text[0]
		text = text[1:]
		switch next {
		case end:
			return text, true
		case ',':
		default:
			return nil, false
		}
	}
}

// skipString skips a string of a text without control characters. It looks at each byte once, however many are escaped.
func skipString(text []byte) (rest []byte, ok bool) {
	if len(text) == 0 || text[0] != '"' {
		return nil, false
	}
	text = text[1:]
	for end := bytes.IndexByte(text, '"'); end >= 0; {
		escape := bytes.IndexByte(text[:end], '\\')
		if escape < 0 {
			return text[end+1:], true
		}
		rest, ok := skipEscape(text[escape+1:])
		if !ok {
			return nil, false
		}
		if end -= len(text) - len(rest); end < 0 { // the quote is escaped
			end = bytes.IndexByte(rest, '"')
		}
		text = rest
	}
	return nil, false
}

// skipEscape skips what follows a backslash in a string, which has an end.
func skipEscape(text []byte) (rest []byte, ok bool) {
	switch text[0] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return text[1:], true
	case 'u':
		const digits = 4
		return text[min(len(text), 1+digits):], len(text) > digits && bytes.IndexFunc(text[1:1+digits], func(r rune) bool { return r > 'f' || !isHexDigit(byte(r)) }) < 0
	}
	return nil, false
}

func isHexDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// skipNumber knows the numbers that records have: whole ones.
func skipNumber(text []byte) (rest []byte, ok bool) {
	n := 0
	for n < len(text) && '0' <= text[n] && text[n] <= '9' {
		n++
	}
	if n == 0 || n > 1 && text[0] == '0' || n < len(text) && (text[n] == '.' || text[n] == 'e' || text[n] == 'E') {
		return nil, false
	}
	return text[n:], true
}
