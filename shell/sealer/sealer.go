// Package sealer puts records into the chain of a log that package core/ledger defines, and signs it, on their way to a sink.
//
// Each sink has a chain of its own, begun behind its queue, so that what a queue drops leaves no gap that looks like a removed
// line; a line says how many were dropped before it. Where a sink fails, it is not known what arrived: a new chain begins, which
// names the last line that did. A checkpoint is made after [Options.SignAfter] lines, every [Options.SignEvery] at the latest, and at
// the end. Without a key records are chained, and signed when there is one.
package sealer

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/core/ledger"
)

// Options of a Sealer.
type Options struct {
	// Deliver takes lines, without line feeds, to the sink: at most MaxRecords and a few. They are there until it returns. An error
	// says that they may not all have arrived. It is not called twice at once.
	Deliver func(ctx context.Context, lines [][]byte) error

	Key       func() *certificates.Pair // that signs; nil for none, and giving nil while there is none
	Replica   string                    // name of the pod; what cannot stand in a log is replaced by "-"
	After     *ledger.Head              // last line that is in the log already; nil for none
	SignAfter uint64                    // lines; 0 for 256
	SignEvery time.Duration             // 0 for ten seconds
	Log       *slog.Logger
}

// MaxRecords bounds one call of Write.
const MaxRecords = 64

// deliverTime bounds the delivery of a checkpoint by itself.
const deliverTime = 10 * time.Second

// Sealer seals the records of one sink.
type Sealer struct {
	options Options
	lost    atomic.Uint64 // records, of which dropped does not know yet

	delivering sync.Mutex   // guards what is below, while lines are on their way too
	chain      ledger.Chain // of what was delivered
	begun      bool
	after      *ledger.Head // that the next chain names
	dropped    uint64       // records that were lost after the last line
	problem    string       // why nothing can be signed, as it was logged last; "" while it can
	lines      [][]byte     // of the last batch, to be overwritten
	text       []byte       // of its records

	mu    sync.Mutex
	stats Stats
}

// Stats are counts since the start, and the state.
type Stats struct {
	Lines       uint64 // that were delivered
	Checkpoints uint64 // of those
	Chains      uint64 // that were begun; one more than one for each failure of the sink
	Unsigned    uint64 // lines of the present chain that nothing signs yet
	Signing     bool   // the last checkpoint that was due could be signed
}

// New makes a sealer. Run must run beside it.
func New(options Options) *Sealer {
	if options.SignAfter == 0 {
		options.SignAfter = 256
	}
	if options.SignEvery == 0 {
		options.SignEvery = 10 * time.Second
	}
	if options.Key == nil {
		options.Key = func() *certificates.Pair { return nil }
	}
	return &Sealer{options: options, after: options.After}
}

// batch is lines that are not delivered yet, and the state after them.
type batch struct {
	chain       ledger.Chain
	lines       [][]byte
	dropped     uint64
	checkpoints uint64
}

// maxText bounds what a sealer keeps of a batch, bytes.
const maxText = 1 << 20

// add takes a line in.
func (b *batch) add(chain ledger.Chain, text []byte, err error) error {
	if err == nil {
		b.chain, b.lines = chain, append(b.lines, text)
	}
	return err
}

// Write seals and delivers records, at most MaxRecords of them. An error says that not all of them may have arrived. A record that
// cannot stand in a log is left out, and counted as dropped; that is an error too.
func (s *Sealer) Write(ctx context.Context, records [][]byte) error {
	if len(records) > MaxRecords {
		return fmt.Errorf("%d records at once; at most %d are sealed", len(records), MaxRecords)
	}
	s.delivering.Lock()
	defer s.delivering.Unlock()
	b, err := s.begin()
	if err != nil {
		return err
	}
	var refused error
	if cap(s.text) > maxText {
		s.text = nil
	}
	text := s.text[:0]
	for _, record := range records {
		chain, more, err := b.chain.AppendRecord(text, record, b.dropped)
		if err := b.add(chain, more[len(text):len(more):len(more)], err); err != nil { // who appends to a line does not reach the next
			refused = err
			b.dropped++
			continue
		}
		text, b.dropped = more, 0
	}
	s.text = text
	if b.chain.Unsigned() >= s.options.SignAfter {
		s.sign(b, false)
	}
	if err := s.deliver(ctx, b, uint64(len(records))); err != nil {
		return err
	}
	return refused
}

// Dropped has the next line say that n records were lost. It never waits.
func (s *Sealer) Dropped(n uint64) { s.lost.Add(n) }

// Run signs what is unsigned from time to time, until ctx ends. It begins the chain if no record has.
func (s *Sealer) Run(ctx context.Context) {
	ticker := time.NewTicker(s.options.SignEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.checkpoint(ctx, false)
		}
	}
}

// Close closes the chain, with a last checkpoint. Nothing may be written after.
func (s *Sealer) Close(ctx context.Context) { s.checkpoint(ctx, true) }

// Stats gives counts. It does not wait for the sink.
func (s *Sealer) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// checkpoint signs what is unsigned.
func (s *Sealer) checkpoint(ctx context.Context, last bool) {
	s.delivering.Lock()
	defer s.delivering.Unlock()
	b, err := s.begin()
	if err != nil {
		s.options.Log.Error("the log of decision records cannot be continued", "error", err)
		return
	}
	if last || b.chain.Unsigned() > 0 {
		s.sign(b, last)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deliverTime) // what was begun ends, so that no chain is left behind
	defer cancel()
	if err := s.deliver(ctx, b, 0); err != nil {
		s.options.Log.Warn("a checkpoint of the decision records was not written; a new chain begins", "error", err)
	}
}

// begin gives a batch, which starts a chain where none has begun.
func (s *Sealer) begin() (*batch, error) {
	s.dropped += s.lost.Swap(0)
	if s.begun {
		return &batch{chain: s.chain, dropped: s.dropped, lines: s.lines[:0]}, nil
	}
	b := &batch{lines: s.lines[:0]}
	return b, b.add(ledger.Start(rand.Text(), replicaName(s.options.Replica), time.Now(), s.after, s.dropped))
}

// sign adds a checkpoint, or logs why there is none, once.
func (s *Sealer) sign(b *batch, closed bool) {
	problem := "there is no key"
	if key := s.options.Key(); key != nil {
		problem = ""
		if err := b.add(b.chain.Checkpoint(key, time.Now(), closed)); err != nil {
			problem = err.Error()
		} else {
			b.checkpoints++
		}
	}
	s.mu.Lock()
	s.stats.Signing = problem == ""
	s.mu.Unlock()
	switch {
	case problem == s.problem:
		return
	case problem == "":
		s.options.Log.Info("decision records are signed again")
	default:
		s.options.Log.Warn("decision records are chained, and not signed", "reason", problem)
	}
	s.problem = problem
}

// deliver delivers a batch with a number of records.
func (s *Sealer) deliver(ctx context.Context, b *batch, records uint64) error {
	var err error
	if len(b.lines) > 0 {
		err = s.options.Deliver(ctx, b.lines)
		clear(b.lines)
		s.lines = b.lines
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if s.begun {
			head := s.chain.Head()
			s.after = &head
		}
		s.begun, s.dropped, s.stats.Unsigned = false, s.dropped+records, 0
		return err
	}
	if !s.begun {
		s.stats.Chains++
	}
	s.chain, s.begun, s.dropped = b.chain, true, b.dropped
	s.stats.Lines += uint64(len(b.lines))
	s.stats.Checkpoints += b.checkpoints
	s.stats.Unsigned = b.chain.Unsigned()
	return nil
}

// replicaName makes a name that can stand in a log.
func replicaName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_' {
			return r
		}
		return '-'
	}, name)
	if name == "" {
		name = "unknown"
	}
	return name[:min(len(name), 253)]
}

// tailBytes is how much of a log is read to find its last line.
const tailBytes = 2 * ledger.MaxLine

// Tail gives the last line of a log, which is size bytes long; nil where there is none.
func Tail(log io.ReaderAt, size int64) (*ledger.Head, error) {
	from := max(0, size-tailBytes)
	text := make([]byte, size-from)
	if n, err := log.ReadAt(text, from); err != nil && n < len(text) {
		return nil, fmt.Errorf("end of the log: %w", err)
	}
	head, found := ledger.LastHead(text)
	if !found {
		return nil, nil
	}
	return &head, nil
}
