package reason

import (
	"regexp"
	"strings"
	"unicode"
)

// Bounds on what a finding tells of a stranger's words, bytes: findings are kept, joined and logged.
const (
	MaxWords = 1000
	MaxName  = 255 // of a media type, which is two names of at most 127 (RFC 6838, section 4.2)
)

// Clip keeps the first bytes of a text that is over a bound.
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

// OneLine keeps what a registry, a plugin, a payload or the request wrote from looking like another line, and from
// steering the reader's terminal.
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
