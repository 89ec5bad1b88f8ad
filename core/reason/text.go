package reason

import (
	"regexp"
	"strings"
	"unicode"
)

// Bounds on untrusted text in a finding, bytes: findings are kept, joined and logged.
const (
	MaxWords = 1000
	MaxName  = 255 // of a media type, which is two names of at most 127 (RFC 6838, section 4.2)
)

// Clip cuts a text that is longer than a bound, bytes, and marks the cut with "...".
func Clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}

// credential matches what HTTP's Basic and Bearer schemes send (RFC 7617, RFC 6750).
var credential = regexp.MustCompile(`(?i)\b(basic|bearer) [a-z0-9+/=._~-]{20,}`)

// WithoutTokens hides the credentials of Basic and Bearer authentication in a text, since servers repeat them in errors.
func WithoutTokens(text string) string { return credential.ReplaceAllString(text, "$1 ***") }

// OneLine replaces line breaks and control characters by spaces, so that untrusted text can neither look like another line nor
// control the reader's terminal.
func OneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if ' ' <= r && r <= '~' {
			return r
		}
		if unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
			return ' '
		}
		return r
	}, s)
}
