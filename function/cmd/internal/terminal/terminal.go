// Package terminal prints a verdict as one word, in colour if the output is a terminal.
package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

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

// barWidth is the number of columns of a bar.
const barWidth = 24

// Progress gives a function that shows on w how many of all are done, as a bar on one line that goes away at the end. It shows nothing
// if w is not a terminal. The function may be called from several goroutines; what comes too late is not shown.
func Progress(w io.Writer, what string) func(done, all int) {
	if !isTerminal(w) {
		return func(int, int) {}
	}
	var mu sync.Mutex
	shown := 0
	return func(done, all int) {
		mu.Lock()
		defer mu.Unlock()
		if done < shown || shown == all {
			return
		}
		shown = done
		fmt.Fprint(w, "\r\x1b[K"+bar(done, all, what))
	}
}

// bar is like "[######------] 5 of 10 checked"; "" where all are done.
func bar(done, all int, what string) string {
	if done >= all {
		return ""
	}
	filled := barWidth * done / all
	return fmt.Sprintf("[%s%s] %d of %d %s", strings.Repeat("#", filled), strings.Repeat("-", barWidth-filled), done, all, what)
}
