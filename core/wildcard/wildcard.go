// Package wildcard matches texts with Kyverno's patterns of * and ?, in bounded time.
package wildcard

import "unicode/utf8"

// Match tells whether a whole text matches a pattern, in which * stands for any text and ? for one character.
// It takes time in proportion to the product of the lengths; Kyverno's own matcher takes exponential time, and
// whoever writes the text could exploit that. Match calls pay with the number of characters that it is about to compare, and
// gives false as soon as pay does; a nil pay never ends it.
func Match(pattern, text string, pay func(steps int) bool) bool {
	const atOnce = 8
	i, j := 0, 0
	star, resume := -1, 0 // the last star, and where the text continues if that star matches one character more
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
