package migrate

import (
	"fmt"
	"strings"
	"unicode"
)

// literal writes text as a string literal of CEL.
func literal(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == ' ' || unicode.IsGraphic(r) && !unicode.Is(unicode.Z, r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// literals writes texts as a list of CEL.
func literals(texts []string) string {
	written := make([]string, len(texts))
	for i, text := range texts {
		written[i] = literal(text)
	}
	return "[" + strings.Join(written, ", ") + "]"
}

// The operators of CEL, from the loosest to the tightest.
const (
	conditional = iota
	or
	and
	relation
	atom
)

// cel is an expression of CEL.
type cel struct {
	text    string
	binds   int  // how tightly its outermost operator binds
	negates *cel // of a negation: what is negated
}

// within gives the text of an expression for use beside an operator.
func (c cel) within(operator int) string {
	if c.binds < operator || c.binds == operator && operator == relation {
		return "(" + c.text + ")"
	}
	return c.text
}

var (
	always = cel{text: "true", binds: atom}
	never  = cel{text: "false", binds: atom}
)

// maxLine is where an expression is broken; bytes.
const maxLine = 125

// all is true where all of the expressions are.
func all(parts ...cel) cel { return chain(parts, and, "&&", always, never) }

// anyOf is true where one of the expressions is.
func anyOf(parts ...cel) cel { return chain(parts, or, "||", never, always) }

func chain(parts []cel, operator int, sign string, neutral, absorbing cel) cel {
	var texts []string
	seen := map[string]bool{}
	for _, part := range parts {
		if part == absorbing {
			return absorbing
		}
		if part != neutral && !seen[part.text] {
			texts = append(texts, part.within(operator))
		}
		seen[part.text] = true
	}
	switch len(texts) {
	case 0:
		return neutral
	case 1:
		for _, part := range parts {
			if part != neutral {
				return part
			}
		}
	}
	text := strings.Join(texts, " "+sign+" ")
	if len(text) > maxLine {
		text = strings.Join(texts, "\n"+sign+" ")
	}
	return cel{text: text, binds: operator}
}

// not negates an expression.
func not(c cel) cel {
	switch {
	case c == always:
		return never
	case c == never:
		return always
	case c.negates != nil:
		return *c.negates
	case c.binds == atom:
		return cel{"!" + c.text, atom, &c}
	}
	return cel{"!(" + c.text + ")", atom, &c}
}

func compare(left, sign, right string) cel {
	return cel{text: left + " " + sign + " " + right, binds: relation}
}

// called is an expression that needs no parentheses.
func called(text string) cel { return cel{text: text, binds: atom} }
