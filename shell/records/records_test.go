package records

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/core/ledger"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/core/recordkey"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/issuer"
)

// made makes a record.
func made(id int, namespace string) func() record.Record {
	return func() record.Record {
		return record.Record{
			ID: fmt.Sprintf("%026d", id), Time: time.Unix(int64(id), 0).UTC(), Object: core.Object{Kind: "Pod", Namespace: namespace, Name: "web"},
			Plan: record.NewPlan(core.Plan{}, "", verification.Limits{}, nil), Evidence: []record.Gathered{}, Verdict: core.Decide(core.Plan{}, nil, time.Time{}), Patches: []core.Patch{},
		}
	}
}

// start runs a recorder, and gives what stops it.
func start(t *testing.T, options Options) (*Recorder, func()) {
	t.Helper()
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	r, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	stop := func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return r, stop
}

func TestIDsAreULIDs(t *testing.T) {
	now, seen := time.UnixMilli(1469918176385), map[string]bool{}
	for range 10_000 {
		id := NewID(now)
		if !regexp.MustCompile(`^01ARYZ6S41[0-9A-HJKMNP-TV-Z]{16}$`).MatchString(id) || seen[id] { // the time of ULID's specification
			t.Fatalf("%q, seen before: %t", id, seen[id])
		}
		seen[id] = true
	}
	if a, b := NewID(now), NewID(now.Add(time.Millisecond)); a >= b {
		t.Errorf("%s of a later time comes before %s", b, a)
	}
}

func TestNothingToRecord(t *testing.T) {
	if r, err := Open(Options{Log: slog.New(slog.DiscardHandler)}); r != nil || err != nil {
		t.Errorf("%v, %v", r, err)
	}
	for name, options := range map[string]Options{"decisionLog": {File: filepath.Join(t.TempDir(), "none", "file")}, "decisionSink": {SinkURL: "ftp://sink.example"}} {
		options.Log = slog.New(slog.DiscardHandler)
		if _, err := Open(options); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMemoryKeepsTheNewest(t *testing.T) {
	r, _ := start(t, Options{Keep: 3})
	for i := range 5 {
		r.Offer(1, made(i, []string{"a", "b"}[i%2]))
	}
	r.Settle()
	ids := func(filter Filter) (ids string) {
		for _, line := range r.Recent(filter) {
			read, err := record.Decode(line)
			if err != nil {
				t.Fatal(err)
			}
			ids += read.ID[25:]
		}
		return ids
	}
	for want, filter := range map[string]Filter{"432": {Most: 9}, "43": {Most: 2}, "42": {Most: 9, Namespace: "a"}, "": {Most: 9, Outcome: "admitted"}, "4": {Most: 1, Outcome: "denied"}} {
		if got := ids(filter); got != want {
			t.Errorf("%+v gives %q, want %q", filter, got, want)
		}
	}
	if _, ok := r.Find(made(1, "")().ID); ok {
		t.Error("the second record is still there")
	}
	if line, ok := r.Find(made(2, "")().ID); !ok || len(line) == 0 {
		t.Error("the third record is gone")
	}
}

func TestMemoryIsBoundedInBytes(t *testing.T) {
	r := &ring{most: 1 << 20}
	for i := range 100 {
		r.add(&entry{id: fmt.Sprint(i), bytes: 200 << 10})
	}
	if r.bytes > maxRingBytes || r.size() != maxRingBytes/(200<<10) || r.entries[r.size()-1].id != "99" {
		t.Errorf("%d records of %d bytes", r.size(), r.bytes)
	}
}

// TestARecordIsEncodedWhenItIsRead counts what it holds before and after that.
func TestARecordIsEncodedWhenItIsRead(t *testing.T) {
	r, _ := start(t, Options{Keep: 5})
	broken := made(2, "")()
	broken.Patches = slices.Repeat([]core.Patch{{Name: strings.Repeat("x", 1000)}}, record.MaxBytes/1000)
	broken.Caller = strings.Repeat("x", record.MaxBytes)
	r.Offer(100, made(1, ""))
	r.Offer(100, func() record.Record { return broken })
	r.Settle()
	if e := r.ring.find(made(1, "")().ID); e == nil || e.encoded || r.ring.bytes != 200 {
		t.Fatalf("%+v, of %d bytes in all", e, r.ring.bytes)
	}
	for range 2 {
		if line, ok := r.Find(made(1, "")().ID); !ok || r.ring.bytes != 100+len(line) && r.ring.bytes != len(line) {
			t.Errorf("%d bytes in all, for %s", r.ring.bytes, line)
		}
		if line, ok := r.Find(broken.ID); ok {
			t.Errorf("a record that is over its bound is %s", line)
		}
	}
	if stats := r.Stats(); stats.Recorded != 2 || stats.Failed != 1 {
		t.Errorf("%+v", stats)
	}
}

// TestMemoryHasWhatWasWritten holds records in memory against those in a file and a sink, where memory of lines is used again and
// again, and counts once those that were cut.
func TestMemoryHasWhatWasWritten(t *testing.T) {
	const n = 300
	var sent sync.Map // by id
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		var events []struct {
			ID   string
			Data struct{ Record json.RawMessage }
		}
		if err := json.NewDecoder(request.Body).Decode(&events); err != nil {
			t.Error(err)
		}
		for _, event := range events {
			sent.Store(event.ID, string(event.Data.Record))
		}
	}))
	defer sink.Close()
	file := filepath.Join(t.TempDir(), "decisions.jsonl")
	r, stop := start(t, Options{Keep: n, File: file, SinkURL: sink.URL})
	for i := range n {
		r.Offer(1, func() record.Record {
			one := made(i, "a")()
			one.Caller = strings.Repeat("x", 30*i)
			if i%100 == 0 {
				one.Plan.Stores = []record.Store{{Certificates: [][]byte{make([]byte, record.MaxBytes)}}}
			}
			return one
		})
		if i%50 == 0 {
			r.Settle()
		}
	}
	r.Settle()
	written := map[string]string{}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for l := range bytes.Lines(text) {
		var named struct{ ID string }
		if one, ok := ledger.Record(l); ok && json.Unmarshal(one, &named) == nil {
			written[named.ID] = string(one)
		}
	}
	for i := range n {
		id := made(i, "")().ID
		inMemory, _ := r.Find(id)
		event, _ := sent.Load(id)
		if len(inMemory) == 0 || string(inMemory) != written[id] || event != written[id] {
			t.Fatalf("record %d in memory is\n%.99s\nin the file\n%.99s\nin the event\n%.99s", i, inMemory, written[id], event)
		}
	}
	if stats := r.Stats(); stats.Cut != n/100 || stats.Recorded != n {
		t.Errorf("%+v", stats)
	}
	stop()
}

// TestReadingIsBoundedInBytes has lines that are larger than what they were made of.
func TestReadingIsBoundedInBytes(t *testing.T) {
	r := &ring{most: 1 << 20}
	for i := range 100 {
		r.add(&entry{id: fmt.Sprint(i), bytes: 1})
	}
	for _, e := range r.recent(Filter{Most: 100}) {
		r.weigh(e, 200<<10)
	}
	if r.bytes > maxRingBytes || r.entries[r.size()-1].id != "99" {
		t.Errorf("%d records of %d bytes", r.size(), r.bytes)
	}
}

// TestRecordsAreGathered offers many records at once, while others are on their way.
func TestRecordsAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 3 * maxBatch
		sink := &batches{}
		r, err := Open(Options{File: "-", Output: sink, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.Run(ctx) })
		for i := range many {
			r.Offer(1, made(i, ""))
			synctest.Wait()
		}
		if lines, _ := sink.counts(); lines != 0 {
			t.Errorf("%d lines were written at once", lines)
		}
		time.Sleep(gatherTime)
		synctest.Wait()
		if lines, writes := sink.counts(); lines != many+1 || writes > 2*many/maxBatch { // and the start of the chain
			t.Errorf("%d lines in %d batches", lines, writes)
		}
		r.Offer(1, made(many, ""))
		r.Settle() // without a wait
		r.Offer(maxQueuedBytes/2+1, made(many+1, ""))
		synctest.Wait()
		if lines, _ := sink.counts(); lines != many+3 {
			t.Errorf("%d lines, of %d", lines, many+3)
		}
		r.Offer(1, made(many+2, ""))
		cancel()
		running.Wait()
		lines, _ := sink.counts()
		if stats := r.Stats(); lines != many+4 || stats.Recorded != many+3 || stats.Dropped != 0 || r.waiting.Load() != 0 {
			t.Errorf("%d lines, and %+v", lines, stats)
		}
	})
}

// batches counts lines, and the writes that they came in.
type batches struct {
	mu            sync.Mutex
	lines, writes int
}

func (b *batches) counts() (lines, writes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines, b.writes
}

// Write is part of io.Writer.
func (b *batches) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines, b.writes = b.lines+bytes.Count(text, []byte("\n")), b.writes+1
	return len(text), nil
}

// TestOfferNeverWaits offers to a recorder that does not run.
func TestOfferNeverWaits(t *testing.T) {
	var log strings.Builder
	r, err := Open(Options{Keep: 1, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxQueued + 5 {
		r.Offer(1, made(i, ""))
	}
	if stats := r.Stats(); stats.Dropped != 5 || stats.Waiting != maxQueued {
		t.Errorf("%+v", stats)
	}
	if text := log.String(); strings.Count(text, "decisions are not recorded") != 1 { // once for a while
		t.Errorf("the log: %s", text)
	}
	heavy, err := Open(Options{Keep: 1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		heavy.Offer(maxQueuedBytes/2, made(i, ""))
	}
	if stats := heavy.Stats(); stats.Dropped != 1 || stats.Waiting != 2 {
		t.Errorf("of heavy ones: %+v", stats)
	}
}

// TestAPanicLosesOneRecord since strangers write what is recorded.
func TestAPanicLosesOneRecord(t *testing.T) {
	r, _ := start(t, Options{Keep: 5})
	r.Offer(1, func() record.Record { panic("broken") })
	r.Offer(1, made(1, ""))
	r.Settle()
	if stats := r.Stats(); stats.Failed != 1 || stats.Recorded != 1 {
		t.Errorf("%+v", stats)
	}
}

func TestLinesAreRotated(t *testing.T) {
	file := filepath.Join(t.TempDir(), "decisions.jsonl")
	key, err := issuer.RecordKey(recordkey.Policy{Duration: time.Hour}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r, stop := start(t, Options{File: file, FileBytes: 5000, Key: func() *certificates.Pair { return key }, Replica: "pod"})
	for i := range 20 {
		r.Offer(1, made(i, ""))
		r.Settle()
	}
	stop()
	ids := ""
	verifier := ledger.NewVerifier(ledger.Keys{key.Certificate}, nil)
	for _, name := range []string{file + ".1", file} {
		text, err := os.ReadFile(name)
		if err := verifier.Read(name, bytes.NewReader(text), nil); err != nil {
			t.Fatal(err)
		}
		if err != nil || len(text) > 5000 || len(text) == 0 {
			t.Fatalf("%s: %d bytes, %v", name, len(text), err)
		}
		for line := range strings.Lines(string(text)) {
			if text, ok := ledger.Record([]byte(line)); ok {
				read, err := record.Decode(text)
				if err != nil {
					t.Fatal(err)
				}
				ids += read.ID[24:]
			}
		}
	}
	if !strings.HasSuffix("00010203040506070809101112131415161718"+"19", ids) || len(ids) < 8 {
		t.Errorf("the files have the records %s", ids)
	}
	if report := verifier.Report(ledger.Accept{Partial: true}); !report.Whole || !report.Chains[0].Closed {
		t.Errorf("the rest of the log is not proven: %+v", report)
	}
}

// TestATornLineIsEnded begins a line of its own after one that an earlier process did not finish.
func TestATornLineIsEnded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "decisions.jsonl")
	if err := os.WriteFile(file, []byte(`{"id":"torn`), 0o600); err != nil {
		t.Fatal(err)
	}
	r, stop := start(t, Options{File: file})
	r.Offer(1, made(1, ""))
	stop()
	text, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(text), "{\"id\":\"torn\n{") || strings.Count(string(text), "\n") != 3 { // with the start of a chain
		t.Errorf("%s, %v", text, err)
	}
}

// failing is a disk that takes some bytes of a write and then none, until it is mended.
type failing struct {
	text   strings.Builder
	mended bool
}

func (f *failing) Write(p []byte) (int, error) {
	if f.mended {
		return f.text.Write(p)
	}
	n, _ := f.text.Write(p[:3])
	return n, errors.New("no space left on device")
}

// TestAfterAFullDiskLinesAreWhole holds that what was written of a lost batch stays a line of its own.
func TestAfterAFullDiskLinesAreWhole(t *testing.T) {
	disk := &failing{}
	var log strings.Builder
	r, stop := start(t, Options{File: "-", Output: disk, Log: slog.New(slog.NewTextHandler(&log, nil))})
	r.Offer(1, made(1, ""))
	r.Settle()
	disk.mended = true
	r.Offer(1, made(2, ""))
	stop()
	lines := strings.Split(disk.text.String(), "\n") // what was written of the first, the start of a chain, the record, and nothing
	if text, _ := ledger.Record([]byte(lines[len(lines)-2])); len(lines) != 4 || len(lines[0]) != 3 || !strings.Contains(lines[1], `"dropped":1`) || text == nil {
		t.Errorf("%q", disk.text.String())
	}
	if stats := r.Stats().Sinks["log"]; stats.Failed != 1 || stats.Written != 1 {
		t.Errorf("%+v", stats)
	}
	if text := log.String(); !strings.Contains(text, "no space left on device") || !strings.Contains(text, "written again") {
		t.Errorf("the log: %s", text)
	}
}

// TestEventsAreSentAgain counts what a sink is sent that fails at first, by the clock of a bubble.
func TestEventsAreSentAgain(t *testing.T) {
	tests := map[string]struct {
		statuses []int // of the answers, the last one again and again
		tries    int
		written  uint64
	}{
		"a sink that takes them":           {[]int{202}, 1, 1},
		"a sink that fails twice":          {[]int{503, 429, 202}, 3, 1},
		"a sink that is down":              {[]int{503}, 2 * sendTries, 0}, // the start of another chain too, that says that one was lost
		"a sink that does not want them":   {[]int{400}, 2, 0},
		"a sink that sends them elsewhere": {[]int{307}, 2, 0},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				sink := roundTrip(func(request *http.Request) (*http.Response, error) {
					answer := httptest.NewRecorder()
					answer.WriteHeader(tt.statuses[min(tries, len(tt.statuses)-1)])
					tries++
					return answer.Result(), nil
				})
				e := &events{url: "http://sink.example", source: "/test", client: &http.Client{Transport: sink, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
				s := newSink("events", e, Options{Log: slog.New(slog.DiscardHandler)}, nil, func(*line) {})
				_, text, err := record.Encode(made(1, "")())
				if err != nil {
					t.Fatal(err)
				}
				s.offer(&line{text: text})
				close(s.lines)
				s.run(t.Context())
				if tries != tt.tries || s.written.Load() != tt.written || s.failed.Load() != 1-tt.written {
					t.Errorf("%d tries, %d written, %d failed", tries, s.written.Load(), s.failed.Load())
				}
			})
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// TestEventsAreCloudEvents reads what a sink is sent.
func TestEventsAreCloudEvents(t *testing.T) {
	bodies := make(chan []byte, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Content-Type") != "application/cloudevents-batch+json; charset=utf-8" {
			t.Errorf("of the type %s", r.Header.Get("Content-Type"))
		}
		bodies <- body
	}))
	t.Cleanup(server.Close)
	r, stop := start(t, Options{SinkURL: server.URL, Source: "/kyverno-notation-venafi/replica", Keep: 1})
	r.Offer(1, made(7, "a"))
	stop()
	var sent []struct {
		SpecVersion, ID, Source, Type, DataContentType string
		Time                                           time.Time
		Data                                           json.RawMessage
	}
	if err := json.Unmarshal(<-bodies, &sent); err != nil || len(sent) != 2 {
		t.Fatalf("%d events, %v", len(sent), err)
	}
	if e := sent[0]; e.Type != TypeChain || !strings.HasSuffix(e.ID, "-0") || e.Time.IsZero() || !strings.Contains(string(e.Data), `"sequence":0`) {
		t.Errorf("the start of the chain is %+v", e)
	}
	line, _ := r.Find(made(7, "")().ID)
	data, _ := ledger.Record(sent[1].Data)
	if e := sent[1]; e.SpecVersion != "1.0" || e.ID != made(7, "")().ID || e.Source != "/kyverno-notation-venafi/replica" || e.Type != TypeDecision || !e.Time.Equal(time.Unix(7, 0)) || string(data) != string(line) {
		t.Errorf("%+v", e)
	}
}

// TestAnUnreachableSinkTellsNoSecret since its URL may hold one.
func TestAnUnreachableSinkTellsNoSecret(t *testing.T) {
	e, err := newEvents(Options{SinkURL: "http://127.0.0.1:1/?token=s3cret"})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := e.post(t.Context(), nil); !again || err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("%v, again %t", err, again)
	}
}
