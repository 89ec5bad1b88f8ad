package core

// wildcard tells whether a whole text matches a pattern, in which * stands for any text and ? for one character.
// It is Kyverno's language, in time that grows with the product of the lengths: Kyverno's own matcher tries every
// way to share a text among the stars, and the text is an image name of someone's choice.
func wildcard(pattern, text string) bool {
	p, s := []rune(pattern), []rune(text)
	i, j := 0, 0
	star, resume := -1, 0 // the last star, and where the text goes on if that star takes one character more
	for j < len(s) {
		switch {
		case i < len(p) && p[i] == '*':
			star, resume = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == s[j]):
			i, j = i+1, j+1
		case star >= 0:
			resume++
			i, j = star+1, resume
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
