// Package wildcard matches texts against Kyverno's patterns of * and ?, in time that is bounded.
package wildcard

import "unicode/utf8"

// Match tells whether a whole text matches a pattern, in which * stands for any text and ? for one character.
// It is Kyverno's language, in time that grows with the product of the lengths: Kyverno's own matcher tries every
// way to share a text among the stars, and the text is of someone else's choice. pay is told of the characters that are
// compared, some at a time, and ends the work by false, with false for an answer; nil lets it go on.
func Match(pattern, text string, pay func(steps int) bool) bool {
	const atOnce = 8
	i, j := 0, 0
	star, resume := -1, 0 // the last star, and where the text goes on if that star takes one character more
	for n := 0; j < len(text); n++ {
		if n%atOnce == 0 && pay != nil && !pay(atOnce) {
			return false
		}
		p, wide := rune(-1), 0
		if i < len(pattern) {
			p, wide = utf8.DecodeRuneInString(pattern[i:])
		}
		c, size := utf8.DecodeRuneInString(text[j:])
		switch {
		case p == '*':
			star, resume = i, j
			i++
		case wide > 0 && (p == '?' || p == c):
			i, j = i+wide, j+size
		case star >= 0:
			_, taken := utf8.DecodeRuneInString(text[resume:])
			resume += taken
			i, j = star+1, resume
		default:
			return false
		}
	}
	for i < len(pattern) && pattern[i] == '*' {
		i++
	}
	return i == len(pattern)
}
