package function_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/ledger"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// recorded makes decisions readable by everyone.
func recorded(s *function.Settings) { s.DecisionsWithoutToken = true }

// decision waits for the record of an answer.
func (b *bench) decision(t testing.TB, answer reply) record.Record {
	t.Helper()
	b.service.AwaitRecords()
	got := b.get(t, "/decisions/"+answer.decision)
	if got.status != http.StatusOK {
		t.Fatalf("the decision %s: %d %s", answer.decision, got.status, got.text)
	}
	r, err := record.Decode([]byte(got.text))
	if err != nil {
		t.Fatalf("%v: %s", err, got.text)
	}
	return r
}

func (b *bench) get(t testing.TB, path string) reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b.send(t, request)
}

// TestRecordsNameTheObject as its metadata says, and where it has none, as the policy says.
func TestRecordsNameTheObject(t *testing.T) {
	b := start(t, registries(t)["referrers API"], "", recorded)
	for sentence, want := range map[string]struct {
		metadata, admission string
		object              core.Object
	}{
		"of metadata alone":     {`{"namespace":"shop","generateName":"web-"}`, `{}`, core.Object{Kind: "Pod", Namespace: "shop", Name: "web-*"}},
		"of the policy alone":   {`{}`, `{"operation":"UPDATE","namespace":"shop","name":"web"}`, core.Object{Kind: "Pod", Namespace: "shop", Name: "web", Operation: "UPDATE"}},
		"of both":               {`{"namespace":"shop","name":"web"}`, `{"operation":"CREATE","namespace":"else","name":"else"}`, core.Object{Kind: "Pod", Namespace: "shop", Name: "web", Operation: "CREATE"}},
		"of none":               {`{}`, `{"operation":""}`, core.Object{Kind: "Pod"}},
		"of a name without end": {`{}`, `{"name":"` + strings.Repeat("x", 9000) + `"}`, core.Object{Kind: "Pod", Name: strings.Repeat("x", 255) + "..."}},
	} {
		t.Run(sentence, func(t *testing.T) {
			body := `{"object":{"kind":"Pod","metadata":` + want.metadata + `,"spec":{"containers":[{"name":"a","image":"` + b.scenario.Reference("none") + `"}]}},"admission":` + want.admission + `}`
			if r := b.decision(t, b.post(t, "/verify", body)); r.Object != want.object {
				t.Errorf("the record names %+v", r.Object)
			}
		})
	}
}

// TestDecisionsReplay records the decision about the image of every case, of those with attestations too, and decides again on
// the record.
func TestDecisionsReplay(t *testing.T) {
	for kind, options := range registries(t) {
		t.Run(kind, func(t *testing.T) {
			b := start(t, options, "", recorded)
			workedOut, reports := 0, 0
			for _, c := range scenariotest.Cases() {
				if _, err := b.scenario.Publish(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				answer := b.post(t, "/checkimages", pod(b.scenario.Reference(c.Name)))
				r := b.decision(t, answer)
				if err := record.Replay(r); err != nil {
					t.Errorf("%s: %v", c.Name, err)
				}
				if r.Object.Kind != "Pod" || r.Endpoint != "/checkimages" || !strings.HasPrefix(r.Request.Digest, "sha256:") || r.Request.Bytes == 0 || r.Took <= 0 {
					t.Errorf("%s: the record says %+v", c.Name, r)
				}
				if answer.status != http.StatusOK && r.Verdict.Message != answer.text {
					t.Errorf("%s: the record says %q, and the answer %q", c.Name, r.Verdict.Message, answer.text)
				}
				for _, gathered := range r.Evidence {
					if gathered.How == record.WorkedOut {
						workedOut++
					}
					for _, asked := range gathered.Asked {
						if asked.Report != nil {
							reports++
						}
					}
				}
			}
			if workedOut < 10 || reports < 5 {
				t.Errorf("%d verifications were recorded, with %d reports on signatures", workedOut, reports)
			}
		})
	}
}

// TestKeptDecisions records what comes from the cache where it denies, or where that is asked for, with the decision that it
// comes from.
func TestKeptDecisions(t *testing.T) {
	b := start(t, registrytest.Options{}, "", recorded)
	signed, _ := b.publish(t, "signed")
	unsigned, _ := b.publish(t, "unsigned")
	first := b.post(t, "/checkimages", pod(signed))
	second := b.post(t, "/checkimages", pod(signed))
	b.service.AwaitRecords()
	if got := b.get(t, "/decisions/"+second.decision); got.status != http.StatusNotFound {
		t.Errorf("the record of a kept decision that admits: %d %s", got.status, got.text)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/checkimages", strings.NewReader(pod(signed)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Record-Decision", "yes")
	denied := b.post(t, "/checkimages", pod(unsigned))
	for sentence, kept := range map[string]struct {
		answer reply
		from   string
	}{
		"asked for": {b.send(t, request), first.decision},
		"a denial":  {b.post(t, "/checkimages", pod(unsigned)), denied.decision},
	} {
		r := b.decision(t, kept.answer)
		if r.Evidence[0].How != record.Kept || r.Evidence[0].From != kept.from || len(r.Evidence[0].Asked) > 0 {
			t.Errorf("%s: %+v; want it from %s", sentence, r.Evidence[0], kept.from)
		}
		if err := record.Replay(r); err != nil {
			t.Errorf("%s: %v", sentence, err)
		}
	}
}

// TestEveryKeptDecisionIsRecordedOnDemand counts the sample.
func TestEveryKeptDecisionIsRecordedOnDemand(t *testing.T) {
	b := start(t, registrytest.Options{}, "", func(s *function.Settings) { recorded(s); s.RecordKept = 3 })
	signed, _ := b.publish(t, "signed")
	for range 10 {
		b.post(t, "/verify", pod(signed))
	}
	b.service.AwaitRecords()
	var recent struct {
		Decisions []record.Record `json:"decisions"`
	}
	if err := json.Unmarshal([]byte(b.get(t, "/decisions?outcome=admitted").text), &recent); err != nil {
		t.Fatal(err)
	}
	if len(recent.Decisions) != 4 { // the first, and three of nine
		t.Errorf("%d decisions were recorded", len(recent.Decisions))
	}
}

// TestNothingIsRecordedForNobody looks at what the service counts: by default, nobody may read decisions, nor are they written.
func TestNothingIsRecordedForNobody(t *testing.T) {
	b := start(t, registrytest.Options{}, "", nil)
	if answer := b.post(t, "/checkimages", pod("ghcr.io/acme/app:v1")); answer.decision == "" {
		t.Error("a decision has no id")
	}
	if metrics := b.get(t, "/metrics").text; strings.Contains(metrics, "decision_records") {
		t.Errorf("decisions are recorded for nobody: %s", metrics)
	}
}

// TestDecisionsAreForThoseWhoMayReadThem since they tell of all namespaces.
func TestDecisionsAreForThoseWhoMayReadThem(t *testing.T) {
	for sentence, tt := range map[string]struct {
		change setting
		status int
	}{
		"nobody by default":      {nil, http.StatusForbidden},
		"nothing is recorded":    {func(s *function.Settings) { recorded(s); s.DecisionsInMemory = 0 }, http.StatusNotFound},
		"everyone, if so wanted": {recorded, http.StatusOK},
	} {
		b := start(t, registrytest.Options{}, "", tt.change)
		if got := b.get(t, "/decisions"); got.status != tt.status || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %s", sentence, got.status, got.text)
		}
	}
	b := start(t, registrytest.Options{}, "", recorded)
	for path, want := range map[string]int{
		"/decisions?limit=0": http.StatusBadRequest, "/decisions?limit=x": http.StatusBadRequest, "/decisions?limit=501": http.StatusBadRequest,
		"/decisions?limit=500&namespace=a": http.StatusOK, "/decisions/01J": http.StatusNotFound,
	} {
		if got := b.get(t, path); got.status != want {
			t.Errorf("%s: %d %s", path, got.status, got.text)
		}
	}
}

// TestDecisionLog reads the file: it holds the record as memory does, in a chain that the next start goes on with.
func TestDecisionLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "decisions.jsonl")
	var want []string
	for _, start := range []string{"the first start", "the second start"} {
		t.Run(start, func(t *testing.T) {
			b := prepare(t, registrytest.Options{}, "")
			b.serve(t, func(s *function.Settings) { recorded(s); s.DecisionLog = file })
			unsigned, _ := b.publish(t, "unsigned")
			answer := b.post(t, "/checkimages", pod(unsigned))
			want = append(want, b.get(t, "/decisions/"+b.decision(t, answer).ID).text)
		})
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	verifier := ledger.NewVerifier(nil, nil)
	var have []string
	if err := verifier.Read(file, bytes.NewReader(text), func(record []byte, _ string, _ uint64) { have = append(have, string(record)) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(have, want) {
		t.Errorf("the file has %s, and memory %s", have, want)
	}
	report := verifier.Report(ledger.Accept{})
	for _, finding := range report.Findings {
		if finding.Kind != ledger.Unsigned { // there is no key without a cluster
			t.Errorf("%+v", finding)
		}
	}
	if len(report.Chains) != 2 || report.Chains[0].ContinuedBy+report.Chains[1].ContinuedBy == "" {
		t.Errorf("the chains are %+v", report.Chains)
	}
}

// TestAFullDiskIsNotInTheWay writes to a device that is always full: the answers are as before, and log and metric say what is
// lost.
func TestAFullDiskIsNotInTheWay(t *testing.T) {
	b := prepare(t, registrytest.Options{}, "")
	var log lockedBuffer
	b.log = slog.New(slog.NewJSONHandler(&log, nil))
	b.serve(t, func(s *function.Settings) { recorded(s); s.DecisionLog = "/dev/full" })
	unsigned, _ := b.publish(t, "unsigned")
	for range 5 {
		if answer := b.post(t, "/checkimages", pod(unsigned)); answer.status != http.StatusNotAcceptable {
			t.Fatalf("%d %s", answer.status, answer.text)
		}
	}
	b.service.AwaitRecords()
	metrics := b.get(t, "/metrics").text
	if !strings.Contains(metrics, `kyverno_notation_venafi_decision_sink_records_total{outcome="failed",sink="log"} 5`) {
		t.Errorf("the metrics do not say that 5 records were lost: %s", metrics)
	}
	if text := log.String(); !strings.Contains(text, "decision records are lost") || !strings.Contains(text, "no space left on device") {
		t.Errorf("the log does not say so: %s", text)
	}
}
