package core

import (
	"math/rand/v2"
	"testing"

	kyverno "github.com/kyverno/kyverno/ext/wildcard"
)

// TestWildcardIsKyvernos holds the matcher against Kyverno's on every kind of short pattern and text.
func TestWildcardIsKyvernos(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	word := func(letters []rune) string {
		text := make([]rune, random.IntN(9))
		for i := range text {
			text[i] = letters[random.IntN(len(letters))]
		}
		return string(text)
	}
	matched := 0
	for range 200000 {
		pattern, text := word([]rune("ab/*?*")), word([]rune("ab/"))
		left := effort(1000)
		got, want := wildcard(pattern, text, &left), kyverno.Match(pattern, text)
		if got != want {
			t.Fatalf("wildcard(%q, %q) = %t, and Kyverno says %t", pattern, text, got, want)
		}
		if got {
			matched++
		}
	}
	if matched < 1000 {
		t.Errorf("only %d pairs matched; the test shows little", matched)
	}
}
