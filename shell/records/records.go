// Package records takes the records of decisions to where they are kept: a ring in memory, lines in a file or on standard
// output, and CloudEvents to a sink. What leaves the process is chained and signed, as package sealer does it, by sink.
//
// [Recorder.Offer] never waits. Records stand in a queue until they are made, and their lines in a queue of each sink; each queue is
// bounded by number and by bytes, and what finds no room is dropped, counted and logged. So neither a full disk nor a sink that
// hangs is in the way of an answer. What is in memory is encoded when somebody reads it.
package records

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/shell/sealer"
)

// Options of a Recorder. The zero value records nothing.
type Options struct {
	Keep      int       // records in memory; 0 for none
	File      string    // of lines; "-" for Output, "" for none
	FileBytes int64     // bound on the file, which then becomes FILE.1; 0 for none
	Output    io.Writer // standard output
	SinkURL   string    // that CloudEvents are sent to; "" for none
	Source    string    // of the CloudEvents
	Log       *slog.Logger

	Key     func() *certificates.Pair // that signs what is written to a file or a sink; nil for none, and giving nil while there is none
	Replica string                    // name of the pod
}

// Bounds on what waits, beside the settings.
const (
	maxQueued      = 1024     // records that are not encoded yet, and for each sink lines
	maxQueuedBytes = 16 << 20 // of them
	maxRingBytes   = 8 << 20
	gatherTime     = 50 * time.Millisecond // for which records are gathered before they are made
	yieldAfter     = 8                     // records, after which other goroutines may run; that wakes a thread, so not after each
	stopTime       = 5 * time.Second       // for what is queued when the recorder stops
)

// Recorder takes records to their sinks. Make one with Open, and call Run.
type Recorder struct {
	queue   chan offered
	waiting atomic.Int64   // bytes in queue
	hurry   chan struct{}  // holds one where the next records are not to be gathered for
	encoder record.Encoder // of what is written
	spare   sync.Pool      // of *line
	log     *slog.Logger
	ring    *ring // nil for none
	sinks   []*sink

	under                          sync.WaitGroup // records under way
	said                           notice
	recorded, dropped, failed, cut atomic.Uint64
}

// offered is a record that is not made yet.
type offered struct {
	make   func() record.Record
	weight int
}

// Stats are counts since the start.
type Stats struct {
	Recorded uint64
	Dropped  uint64 // for want of room
	Failed   uint64 // that could not be encoded
	Cut      uint64 // of those encoded, those that are not whole
	Waiting  int
	Kept     int // in memory
	Sinks    map[string]SinkStats
}

// SinkStats are those of a sink.
type SinkStats struct {
	Written, Dropped, Failed uint64 // records that arrived, that found no room, and that the sink did not take
	Waiting                  int
	Chain                    sealer.Stats
}

// Open makes a recorder; nil where no sink is wanted. It fails where the file cannot be opened.
func Open(options Options) (*Recorder, error) {
	r := &Recorder{queue: make(chan offered, maxQueued), hurry: make(chan struct{}, 1), log: options.Log}
	r.said = notice{log: options.Log, what: "decisions are not recorded"}
	if options.Keep > 0 {
		r.ring = &ring{most: options.Keep}
	}
	if options.File != "" {
		lines, err := openLines(options)
		if err != nil {
			return nil, fmt.Errorf("decisionLog: %w", err)
		}
		after, err := lines.last()
		if err != nil {
			return nil, fmt.Errorf("decisionLog: %w", err)
		}
		r.sinks = append(r.sinks, newSink("log", lines, options, after, r.finish))
	}
	if options.SinkURL != "" {
		events, err := newEvents(options)
		if err != nil {
			return nil, fmt.Errorf("decisionSink: %w", err)
		}
		r.sinks = append(r.sinks, newSink("events", events, options, nil, r.finish))
	}
	if r.ring == nil && len(r.sinks) == 0 {
		return nil, nil
	}
	return r, nil
}

// Offer has a record made, encoded and written, at some time after. weight is what it holds until then, bytes. It never waits.
func (r *Recorder) Offer(weight int, make func() record.Record) {
	waiting := r.waiting.Add(int64(weight))
	if waiting > maxQueuedBytes {
		r.drop(weight)
		return
	}
	if waiting > maxQueuedBytes/2 || len(r.queue) > maxQueued/2 {
		r.hurryUp()
	}
	r.under.Add(1)
	select {
	case r.queue <- offered{make, weight}:
	default:
		r.under.Done()
		r.drop(weight)
	}
}

// Settle waits until what was offered before has come to every sink, or was lost.
func (r *Recorder) Settle() {
	r.hurryUp()
	r.under.Wait()
}

func (r *Recorder) drop(weight int) {
	r.waiting.Add(int64(-weight))
	for _, s := range r.sinks {
		s.writer.Dropped(1)
	}
	r.said.lost(r.dropped.Add(1), "more decisions than can be recorded")
}

// Run records until ctx ends, and then what is queued, for a few seconds at most.
func (r *Recorder) Run(ctx context.Context) {
	ended, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	context.AfterFunc(ctx, func() { time.AfterFunc(stopTime, end) })
	var running sync.WaitGroup
	for _, s := range r.sinks {
		running.Go(func() { s.run(ended) })
		running.Go(func() { s.writer.Run(ctx) })
	}
	r.writeAll(ctx)
	for _, s := range r.sinks {
		close(s.lines)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		running.Wait()
	}()
	select {
	case <-done:
	case <-ended.Done(): // a disk that hangs does not give its goroutine back
	}
}

// writeAll records until ctx ends and the queue is empty. It gathers records for a moment, so that admissions are disturbed once for
// many of them, and leaves the processor to others after each.
func (r *Recorder) writeAll(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case next := <-r.queue:
			r.gather(ctx)
			r.writeRound(next)
		case <-ctx.Done():
		}
	}
	select {
	case next := <-r.queue:
		r.writeRound(next)
	default:
	}
}

// gather waits for more records, unless there is reason to hurry.
func (r *Recorder) gather(ctx context.Context) {
	select {
	case <-r.hurry:
	case <-time.After(gatherTime):
	case <-ctx.Done():
	}
}

// hurryUp ends the present wait for more records, or else the next.
func (r *Recorder) hurryUp() {
	select {
	case r.hurry <- struct{}{}:
	default:
	}
}

// writeRound writes a record and all that wait behind it, and hands them to the sinks in batches.
func (r *Recorder) writeRound(next offered) {
	var lines []*line
	var size int
	more := true
	for n := 1; more; n++ {
		if l := r.write(next); l != nil {
			lines, size = append(lines, l), size+len(l.text)
		}
		yield()
		if n%yieldAfter == 0 {
			runtime.Gosched()
		}
		select {
		case next = <-r.queue:
		default:
			more = false
		}
		if !more || len(lines) == maxBatch || size >= maxBatchBytes {
			r.deliver(lines)
			clear(lines)
			lines, size = lines[:0], 0
		}
	}
}

// write makes a record, and gives its line for the sinks; nil for none. What stays in memory is encoded when somebody reads it.
func (r *Recorder) write(next offered) *line {
	defer r.waiting.Add(int64(-next.weight))
	e := &entry{bytes: next.weight}
	var l *line
	if !r.guard(func() (err error) {
		e.made = next.make()
		l, err = r.line(e)
		return err
	}) {
		r.under.Done()
		return nil
	}
	if l == nil {
		defer r.under.Done()
	}
	e.id, e.namespace, e.outcome = e.made.ID, e.made.Object.Namespace, cmp.Or(e.made.Outcome, record.OutcomeOf(e.made.Verdict.Class))
	r.recorded.Add(1)
	r.ring.add(e)
	return l
}

// line encodes a record for the sinks; nil where there are none.
func (r *Recorder) line(e *entry) (*line, error) {
	if len(r.sinks) == 0 {
		return nil, nil
	}
	made, text, err := r.encoder.Encode(e.made)
	if err != nil {
		return nil, err
	}
	if !made.Replayable {
		r.cut.Add(1)
	}
	e.counted = true
	l, ok := r.spare.Get().(*line)
	if !ok {
		l = &line{}
	}
	l.text = append(l.text[:0], text...)
	return l, nil
}

// maxSpare bounds the memory of a line that is used again, bytes.
const maxSpare = 32 << 10

// finish takes in that a sink is done with a line. Its record is under way until all are.
func (r *Recorder) finish(l *line) {
	if l.left.Add(-1) > 0 {
		return
	}
	if cap(l.text) <= maxSpare {
		r.spare.Put(l)
	}
	r.under.Done()
}

// deliver hands lines to every sink.
func (r *Recorder) deliver(lines []*line) {
	for _, l := range lines {
		l.left.Store(int32(len(r.sinks)))
	}
	for _, s := range r.sinks {
		for _, l := range lines {
			s.offer(l)
		}
	}
}

// read gives the line of a record in memory, of which it takes what it weighs from then on; nil where it has none, which is counted
// and logged.
func (r *Recorder) read(e *entry) []byte {
	text := r.encode(e)
	r.ring.weigh(e, len(text))
	return text
}

func (r *Recorder) encode(e *entry) []byte {
	e.encoding.Lock()
	defer e.encoding.Unlock()
	if e.encoded {
		return e.line
	}
	made := e.made
	r.guard(func() (err error) {
		made, e.line, err = record.Encode(made)
		return err
	})
	if e.line != nil && !made.Replayable && !e.counted {
		r.cut.Add(1)
	}
	e.encoded = true
	e.made = record.Record{ID: made.ID, Object: made.Object, Outcome: made.Outcome} // the line has it all
	return e.line
}

// guard counts and logs an error. A panic on what strangers wrote becomes one.
func (r *Recorder) guard(do func() error) (done bool) {
	defer func() {
		if panicked := recover(); panicked != nil {
			r.said.lost(r.failed.Add(1), fmt.Sprintf("an internal error occurred: %v", panicked))
		}
	}()
	err := do()
	if err != nil {
		r.said.lost(r.failed.Add(1), err.Error())
	}
	return err == nil
}

// Stats gives counts.
func (r *Recorder) Stats() Stats {
	stats := Stats{Recorded: r.recorded.Load(), Dropped: r.dropped.Load(), Failed: r.failed.Load(), Cut: r.cut.Load(), Waiting: len(r.queue), Kept: r.ring.size(), Sinks: map[string]SinkStats{}}
	for _, s := range r.sinks {
		stats.Sinks[s.name] = SinkStats{Written: s.written.Load(), Dropped: s.dropped.Load(), Failed: s.failed.Load(), Waiting: len(s.lines), Chain: s.writer.Stats()}
	}
	return stats
}

// Find gives the record of an id from memory.
func (r *Recorder) Find(id string) (line []byte, ok bool) {
	if e := r.ring.find(id); e != nil {
		line = r.read(e)
	}
	return line, line != nil
}

// Recent gives records from memory, the newest first.
func (r *Recorder) Recent(filter Filter) (lines [][]byte) {
	for _, e := range r.ring.recent(filter) {
		if line := r.read(e); line != nil {
			lines = append(lines, line)
		}
	}
	return lines
}
