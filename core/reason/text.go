package reason

import (
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
