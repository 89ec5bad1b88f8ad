package adversary_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/adversary/world"
	"github.com/nirmata/kyverno-notation-venafi/core/ledger"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/function"
)

// TestDecisionsReplay records every decision in generated worlds, and decides again on each record.
func TestDecisionsReplay(t *testing.T) {
	const least = 1000
	file, asked := filepath.Join(t.TempDir(), "decisions.jsonl"), 0
	t.Run("asking", func(t *testing.T) { asked = askRecorded(t, file, least) }) // which ends the service, and with it the writing
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	replayed, cut, reports, how := 0, 0, 0, map[record.How]int{}
	for line := range bytes.Lines(text) {
		text, ok := ledger.Record(line)
		if !ok {
			continue // a line of the chain itself
		}
		r, err := record.Decode(text)
		if err != nil {
			t.Errorf("%v: %.300s", err, line)
			continue
		}
		var lacks *record.CutError
		switch err := record.Replay(r); {
		case errors.As(err, &lacks):
			cut++
		case err != nil:
			t.Errorf("%v", err)
		}
		replayed++
		for _, gathered := range r.Evidence {
			how[gathered.How]++
			for _, asked := range gathered.Asked {
				if asked.Report != nil {
					reports++
				}
			}
		}
	}
	t.Logf("%d decisions replayed, %d of them cut; %d reports on signatures; facts by where they come from: %v; %d bytes a record", replayed-cut, cut, reports, how, len(text)/max(1, replayed))
	if replayed != asked || replayed-cut < least*9/10 || how[record.WorkedOut] < 100 || how[record.Kept] < 100 || reports < 100 {
		t.Errorf("of %d decisions", asked)
	}
}

// askRecorded asks in worlds until there were so many verdicts, each of which a service writes into a file.
func askRecorded(t *testing.T, file string, least int) (asked int) {
	t.Helper()
	trust := map[string][]byte{}
	var made []*world.World
	var hosts []string
	requests := 0
	for seed := *seed; requests < least*3/4; seed++ {
		w, err := world.New(seed, shared.signers)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		made, trust[w.Name] = append(made, w), w.TrustFile()
		hosts = append(hosts, hostsOf(w)...)
		shared.server.Add(w)
		defer shared.server.Remove(w)
		requests += len(w.Requests)
	}
	s := startService(t, trust, hosts, func(settings *function.Settings) { settings.DecisionLog, settings.RecordKept = file, 1 })
	for asked < least {
		for _, w := range made {
			for i := range w.Requests {
				if a := s.ask("/verify", w.Requests[i].Body); a.Status == 200 {
					asked++
				}
			}
		}
	}
	return asked
}
