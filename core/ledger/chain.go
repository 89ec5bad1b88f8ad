package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
)

// Chain is the state of a chain that is being written. It is a value: a line counts once the state that came with it is kept.
type Chain struct {
	replica string
	started time.Time
	head    Head
	signed  time.Time // of the last checkpoint, else of the start
	covered uint64    // lines that the last checkpoint signs, itself included
	closed  bool
}

// Start begins a chain. name is a fresh random name of 16 to 64 capital letters and digits, replica that of the pod. after is the
// last line that was written before; nil for none, or where it is not known. dropped counts records that were lost before.
func Start(name, replica string, now time.Time, after *Head, dropped uint64) (Chain, []byte, error) {
	now = now.UTC().Truncate(time.Millisecond)
	return Chain{replica: replica, started: now, signed: now}.add(nil, line{After: after, Chain: name, Dropped: dropped, Replica: replica, Time: formatTime(now)})
}

// Record adds a record: one JSON object without a line feed. dropped counts records that were lost before it.
func (c Chain) Record(record []byte, dropped uint64) (Chain, []byte, error) {
	return c.AppendRecord(nil, record, dropped)
}

// AppendRecord is as Record, and appends the line to a text, which stays as it is where there is an error.
func (c Chain) AppendRecord(text, record []byte, dropped uint64) (Chain, []byte, error) {
	return c.add(text, line{Chain: c.head.Chain, Dropped: dropped, Previous: c.head.Hash, Record: bytes.TrimSpace(record), Sequence: c.head.Sequence + 1})
}

// Checkpoint signs all lines so far; with closed the chain ends. A clock that went back does not let its time be before that of
// the last one.
func (c Chain) Checkpoint(key *certificates.Pair, now time.Time, closed bool) (Chain, []byte, error) {
	if now = now.UTC().Truncate(time.Millisecond); now.Before(c.signed) {
		now = c.signed
	}
	if err := validAt(key.Certificate, now); err != nil {
		return c, nil, err
	}
	text, err := statement{
		replica: c.replica, chain: c.head.Chain, size: c.head.Sequence + 1, hash: c.head.Hash, start: c.started, time: now, closed: closed,
	}.sign(key)
	if err != nil {
		return c, nil, err
	}
	next, encoded, err := c.add(nil, line{Chain: c.head.Chain, Checkpoint: text, Previous: c.head.Hash, Sequence: c.head.Sequence + 1})
	if err != nil {
		return c, nil, err
	}
	next.signed, next.covered, next.closed = now, next.head.Sequence+1, closed
	return next, encoded, nil
}

// add gives the state after a line, and a text with its bytes behind what the text had. After an error both are as before.
func (c Chain) add(before []byte, l line) (Chain, []byte, error) {
	if c.closed {
		return c, before, errors.New("the chain is closed")
	}
	if err := l.validate(); err != nil {
		return c, before, fmt.Errorf("line of a chain: %w", err)
	}
	text, err := l.appendTo(before)
	if err != nil {
		return c, before, fmt.Errorf("line of a chain: %w", err)
	}
	added := text[len(before):]
	if len(added) > MaxLine {
		return c, before, fmt.Errorf("line of a chain: it has %d bytes; at most %d are written", len(added), MaxLine)
	}
	c.head = Head{Chain: l.Chain, Hash: hashOf(added), Sequence: l.Sequence}
	return c, text, nil
}

// Head is the last line.
func (c Chain) Head() Head { return c.head }

// Unsigned is the number of lines that no checkpoint signs.
func (c Chain) Unsigned() uint64 { return c.head.Sequence + 1 - c.covered }
