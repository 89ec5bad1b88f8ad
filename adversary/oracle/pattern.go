package oracle

import (
	"regexp"
	"strings"
)

// tagOf is the tag of a pattern, with its colon.
var tagOf = regexp.MustCompile(`:[^/:]*$`)

// Matches holds a pattern of a request against a reference: * stands for any text, ? for one character, and the
// pattern may name the repository alone, with its tag, with its digest, or with both. Beside a digest a tag says nothing,
// so that the pattern's may be any.
func Matches(pattern string, ref Reference) bool {
	pattern = canonicalPattern(pattern)
	patterns := []string{pattern}
	if name, digest, _ := strings.Cut(pattern, "@"); ref.Digest != "" {
		patterns = append(patterns, strings.TrimSuffix(tagOf.ReplaceAllString(name, "")+"@"+digest, "@"))
	}
	for _, pattern := range patterns {
		expression := patternExpression(pattern)
		for _, spelling := range spellings(ref) {
			if expression.MatchString(spelling) {
				return true
			}
		}
	}
	return false
}

// spellings are the ways to write a reference with its canonical registry.
func spellings(ref Reference) []string {
	names := []string{ref.Name}
	if short, ok := strings.CutPrefix(ref.Name, "docker.io/library/"); ok {
		names = append(names, "docker.io/"+short)
	}
	var all []string
	for _, name := range names {
		all = append(all, name)
		if ref.Tag != "" {
			all = append(all, name+":"+ref.Tag)
		}
		if ref.Digest != "" {
			all = append(all, name+"@"+ref.Digest)
		}
		if ref.Tag != "" && ref.Digest != "" {
			all = append(all, name+":"+ref.Tag+"@"+ref.Digest)
		}
	}
	return all
}

func patternExpression(pattern string) *regexp.Regexp {
	quoted := regexp.QuoteMeta(pattern)
	quoted = strings.ReplaceAll(quoted, `\*`, `(?s:.*)`)
	quoted = strings.ReplaceAll(quoted, `\?`, `(?s:.)`)
	return regexp.MustCompile(`^` + quoted + `$`)
}

// canonicalPattern gives the registry of a pattern its one name, where the pattern spells it out.
func canonicalPattern(pattern string) string {
	host, path, found := strings.Cut(pattern, "/")
	if !found || strings.ContainsAny(host, "*?") {
		return pattern
	}
	if canonical, ok := canonicalHost(host); ok {
		return canonical + "/" + path
	}
	return pattern
}

// Dead tells a pattern that matches no reference there can be: it names no registry, or what is none.
func Dead(pattern string) bool {
	if strings.TrimSpace(pattern) != pattern || strings.ContainsAny(pattern, " \t\r\n") || strings.Contains(pattern, "://") {
		return true
	}
	host, _, found := strings.Cut(pattern, "/")
	if strings.ContainsAny(host, "*?") {
		return false
	}
	if !found {
		return true
	}
	_, ok := canonicalHost(host)
	return !ok || !strings.ContainsAny(host, ".:") && !strings.EqualFold(host, "localhost")
}
