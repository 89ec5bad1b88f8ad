package ledger

import (
	"bufio"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"
)

// Bounds of a verification.
const (
	maxFindings = 1000
	maxChains   = 100_000
	maxSegments = 2 * maxChains // in all; a chain has one for each file that it is in, and for each gap

	// MaxUnconfirmed bounds the lines that a chain may have behind the one that the next chain names: those that were being
	// delivered when a sink failed, and of which its process does not know whether they arrived.
	MaxUnconfirmed = 128
)

// Verifier verifies the files of a log. Files may come in any order; lines of several chains may be mixed in a file, those of one
// chain must be in order. What it does grows with the length of the files, whatever they say, but for sorting the chains.
type Verifier struct {
	keys     keyring
	seen     map[string][]Head // by chain
	seenAt   map[place][]string
	segments map[string][]*segment
	begun    int // segments
	report   Report
	file     string
	current  map[string]*segment // of the file being read
	steps    int                 // that were taken over chains and heads, for tests
}

// place is that of a line in a chain.
type place struct {
	chain    string
	sequence uint64
}

// segment is a run of lines of one chain in one file.
type segment struct {
	file      string
	firstLine int
	first     uint64 // sequence
	previous  string // hash of the line before the first; "" for the start of a chain
	head      Head
	recent    []string // hashes of the last lines, of at least MaxUnconfirmed+1 where there are as many, the youngest last
	start     *line    // the chain's first line, if it is here
	replica   string   // of the start, or of a checkpoint
	started   time.Time
	records   int
	dropped   uint64
	good      int // checkpoints
	firstTime time.Time
	signed    time.Time
	signedSeq uint64
	key       *x509.Certificate
	closed    bool
}

// NewVerifier verifies with keys, and demands that the log still has the heads that were seen before.
func NewVerifier(keys Keys, seen []Head) *Verifier {
	v := &Verifier{keys: keys.ring(), seen: map[string][]Head{}, seenAt: map[place][]string{}, segments: map[string][]*segment{}}
	for _, head := range seen {
		v.seen[head.Chain] = append(v.seen[head.Chain], head)
		at := place{head.Chain, head.Sequence}
		v.seenAt[at] = append(v.seenAt[at], head.Hash)
	}
	return v
}

// Read verifies the lines of a file. It gives each record in a line that is in its place to use, which may be nil. An error is one
// of reading.
func (v *Verifier) Read(name string, from io.Reader, use func(record []byte, chain string, sequence uint64)) error {
	v.file, v.current = name, map[string]*segment{}
	lines := bufio.NewReaderSize(from, 64<<10)
	for number := 1; ; number++ {
		text, err := readLine(lines)
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return fmt.Errorf("%s: %w", name, err)
		case len(text) == 0 && err != nil:
			return nil
		case len(text) > MaxLine+1:
			v.find(Malformed, number, "", fmt.Sprintf("the line has more than %d bytes", MaxLine))
		case err != nil:
			v.find(Torn, number, "", "the last line has no end: it was cut, or is being written")
		default:
			v.report.Lines++
			v.line(number, text[:len(text)-1], use)
		}
	}
}

// readLine reads a line with its line feed, and of one that is too long somewhat more than MaxLine bytes. With io.EOF it gives a
// last line that has no line feed.
func readLine(lines *bufio.Reader) ([]byte, error) {
	var text []byte
	for {
		part, err := lines.ReadSlice('\n')
		if len(text) <= MaxLine+1 {
			text = append(text, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return text, err
		}
	}
}

func (v *Verifier) find(kind Kind, number int, chain, text string) {
	if len(v.report.Findings) == maxFindings {
		v.report.More++
		return
	}
	finding := Finding{Kind: kind, Line: number, Chain: chain, Text: text}
	if number > 0 {
		finding.File = v.file
	}
	v.report.Findings = append(v.report.Findings, finding)
}

// line verifies one line against the one before it in its chain.
func (v *Verifier) line(number int, text []byte, use func([]byte, string, uint64)) {
	l, err := parseLine(text)
	if err != nil {
		v.find(Malformed, number, "", err.Error())
		return
	}
	at := v.current[l.Chain]
	switch {
	case at == nil || l.Sequence > at.head.Sequence+1:
		if at != nil {
			v.find(Missing, number, l.Chain, fmt.Sprintf("the chain goes from sequence %d to %d", at.head.Sequence, l.Sequence))
		}
		if at = v.begin(number, l); at == nil {
			return
		}
	case l.Sequence <= at.head.Sequence:
		v.find(Repeated, number, l.Chain, fmt.Sprintf("sequence %d comes after %d", l.Sequence, at.head.Sequence))
		return
	case l.Previous != at.head.Hash:
		v.find(Changed, number, l.Chain, fmt.Sprintf("sequence %d does not follow the line with sequence %d: one of the two was changed", l.Sequence, at.head.Sequence))
	}
	if at.closed {
		v.find(Appended, number, l.Chain, "the chain was closed before this line")
	}
	at.extend(Head{Chain: l.Chain, Hash: hashOf(text), Sequence: l.Sequence}, l)
	for _, hash := range v.seenAt[place{l.Chain, l.Sequence}] {
		v.steps++
		if hash != at.head.Hash {
			v.find(Rollback, number, l.Chain, fmt.Sprintf("sequence %d is not the line that was seen there before", l.Sequence))
		}
	}
	switch {
	case l.Checkpoint != "":
		v.checkpoint(number, at, l)
	case l.Record != nil:
		v.report.Records++
		if use != nil {
			use(l.Record, l.Chain, l.Sequence)
		}
	}
}

// begin makes the segment that begins with a line; nil where there are too many.
func (v *Verifier) begin(number int, l line) *segment {
	if _, known := v.segments[l.Chain]; !known && len(v.segments) == maxChains {
		v.find(TooMany, number, l.Chain, fmt.Sprintf("there are more than %d chains", maxChains))
		return nil
	}
	if v.begun == maxSegments {
		v.find(TooMany, number, l.Chain, fmt.Sprintf("the chains have more than %d gaps and files", maxSegments))
		return nil
	}
	v.begun++
	at := &segment{file: v.file, firstLine: number, first: l.Sequence, previous: l.Previous}
	if l.Sequence == 0 {
		start, _ := parseTime(l.Time) // which was validated
		at.start, at.replica, at.started, at.firstTime, at.signed = &l, l.Replica, start, start, start
	}
	v.current[l.Chain] = at
	v.segments[l.Chain] = append(v.segments[l.Chain], at)
	return at
}

func (s *segment) extend(head Head, l line) {
	s.head = head
	s.dropped += l.Dropped
	if l.Record != nil {
		s.records++
	}
	const enough = MaxUnconfirmed + 1
	if len(s.recent) == 2*enough { // so that what is moved is one for each line
		s.recent = s.recent[:copy(s.recent, s.recent[enough:])]
	}
	s.recent = append(s.recent, head.Hash)
}

// hashAt gives the hash of one of the last lines.
func (s *segment) hashAt(sequence uint64) (string, bool) {
	back := s.head.Sequence - sequence
	if sequence > s.head.Sequence || back > MaxUnconfirmed || back >= uint64(len(s.recent)) {
		return "", false
	}
	return s.recent[len(s.recent)-1-int(back)], true
}

// checkpoint holds a checkpoint against the lines before it, and counts it where all is right.
func (v *Verifier) checkpoint(number int, at *segment, l line) {
	says, key, err := v.keys.open(l.Checkpoint)
	kind := BadSign
	switch {
	case errors.Is(err, errUnknownKey):
		kind = BadKey
	case err == nil:
		kind, err = at.contradiction(says, key, l)
	}
	if err != nil {
		v.find(kind, number, l.Chain, err.Error())
		return
	}
	at.replica, at.started = says.replica, says.start
	if at.firstTime.IsZero() {
		at.firstTime = says.time
	}
	at.good++
	at.signed, at.signedSeq, at.key, at.closed = says.time, l.Sequence, key, says.closed
}

// contradiction gives what is wrong with a checkpoint whose signature is right.
func (s *segment) contradiction(says statement, key *x509.Certificate, l line) (Kind, error) {
	previous, err := hex.DecodeString(l.Previous)
	switch {
	case err != nil || says.hash != hex.EncodeToString(previous) || says.size != l.Sequence || says.chain != l.Chain:
		return Contradict, errors.New("the checkpoint is one of other lines")
	case s.replica != "" && (says.replica != s.replica || !says.start.Equal(s.started)):
		return Contradict, errors.New("the checkpoint names another replica or start than the lines before it")
	case says.time.Before(s.signed):
		return BadTime, fmt.Errorf("the checkpoint is of %s, before the one that precedes it, of %s", formatTime(says.time), formatTime(s.signed))
	}
	return BadKey, validAt(key, says.time)
}
