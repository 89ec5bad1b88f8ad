package migrate

import (
	"fmt"
	"strings"
	"unicode"
)

// Error says what in a manifest cannot be carried over.
type Error struct {
	Line  int    // from 1; 0 where the parser gives none
	Field string // such as spec.rules[0].match; "" for a document as a whole
	Text  string // what is wrong and what to do
}

// Error is one sentence with the line and the field.
func (e *Error) Error() string {
	text := e.Text
	if e.Field != "" {
		text = e.Field + ": " + text
	}
	if e.Line > 0 {
		text = fmt.Sprintf("line %d: %s", e.Line, text)
	}
	return text
}

// Errors are all that was found, in the order of reading; never empty.
type Errors []*Error

// Error has one line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, each := range e {
		lines[i] = each.Error()
	}
	return strings.Join(lines, "\n")
}

// maxErrors is how many errors are told; after them reading goes on in silence.
const maxErrors = 50

// problems collects errors.
type problems struct{ found Errors }

func (p *problems) add(line int, field, format string, args ...any) {
	if len(p.found) < maxErrors {
		p.found = append(p.found, &Error{Line: line, Field: visible(clip(field)), Text: visible(fmt.Sprintf(format, args...))})
	}
}

// visible replaces what could disturb a terminal.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// clip bounds text of the manifest in an error.
func clip(text string) string {
	const most = 200 // bytes
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// quoted is clip in quotes, with what could disturb a terminal escaped.
func quoted(text string) string { return fmt.Sprintf("%+q", clip(text)) }
