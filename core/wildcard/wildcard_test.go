package wildcard

import (
	"strings"
	"testing"
)

// TestMatch holds patterns to what Kyverno makes of them, as the differential test of conditions does with generated ones.
func TestMatch(t *testing.T) {
	tests := map[string]struct {
		pattern, text string
		want          bool
	}{
		"a text matches itself":                   {"ghcr.io/acme/app", "ghcr.io/acme/app", true},
		"a part of a text does not":               {"ghcr.io/acme", "ghcr.io/acme/app", false},
		"case matters":                            {"GHCR.io/*", "ghcr.io/app", false},
		"a star stands for any text":              {"ghcr.io/*:v1", "ghcr.io/acme/app:v1", true},
		"a star stands for no text":               {"app*", "app", true},
		"a question mark stands for a character":  {"v?", "v1", true},
		"a question mark does not stand for none": {"v?", "v", false},
		"a character may have several bytes":      {"b?cher", "bücher", true},
		"stars share a text":                      {"*a*b*", "xaxbx", true},
		"the last star takes what is left":        {"*ab", "abab", true},
		"an empty pattern matches no text":        {"", "a", false},
		"an empty pattern matches an empty text":  {"", "", true},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			if got := Match(tt.pattern, tt.text, nil); got != tt.want {
				t.Errorf("Match(%q, %q) = %t, want %t", tt.pattern, tt.text, got, tt.want)
			}
		})
	}
}

func TestMatchPaysForItsSteps(t *testing.T) {
	pattern, text := strings.Repeat("*a", 50)+"b", strings.Repeat("a", 500)
	paid := 0
	if Match(pattern, text, func(steps int) bool { paid += steps; return true }) {
		t.Errorf("%q matches %q", pattern, text)
	}
	if most := len(pattern) * len(text); paid == 0 || paid > most {
		t.Errorf("paid for %d steps, want 1 to %d", paid, most)
	}
	if Match("*", text, func(int) bool { return false }) {
		t.Error("what is not paid for matches")
	}
}
