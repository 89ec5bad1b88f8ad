package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"

	"sigs.k8s.io/yaml"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// printJSON writes a value for programs, and for those who look at it in a terminal.
func printJSON(w io.Writer, value any) error {
	text, err := marshalJSON(value)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// printYAML writes the same as YAML.
func printYAML(w io.Writer, value any) error {
	text, err := marshalJSON(value)
	if err != nil {
		return err
	}
	if text, err = yaml.JSONToYAML(text); err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Fprintln(w, plain(strings.TrimSuffix(line, "\n"))); err != nil { // YAML escapes all but those of the writing direction
			return err
		}
	}
	return nil
}

func marshalJSON(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(value)
	return harmless(text.Bytes()), err
}

// harmless escapes in JSON what steers a terminal: encoding/json leaves the controls above ASCII and those of the writing direction. It
// is the same JSON, since they stand in strings only.
func harmless(text []byte) []byte {
	escaped := make([]byte, 0, len(text))
	for _, r := range string(text) {
		switch {
		case r <= '~' || reason.OneLine(string(r)) == string(r):
			escaped = append(escaped, string(r)...)
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				escaped = fmt.Appendf(escaped, `\u%04x`, unit)
			}
		}
	}
	return escaped
}
