package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxLine is the bound on a line, in bytes without its line feed.
const MaxLine = 4 << 20

// maxSequence is the largest number that JSON readers take exactly.
const maxSequence = 1 << 53

// Head names a line of a chain, and stands for all lines up to it.
type Head struct {
	Chain    string `json:"chain"`
	Hash     string `json:"hash"` // SHA-256 of the line, hexadecimal
	Sequence uint64 `json:"sequence"`
}

// line is a line of any kind. Its fields are in the order of canonical JSON.
type line struct {
	After      *Head           `json:"after,omitempty"`
	Chain      string          `json:"chain"`
	Checkpoint string          `json:"checkpoint,omitempty"`
	Dropped    uint64          `json:"dropped,omitempty"`
	Previous   string          `json:"previous,omitempty"`
	Record     json.RawMessage `json:"record,omitempty"`
	Replica    string          `json:"replica,omitempty"`
	Sequence   uint64          `json:"sequence"`
	Time       string          `json:"time,omitempty"`
}

// appendTo appends the bytes of a valid line without a line feed. A compact record, as most lines hold, is taken as it is.
func (l line) appendTo(text []byte) ([]byte, error) {
	if l.Record != nil && compactObject(l.Record) {
		return l.withRecord(text), nil
	}
	encoded, err := l.encode()
	return append(text, encoded...), err
}

func (l line) encode() ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(l); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}

// withRecord appends the bytes of a valid line with a compact record.
func (l line) withRecord(text []byte) []byte {
	const more = 100 // names and numbers
	text = slices.Grow(text, len(l.Chain)+len(l.Previous)+len(l.Record)+more)
	text = append(append(append(text, `{"chain":"`...), l.Chain...), '"')
	if l.Dropped > 0 {
		text = strconv.AppendUint(append(text, `,"dropped":`...), l.Dropped, 10)
	}
	text = append(append(append(text, `,"previous":"`...), l.Previous...), `","record":`...)
	text = append(append(text, l.Record...), `,"sequence":`...)
	return append(strconv.AppendUint(text, l.Sequence, 10), '}')
}

// parseLine reads a line, and refuses one that is not byte for byte as this package writes it.
func parseLine(text []byte) (line, error) {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return line{}, fmt.Errorf("it is no JSON object of this log: %w", err)
	}
	if err := l.validate(); err != nil {
		return line{}, err
	}
	if again, err := l.appendTo(nil); err != nil || !bytes.Equal(again, text) {
		return line{}, errors.New("it has members or spaces that do not belong there")
	}
	return l, nil
}

// validate holds a line against the grammar of its kind.
func (l line) validate() error {
	kinds := 0
	for _, is := range []bool{l.Replica != "", l.Record != nil, l.Checkpoint != ""} {
		if is {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return errors.New("it is neither the start of a chain, nor a record, nor a checkpoint")
	case !isToken(l.Chain):
		return errors.New("its chain has no proper name")
	case l.Sequence > maxSequence || l.Dropped > maxSequence:
		return errors.New("its sequence is too large")
	case (l.Sequence == 0) != (l.Replica != ""):
		return errors.New("a chain starts with sequence 0, and there only")
	case l.Replica == "" && (l.After != nil || l.Time != "" || !isHash(l.Previous)):
		return errors.New("it does not name the line before it")
	case l.Replica != "" && (l.Previous != "" || !isName(l.Replica)):
		return errors.New("its replica has no proper name")
	case l.Checkpoint != "" && l.Dropped > 0:
		return errors.New("a checkpoint counts no dropped records")
	case l.Record != nil && !bytes.HasPrefix(l.Record, []byte("{")):
		return errors.New("its record is no JSON object")
	case l.After != nil && (!isToken(l.After.Chain) || !isHash(l.After.Hash) || l.After.Sequence > maxSequence):
		return errors.New("it does not name the chain before it properly")
	}
	if l.Replica != "" {
		_, err := parseTime(l.Time)
		return err
	}
	return nil
}

// Record gives the record in a line of a log; false for lines that hold none. A line that is a record by itself, of a log that is
// not chained, is given as it is.
func Record(text []byte) ([]byte, bool) {
	var outer struct {
		ID     string          `json:"id"`
		Record json.RawMessage `json:"record"`
	}
	switch err := json.Unmarshal(text, &outer); {
	case err != nil:
		return nil, false
	case outer.ID != "":
		return text, true
	}
	return outer.Record, len(outer.Record) > 0 && outer.Record[0] == '{'
}

// OfChain tells whether a line is one of a chain.
func OfChain(text []byte) bool {
	_, err := parseLine(text)
	return err == nil
}

// LastHead gives the head that a new chain should name after the end of a log: its last whole line. tail is the end of the log,
// from any byte on.
func LastHead(tail []byte) (Head, bool) {
	for len(tail) > 0 {
		at := bytes.LastIndexByte(tail[:len(tail)-1], '\n')
		text := tail[at+1:]
		if whole, found := bytes.CutSuffix(text, []byte("\n")); found {
			if l, err := parseLine(whole); err == nil {
				return Head{Chain: l.Chain, Hash: hashOf(whole), Sequence: l.Sequence}, true
			}
		}
		tail = tail[:at+1]
	}
	return Head{}, false
}

// hashOf is the hash of a line, hexadecimal.
func hashOf(text []byte) string {
	sum := sha256.Sum256(text)
	var written [2 * sha256.Size]byte
	hex.Encode(written[:], sum[:])
	return string(written[:])
}

func isHash(text string) bool {
	return len(text) == 2*sha256.Size && strings.Trim(text, "0123456789abcdef") == ""
}

// isToken tells whether a text can name a chain: letters and digits, as of crypto/rand.Text.
func isToken(text string) bool {
	return len(text) >= 16 && len(text) <= 64 && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}

// isName tells whether a text can name a replica: a DNS name, such as that of a pod.
func isName(text string) bool {
	return len(text) <= 253 && text != "" && strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

const timeFormat = "2006-01-02T15:04:05.000Z"

func formatTime(at time.Time) string { return at.UTC().Format(timeFormat) }

func parseTime(text string) (time.Time, error) {
	at, err := time.Parse(timeFormat, text)
	if err != nil || formatTime(at) != text {
		return time.Time{}, fmt.Errorf("%q is no time as %s", text, timeFormat)
	}
	return at, nil
}
