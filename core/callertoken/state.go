package callertoken

import (
	"fmt"
	"strings"
	"time"

	"github.com/samber/lo"
)

// Where the Secret holds the state.
const (
	KeyToken    = "token"    // what policies send
	KeyNext     = "next"     // what they will send
	KeyPrevious = "previous" // what they sent before

	AnnotationSince = "notation.nirmata.io/token-since" // RFC 3339
)

// State is what the Secret holds. The zero value is a Secret that does not exist.
type State struct {
	Token, Next, Previous string    // "" where the key is missing or empty
	Since                 time.Time // when Token came into use; zero where that is not recorded
}

// Parse reads the data and the annotations of the Secret.
func Parse(data map[string][]byte, annotations map[string]string) State {
	since, err := time.Parse(time.RFC3339, annotations[AnnotationSince])
	if err != nil {
		since = time.Time{} // then the token counts as new
	}
	return State{Token: string(data[KeyToken]), Next: string(data[KeyNext]), Previous: string(data[KeyPrevious]), Since: since}
}

// Data gives what to write under each key; nil for a key that should be missing.
func (s State) Data() map[string][]byte {
	data := map[string][]byte{KeyToken: nil, KeyNext: nil, KeyPrevious: nil}
	for key, token := range map[string]string{KeyToken: s.Token, KeyNext: s.Next, KeyPrevious: s.Previous} {
		if token != "" {
			data[key] = []byte(token)
		}
	}
	return data
}

// Accepted gives the tokens that prove a caller, at most two: the token itself, and the previous one or else the next. Without a
// usable token nothing is accepted.
func (s State) Accepted() []string {
	if Flaw(s.Token) != "" {
		return nil
	}
	for _, second := range []string{s.Previous, s.Next} {
		if second != "" && Flaw(second) == "" {
			return []string{s.Token, second}
		}
	}
	return []string{s.Token}
}

// Bounds on a token.
const (
	minLength   = 26 // characters; that many random letters and digits cannot be guessed
	maxLength   = 4096
	minDistinct = 8 // characters; a random token has more, a word that is repeated or padded has fewer
)

// Flaw says why a token is not accepted; "" for one that is.
func Flaw(token string) string {
	switch {
	case token == "":
		return "is missing or empty"
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "holds a blank, a line break or another character that a header cannot carry"
	case len(token) < minLength:
		return fmt.Sprintf("has fewer than %d characters and might be guessed", minLength)
	case len(token) > maxLength:
		return fmt.Sprintf("has more than %d characters", maxLength)
	case len(lo.Uniq([]byte(token))) < minDistinct:
		return fmt.Sprintf("has fewer than %d different characters and might be guessed", minDistinct)
	}
	return ""
}
