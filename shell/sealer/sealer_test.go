package sealer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/core/ledger"
	"github.com/nirmata/kyverno-notation-venafi/core/recordkey"
	"github.com/nirmata/kyverno-notation-venafi/shell/issuer"
	"github.com/nirmata/kyverno-notation-venafi/shell/sealer"
)

// log is a sink that fails when told to.
type log struct {
	text  bytes.Buffer
	fails error
	half  bool // of a batch arrives where it fails
}

func (l *log) deliver(_ context.Context, lines [][]byte) error {
	for i, line := range lines {
		if l.fails != nil && (!l.half || i > 0) {
			return l.fails
		}
		l.text.Write(line)
		l.text.WriteByte('\n')
	}
	return l.fails
}

// setting is a sealer with its log and its key.
type setting struct {
	*sealer.Sealer
	log  *log
	said *bytes.Buffer
	key  *certificates.Pair // nil for none
	keys ledger.Keys
}

func newSetting(t *testing.T, sink *log, after *ledger.Head) *setting {
	t.Helper()
	s := &setting{log: sink, said: &bytes.Buffer{}}
	s.newKey(t)
	s.Sealer = sealer.New(sealer.Options{
		Deliver: sink.deliver, Key: func() *certificates.Pair { return s.key }, Replica: "pod_1/ä", After: after,
		SignAfter: 5, SignEvery: time.Minute, Log: slog.New(slog.NewTextHandler(s.said, nil)),
	})
	return s
}

func (s *setting) newKey(t *testing.T) {
	t.Helper()
	key, err := issuer.RecordKey(recordkey.Policy{Duration: time.Hour}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s.key, s.keys = key, append(s.keys, key.Certificate)
}

func (s *setting) write(from, to int) error {
	var records [][]byte
	for i := from; i <= to; i++ {
		records = append(records, fmt.Appendf(nil, `{"id":"%d"}`, i))
	}
	return s.Write(context.Background(), records)
}

// verified gives the report on the log, and the ids in it.
func (s *setting) verified(t *testing.T, accept ledger.Accept) (ledger.Report, string) {
	t.Helper()
	v := ledger.NewVerifier(s.keys, nil)
	var ids []string
	err := v.Read("log", bytes.NewReader(s.log.text.Bytes()), func(record []byte, _ string, _ uint64) {
		ids = append(ids, strings.Trim(string(record), `{}id:"`))
	})
	if err != nil {
		t.Fatal(err)
	}
	return v.Report(accept), strings.Join(ids, " ")
}

func (s *setting) want(t *testing.T, ids string, chains int, dropped uint64) ledger.Report {
	t.Helper()
	r, got := s.verified(t, ledger.Accept{})
	var lost uint64
	for _, chain := range r.Chains {
		lost += chain.Dropped
	}
	if !r.Whole || got != ids || len(r.Chains) != chains || lost != dropped {
		t.Errorf("records %s in %d chains, %d dropped; want %s in %d, %d dropped: %+v\n%s", got, len(r.Chains), lost, ids, chains, dropped, r.Findings, s.log.text.String())
	}
	return r
}

func TestSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetting(t, &log{}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		go s.Run(ctx)
		if err := errors.Join(s.write(1, 2), s.write(3, 5)); err != nil {
			t.Fatal(err)
		}
		if stats := s.Stats(); stats != (sealer.Stats{Lines: 7, Checkpoints: 1, Chains: 1, Signing: true}) {
			t.Errorf("after enough lines: %+v", stats)
		}
		s.Dropped(3)
		if err := s.write(6, 6); err != nil {
			t.Fatal(err)
		}
		if stats := s.Stats(); stats.Unsigned != 1 {
			t.Errorf("before a minute is over: %+v", stats)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if stats := s.Stats(); stats != (sealer.Stats{Lines: 9, Checkpoints: 2, Chains: 1, Signing: true}) {
			t.Errorf("after a minute: %+v", stats)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if stats := s.Stats(); stats.Lines != 9 {
			t.Errorf("with nothing to sign: %+v", stats)
		}
		s.newKey(t)
		cancel()
		s.Close(context.Background())
		if r := s.want(t, "1 2 3 4 5 6", 1, 3); !r.Chains[0].Closed || r.Chains[0].Replica != "pod_1--" {
			t.Errorf("%+v", r.Chains)
		}
	})
}

// TestFailures has a sink fail before, during and after a batch.
func TestFailures(t *testing.T) {
	full := errors.New("disk full")
	tests := map[string]struct {
		first, half bool // it fails at the first batch; half a batch arrives
		ids         string
		chains      int
	}{
		"later":                          {false, false, "1 2 5 6", 2},
		"later, and a part arrives":      {false, true, "1 2 3 5 6", 2},
		"at the start":                   {true, false, "5 6", 1},
		"at the start, and half arrives": {true, true, "5 6", 2},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSetting(t, &log{half: test.half}, nil)
				lost := uint64(2)
				if !test.first {
					if err := s.write(1, 2); err != nil {
						t.Fatal(err)
					}
				}
				s.log.fails = full
				if err := s.write(3, 4); !errors.Is(err, full) {
					t.Errorf("it says %v", err)
				}
				s.log.fails = nil
				if err := s.write(5, 6); err != nil {
					t.Fatal(err)
				}
				s.Close(context.Background())
				r, ids := s.verified(t, ledger.Accept{})
				var dropped uint64
				for _, chain := range r.Chains {
					dropped += chain.Dropped
				}
				if ids != test.ids || len(r.Chains) != test.chains || dropped != lost {
					t.Errorf("records %s in %d chains, %d dropped\n%s", ids, len(r.Chains), dropped, s.log.text.String())
				}
				if r.Whole == test.half { // what arrived of a batch that failed is signed by nobody
					t.Errorf("whole %t: %+v", r.Whole, r.Findings)
				}
			})
		})
	}
}

// TestKeys has none, one that has expired, and one that comes.
func TestKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetting(t, &log{}, nil)
		first := s.key
		s.key = nil
		if err := s.write(1, 10); err != nil {
			t.Fatal(err)
		}
		if stats := s.Stats(); stats.Signing || stats.Unsigned != 11 || !strings.Contains(s.said.String(), "there is no key") {
			t.Errorf("without a key: %+v, %s", stats, s.said)
		}
		s.key = first
		time.Sleep(2 * time.Hour)
		if err := s.write(11, 11); err != nil {
			t.Fatal(err)
		}
		if stats := s.Stats(); stats.Signing || stats.Unsigned != 12 || !strings.Contains(s.said.String(), "the key is valid from") {
			t.Errorf("with a key that has expired: %+v, %s", stats, s.said)
		}
		s.newKey(t)
		if err := s.write(12, 12); err != nil {
			t.Fatal(err)
		}
		if stats := s.Stats(); !stats.Signing || stats.Unsigned != 0 || !strings.Contains(s.said.String(), "signed again") {
			t.Errorf("with a key: %+v, %s", stats, s.said)
		}
		s.Close(context.Background())
		s.want(t, "1 2 3 4 5 6 7 8 9 10 11 12", 1, 0)
		if lines := strings.Count(s.said.String(), "\n"); lines != 3 {
			t.Errorf("it logged %d lines:\n%s", lines, s.said)
		}
	})
}

// TestRestart continues a log after its process was killed, with a torn line at its end or without.
func TestRestart(t *testing.T) {
	for _, torn := range []string{"", `{"chain":"AAAA`} {
		synctest.Test(t, func(t *testing.T) {
			sink := &log{}
			killed := newSetting(t, sink, nil)
			if err := killed.write(1, 3); err != nil {
				t.Fatal(err)
			}
			sink.text.WriteString(torn)
			after, err := sealer.Tail(bytes.NewReader(sink.text.Bytes()), int64(sink.text.Len()))
			if err != nil || after == nil {
				t.Fatalf("after %v: %v", after, err)
			}
			sink.text.Truncate(sink.text.Len() - len(torn))
			s := newSetting(t, sink, after)
			ctx, cancel := context.WithCancel(t.Context())
			go s.Run(ctx)
			time.Sleep(2 * time.Minute) // no record comes, and the new chain vouches for the old one nevertheless
			synctest.Wait()
			cancel()
			if r, _ := s.verified(t, ledger.Accept{Open: true}); !r.Whole || len(r.Chains) != 2 || r.Chains[0].Unsigned != 0 {
				t.Errorf("before it ends: %+v", r)
			}
			s.Close(context.Background())
			s.want(t, "1 2 3", 2, 0)
		})
	}
}

func TestRefusedRecords(t *testing.T) {
	s := newSetting(t, &log{}, nil)
	if err := s.Write(t.Context(), [][]byte{[]byte(`{"id":"1"}`), []byte(`nonsense`), []byte(`{"id":"2"}`)}); err == nil {
		t.Error("nonsense is sealed")
	}
	if err := s.write(1, sealer.MaxRecords+1); err == nil {
		t.Error("too many are sealed at once")
	}
	s.Close(t.Context())
	s.want(t, "1 2", 1, 1)
}

func TestTailOfNothing(t *testing.T) {
	if head, err := sealer.Tail(strings.NewReader(""), 0); head != nil || err != nil {
		t.Errorf("%v, %v", head, err)
	}
	if _, err := sealer.Tail(strings.NewReader("x"), 2); err == nil {
		t.Error("a log that became shorter is no error")
	}
}
