package records

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/ledger"
	"github.com/nirmata/kyverno-notation-venafi/shell/sealer"
)

// sink writes lines of its queue in batches, chained and signed.
type sink struct {
	name    string
	writer  *sealed
	lines   chan *line
	waiting atomic.Int64 // bytes in lines
	done    func(*line)  // is called when a line was written, or lost
	said    notice
	batched []*line  // of the last batch, to be overwritten
	texts   [][]byte // of those

	written, dropped, failed atomic.Uint64
}

// batchWriter writes batches of lines, one after the other, each as a whole or not at all. It may try again until ctx ends.
type batchWriter interface {
	write(ctx context.Context, lines [][]byte) error
	close() error // writes what is still to be written, after the last batch
}

// Bounds on a batch.
const (
	maxBatch      = sealer.MaxRecords
	maxBatchBytes = 1 << 20
)

// newSink makes a sink of a writer. after is the last line that is there already; nil for none.
func newSink(name string, writer batchWriter, options Options, after *ledger.Head, done func(*line)) *sink {
	return &sink{
		name: name, writer: newSealed(name, writer, options, after), lines: make(chan *line, maxQueued), done: done,
		said: notice{log: options.Log.With("sink", name), what: "decision records are lost"},
	}
}

// line is the line of a record on its way to sinks. When all are done with it, its memory is used again.
type line struct {
	text []byte
	left atomic.Int32 // sinks that are not done with it
}

// offer takes a line in, or drops it where there is no room.
func (s *sink) offer(l *line) {
	if s.waiting.Add(int64(len(l.text))) <= maxQueuedBytes {
		select {
		case s.lines <- l:
			return
		default:
		}
	}
	defer s.done(l)
	s.waiting.Add(int64(-len(l.text)))
	s.writer.Dropped(1)
	s.said.lost(s.dropped.Add(1), "the sink does not keep up")
}

// run writes until the queue is closed and empty.
func (s *sink) run(ctx context.Context) {
	for first := range s.lines {
		s.send(ctx, s.batch(first))
	}
	if err := s.writer.close(); err != nil {
		s.said.lost(s.failed.Load(), err.Error())
	}
}

// batch adds to a line those that wait behind it.
func (s *sink) batch(first *line) []*line {
	batch, size := append(s.batched[:0], first), len(first.text)
	for len(batch) < maxBatch && size < maxBatchBytes {
		select {
		case l, ok := <-s.lines:
			if !ok {
				return batch
			}
			batch, size = append(batch, l), size+len(l.text)
		default:
			return batch
		}
	}
	return batch
}

func (s *sink) send(ctx context.Context, batch []*line) {
	texts := s.texts[:0]
	for _, l := range batch {
		texts = append(texts, l.text)
	}
	s.batched, s.texts = batch, texts
	defer func() {
		for _, l := range batch {
			s.waiting.Add(int64(-len(l.text)))
			s.done(l)
		}
		clear(batch)
		clear(texts)
	}()
	if err := s.writer.write(ctx, texts); err != nil {
		s.said.lost(s.failed.Add(uint64(len(batch))), err.Error())
		return
	}
	s.written.Add(uint64(len(batch)))
	s.said.works()
}

// sayEvery is how often the log repeats that records are lost.
const sayEvery = 10 * time.Second

// notice logs that records are lost: at once, then at times, and when no more are.
type notice struct {
	log  *slog.Logger
	what string

	mu   sync.Mutex
	last time.Time // when it was logged; zero while nothing is lost
}

// lost logs a loss. total is the number of records that were lost in all.
func (n *notice) lost(total uint64, why string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now := time.Now(); now.Sub(n.last) >= sayEvery {
		n.last = now
		n.log.Error(n.what, "lost", total, "error", why)
	}
}

func (n *notice) works() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.last.IsZero() {
		n.last = time.Time{}
		n.log.Info("decision records are written again")
	}
}
