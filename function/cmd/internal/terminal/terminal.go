// Package terminal prints a verdict as one word, in colour if the output is a terminal.
package terminal

import (
	"io"
	"os"
)

// Colour is an escape sequence.
type Colour string

// Colours of verdicts.
const (
	Green  Colour = "\x1b[32m"
	Yellow Colour = "\x1b[33m"
	Red    Colour = "\x1b[31m"

	plain Colour = "\x1b[0m"
)

// Verdict is "verified" or "denied", in colour if w is a terminal.
func Verdict(w io.Writer, verified bool) string {
	if verified {
		return Paint(w, "verified", Green)
	}
	return Paint(w, "denied", Red)
}

// Paint colours a word that is written to w, if w is a terminal and NO_COLOR is not set.
func Paint(w io.Writer, word string, colour Colour) string {
	file, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" {
		return word
	}
	if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return word
	}
	return string(colour) + word + string(plain)
}
