package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/nirmata/kyverno-notation-venafi/function/cmd/internal/terminal"
)

// cell is a field of a table. Whatever is in it, it cannot move the terminal's cursor.
type cell struct {
	text   string
	colour terminal.Colour // "" for none
}

// cells are plain fields.
func cells(texts ...string) []cell {
	row := make([]cell, len(texts))
	for i, text := range texts {
		row[i].text = text
	}
	return row
}

// Bounds on the layout of a table.
const (
	columnGap   = 2
	leastColumn = 8 // columns of the terminal that a column of the table keeps, if it had as many
)

// table is a table for a person. The zero value is as wide as what is in it.
type table struct {
	width int // columns of the terminal; 0 for no bound
}

// tableFor gives a table that fits w, if w is a terminal and not everything is to be shown.
func tableFor(w io.Writer, wide bool) table {
	if wide {
		return table{}
	}
	return table{terminal.Width(w, 0)}
}

// print writes rows, the first of which is the header. Where they do not fit, the widest columns are cut.
func (t table) print(w io.Writer, rows [][]cell) error {
	out := bufio.NewWriter(w)
	for _, row := range rows {
		for i := range row {
			row[i].text = plain(row[i].text)
		}
	}
	widths := t.widths(rows)
	for _, row := range rows {
		for i, field := range row {
			text := shorten(field.text, widths[i])
			padding := widths[i] - utf8.RuneCountInString(text) + columnGap
			if i == len(row)-1 {
				padding = 0
			}
			if field.colour != "" {
				text = terminal.Paint(w, text, field.colour)
			}
			out.WriteString(text + strings.Repeat(" ", padding))
		}
		out.WriteByte('\n')
	}
	return out.Flush()
}

// widths gives each column as many columns of the terminal as its longest field has, less where they do not fit.
func (t table) widths(rows [][]cell) []int {
	var widths []int
	for _, row := range rows {
		for i, field := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(field.text))
		}
	}
	total := columnGap * (len(widths) - 1)
	for _, width := range widths {
		total += width
	}
	for ; t.width > 0 && total > t.width; total-- {
		widest := 0
		for i := range widths {
			if widths[i] >= widths[widest] { // of those that are as wide, the last, which says the most words
				widest = i
			}
		}
		if widths[widest] <= leastColumn {
			break
		}
		widths[widest]--
	}
	return widths
}

// shorten cuts a text to so many columns: a sentence at its end, and a name in its middle, since both of its ends tell.
func shorten(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width || width < 3 {
		return text
	}
	tail := (width - 1) / 2
	if strings.Contains(text, " ") {
		tail = 0
	}
	return string(runes[:width-1-tail]) + "…" + string(runes[len(runes)-tail:])
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// summary is like "3 images: 2 verified, 1 denied".
func summary(what string, counted map[verdictWord]int, n int) string {
	var parts []string
	for _, word := range []verdictWord{wordVerified, wordUnverified, wordDenied, wordUnknown} {
		if counted[word] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counted[word], word))
		}
	}
	return fmt.Sprintf("%d %s: %s", n, what, strings.Join(parts, ", "))
}
