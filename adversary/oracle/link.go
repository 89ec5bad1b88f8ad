package oracle

import "strings"

// NextLink reads Link fields (RFC 8288, section 3) character by character, and gives the target of the first link whose
// relation is next.
func NextLink(lines []string) (target string, found bool) {
	for _, line := range lines {
		for line != "" {
			var link string
			link, line = cutOutside(line, ',')
			target, parameters, ok := strings.Cut(strings.TrimLeft(link, " \t"), ">")
			if !ok || !strings.HasPrefix(target, "<") {
				continue
			}
			if isNext(parameters) {
				return target[1:], true
			}
		}
	}
	return "", false
}

// isNext looks at the first rel parameter: later ones do not count.
func isNext(parameters string) bool {
	for parameters != "" {
		var parameter string
		parameter, parameters = cutOutside(parameters, ';')
		name, value, _ := strings.Cut(parameter, "=")
		if !strings.EqualFold(strings.Trim(name, " \t"), "rel") {
			continue
		}
		for relation := range strings.FieldsSeq(strings.Trim(strings.Trim(value, " \t"), `"`)) {
			if strings.EqualFold(relation, "next") {
				return true
			}
		}
		return false
	}
	return false
}

// cutOutside cuts at the first separator that stands neither in quotes nor in angle brackets.
func cutOutside(text string, separator byte) (before, after string) {
	quoted, within := false, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"' && !within:
			quoted = !quoted
		case c == '<' && !quoted:
			within = true
		case c == '>' && !quoted:
			within = false
		case c == separator && !quoted && !within:
			return text[:i], text[i+1:]
		}
	}
	return text, ""
}
