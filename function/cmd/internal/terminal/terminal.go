// Package terminal prints a verdict as one word, in colour if the output is a terminal.
package terminal

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
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
	if !isTerminal(w) || os.Getenv("NO_COLOR") != "" {
		return word
	}
	return string(colour) + word + string(plain)
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// Width is the number of columns of the terminal that w is, at least 40; otherwise where w is none.
func Width(w io.Writer, otherwise int) int {
	if file, ok := w.(*os.File); ok {
		if columns, _, err := term.GetSize(int(file.Fd())); err == nil {
			return max(40, columns)
		}
	}
	return otherwise
}

// Progress gives a function that shows on w how many of all are done, on one line that goes away at the end. It shows nothing
// if w is not a terminal.
func Progress(w io.Writer, what string) func(done, all int) {
	if !isTerminal(w) {
		return func(int, int) {}
	}
	return func(done, all int) {
		if done < all {
			fmt.Fprintf(w, "\r\x1b[K%d of %d %s", done, all, what)
			return
		}
		fmt.Fprint(w, "\r\x1b[K")
	}
}
