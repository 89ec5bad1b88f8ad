package core

// wildcard tells whether a whole text matches a pattern, in which * stands for any text and ? for one character. It is
// Kyverno's language, for texts that are ASCII as image names are, in time that grows with the product of the lengths:
// Kyverno's own matcher tries every way to share a text among the stars, and the text is an image name of someone's
// choice. Each comparison is taken from what is left to spend; when nothing is, the answer is false.
func wildcard(pattern, text string, left *effort) bool {
	i, j := 0, 0
	star, resume := -1, 0 // the last star, and where the text goes on if that star takes one character more
	for *left--; j < len(text) && *left >= 0; *left-- {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, resume = i, j
			i++
		case i < len(pattern) && (pattern[i] == '?' || pattern[i] == text[j]):
			i, j = i+1, j+1
		case star >= 0:
			resume++
			i, j = star+1, resume
		default:
			return false
		}
	}
	for i < len(pattern) && pattern[i] == '*' {
		i++
	}
	return i == len(pattern) && j == len(text)
}
