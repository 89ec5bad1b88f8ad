package migrate

import (
	"regexp"
	"strings"
)

// wild tells that a text is a pattern with * or ?.
func wild(text string) bool { return strings.ContainsAny(text, "*?") }

// matches is true where a text, given as an expression, matches one of Kyverno's patterns.
func matches(text string, patterns []string) cel {
	var exact []string
	var parts []cel
	for _, pattern := range patterns {
		if !wild(pattern) {
			exact = append(exact, pattern)
			continue
		}
		parts = append(parts, matchesWild(text, pattern))
	}
	switch len(exact) {
	case 0:
	case 1:
		parts = append([]cel{compare(text, "==", literal(exact[0]))}, parts...)
	default:
		parts = append([]cel{compare(text, "in", literals(exact))}, parts...)
	}
	return anyOf(parts...)
}

func matchesWild(text, pattern string) cel {
	start, end := strings.TrimSuffix(pattern, "*"), strings.TrimPrefix(pattern, "*")
	switch {
	case strings.Trim(pattern, "*") == "":
		return always
	case !wild(start):
		return called(text + ".startsWith(" + literal(start) + ")")
	case !wild(end):
		return called(text + ".endsWith(" + literal(end) + ")")
	}
	expression := regexp.QuoteMeta(pattern)
	expression = strings.ReplaceAll(strings.ReplaceAll(expression, `\*`, ".*"), `\?`, ".")
	return called(text + ".matches(" + literal("^(?s:"+expression+")$") + ")")
}
