package ledger_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/core/ledger"
)

var start = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	chainA = "AAAAAAAAAAAAAAAAAAAAAAAAAA"
	chainB = "BBBBBBBBBBBBBBBBBBBBBBBBBB"
	chainC = "CCCCCCCCCCCCCCCCCCCCCCCCCC"
)

// newKey makes a key that is valid from some hours after start for some hours.
func newKey(t *testing.T, from, hours int) *certificates.Pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	begin := start.Add(time.Duration(from) * time.Hour)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: begin, NotAfter: begin.Add(time.Duration(hours) * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &certificates.Pair{Certificate: certificate, Key: key}
}

// writer writes chains into one log. Each line takes a second.
type writer struct {
	t     *testing.T
	now   time.Time
	lines []string
	chain map[string]ledger.Chain
}

func newWriter(t *testing.T) *writer {
	return &writer{t: t, now: start.Add(time.Minute), chain: map[string]ledger.Chain{}}
}

func (w *writer) keep(next ledger.Chain, text []byte, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	w.chain[next.Head().Chain] = next
	w.lines = append(w.lines, string(text))
	w.now = w.now.Add(time.Second)
}

func (w *writer) start(chain, replica string, after *ledger.Head) {
	w.t.Helper()
	w.keep(ledger.Start(chain, replica, w.now, after, 0))
}

func (w *writer) record(chain string, n int) {
	w.t.Helper()
	w.keep(w.chain[chain].Record(fmt.Appendf(nil, `{"id":"%s%d","note":"<&> \u2028 é"}`, chain[:1], n), 0))
}

func (w *writer) checkpoint(chain string, key *certificates.Pair, closed bool) {
	w.t.Helper()
	w.keep(w.chain[chain].Checkpoint(key, w.now, closed))
}

func (w *writer) head(chain string) *ledger.Head {
	head := w.chain[chain].Head()
	return &head
}

// small is a log of one chain: start, two records, checkpoint, two records, last checkpoint.
func small(t *testing.T, key *certificates.Pair) *writer {
	t.Helper()
	w := newWriter(t)
	w.start(chainA, "pod-a", nil)
	w.record(chainA, 1)
	w.record(chainA, 2)
	w.checkpoint(chainA, key, false)
	w.record(chainA, 3)
	w.record(chainA, 4)
	w.checkpoint(chainA, key, true)
	return w
}

// verify verifies files, each the lines of one.
func verify(t *testing.T, keys ledger.Keys, seen []ledger.Head, accept ledger.Accept, files ...string) ledger.Report {
	t.Helper()
	v := ledger.NewVerifier(keys, seen)
	for i, file := range files {
		if err := v.Read(fmt.Sprint("log.", i), strings.NewReader(file), nil); err != nil {
			t.Fatal(err)
		}
	}
	return v.Report(accept)
}

func text(lines []string) string { return strings.Join(lines, "\n") + "\n" }

func kinds(r ledger.Report) string {
	var kinds []string
	for _, finding := range r.Findings {
		kinds = append(kinds, string(finding.Kind))
	}
	return strings.Join(slices.Compact(kinds), " ")
}

func TestWholeLogs(t *testing.T) {
	key, next := newKey(t, 0, 1), newKey(t, 0, 2)
	keys := ledger.Keys{key.Certificate, next.Certificate}
	tests := map[string]func(w *writer){
		"one chain, closed": func(w *writer) {
			w.start(chainA, "pod-a", nil)
			w.record(chainA, 1)
			w.checkpoint(chainA, key, true)
		},
		"two replicas in one file": func(w *writer) {
			w.start(chainA, "pod-a", nil)
			w.start(chainB, "pod-b", nil)
			w.record(chainA, 1)
			w.record(chainB, 1)
			w.checkpoint(chainB, key, false)
			w.record(chainB, 2)
			w.checkpoint(chainA, key, true)
			w.checkpoint(chainB, key, true)
		},
		"a killed process, and a start that names its last line": func(w *writer) {
			w.start(chainA, "pod-a", nil)
			w.record(chainA, 1)
			w.start(chainB, "pod-a", w.head(chainA))
			w.checkpoint(chainB, key, true)
		},
		"two killed processes": func(w *writer) {
			w.start(chainA, "pod-a", nil)
			w.record(chainA, 1)
			w.start(chainB, "pod-a", w.head(chainA))
			w.record(chainB, 1)
			w.start(chainC, "pod-a", w.head(chainB))
			w.checkpoint(chainC, key, true)
		},
		"a key that is rotated": func(w *writer) {
			w.start(chainA, "pod-a", nil)
			w.checkpoint(chainA, key, false)
			w.now = start.Add(90 * time.Minute)
			w.record(chainA, 1)
			w.checkpoint(chainA, next, true)
		},
		"a clock that goes back": func(w *writer) {
			w.start(chainA, "pod-a", nil)
			w.record(chainA, 1)
			w.checkpoint(chainA, key, false)
			w.now = start.Add(-time.Hour)
			w.checkpoint(chainA, key, true)
		},
	}
	for sentence, write := range tests {
		t.Run(sentence, func(t *testing.T) {
			w := newWriter(t)
			write(w)
			if r := verify(t, keys, nil, ledger.Accept{}, text(w.lines)); !r.Whole || len(r.Findings) > 0 || r.Lines != len(w.lines) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestEveryByteCounts changes each byte of a log to several others.
func TestEveryByteCounts(t *testing.T) {
	key := newKey(t, 0, 1)
	w := newWriter(t)
	w.start(chainA, "pod-a", nil)
	w.record(chainA, 1)
	w.checkpoint(chainA, key, false)
	w.record(chainA, 2)
	w.checkpoint(chainA, key, true)
	log := []byte(text(w.lines))
	keys := ledger.Keys{key.Certificate}
	if !verify(t, keys, nil, ledger.Accept{}, string(log)).Whole {
		t.Fatal("the log is not whole to begin with")
	}
	for i := range log {
		for _, mask := range []byte{1, 2, 32} {
			log[i] ^= mask
			if verify(t, keys, nil, ledger.Accept{Partial: true, Open: true}, string(log)).Whole {
				t.Errorf("byte %d changed by %d in %q is not found", i, mask, log[max(0, i-20):min(len(log), i+20)])
			}
			log[i] ^= mask
		}
	}
}

// TestMendedLogs changes logs as who has the file, but no key, might. Each change is found even where both a beginning and an end
// may be missing, unless it says what is to be accepted.
func TestMendedLogs(t *testing.T) {
	key, other, expired := newKey(t, 0, 1), newKey(t, 0, 1), newKey(t, -2, 1)
	keys := ledger.Keys{key.Certificate, expired.Certificate}
	both := ledger.Accept{Partial: true, Open: true}
	lines := small(t, key).lines
	cut := func(from, to int) []string { return slices.Concat(lines[:from], lines[to:]) }
	tests := map[string]struct {
		lines  []string
		accept ledger.Accept
		want   string
	}{
		"a record removed":                       {cut(1, 2), both, "Missing"},
		"a record before the last removed":       {cut(5, 6), both, "Missing"},
		"a checkpoint removed":                   {cut(3, 4), both, "Missing"},
		"two lines swapped":                      {[]string{lines[0], lines[2], lines[1], lines[3], lines[4], lines[5], lines[6]}, both, "Missing Repeated"},
		"a record repeated":                      {slices.Insert(slices.Clone(lines), 2, lines[1]), both, "Repeated"},
		"the whole log repeated":                 {slices.Concat(lines, lines), both, "Repeated"},
		"a line that is none":                    {slices.Insert(slices.Clone(lines), 2, `{"id":"A9"}`), both, "Malformed"},
		"an empty line":                          {slices.Insert(slices.Clone(lines), 2, ""), both, "Malformed"},
		"an empty line at the end":               {append(slices.Clone(lines), ""), both, "Malformed"},
		"the end cut off":                        {lines[:5], ledger.Accept{Partial: true}, "Open"},
		"the end cut off after a checkpoint":     {lines[:4], ledger.Accept{Partial: true}, "Open"},
		"the end cut off before all checkpoints": {lines[:3], both, "Unsigned"},
		"the beginning cut off":                  {lines[1:], ledger.Accept{Open: true}, "Partial"},
		"all cut off":                            {nil, both, "Malformed Unsigned"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			if r := verify(t, keys, nil, test.accept, text(test.lines)); r.Whole || kinds(r) != test.want {
				t.Errorf("found %q; want %q: %+v", kinds(r), test.want, r)
			}
		})
	}
	writes := map[string]struct {
		write func(w *writer)
		want  string
	}{
		"a chain written anew with another key": {func(w *writer) {
			w.start(chainA, "pod-a", nil)
			w.checkpoint(chainA, other, true)
		}, "BadKey Unsigned"},
		"a chain written anew without a key": {func(w *writer) {
			w.start(chainA, "pod-a", nil)
			w.record(chainA, 1)
		}, "Unsigned"},
		"with a key that has expired, for a time when it was valid": {func(w *writer) {
			w.start(chainA, "pod-a", nil)
			w.checkpoint(chainA, key, false)
			w.record(chainA, 1)
			w.keep(ledger.Start(chainB, "pod-a", start.Add(-90*time.Minute), w.head(chainA), 0))
			w.keep(w.chain[chainB].Checkpoint(expired, start.Add(-80*time.Minute), true))
		}, "BadTime Open"},
		"the end of a chain that another one names": {func(w *writer) {
			w.start(chainA, "pod-a", nil)
			w.checkpoint(chainA, key, false)
			w.record(chainA, 1)
			w.start(chainB, "pod-a", w.head(chainA))
			w.checkpoint(chainB, key, true)
			w.lines = slices.Delete(w.lines, 2, 3)
		}, "Missing Open"},
		"a line after the end of a chain that another one names": {func(w *writer) {
			w.start(chainA, "pod-a", nil)
			w.checkpoint(chainA, key, false)
			w.start(chainB, "pod-a", w.head(chainA))
			w.record(chainA, 1)
			w.checkpoint(chainB, key, true)
		}, "Open"},
	}
	for sentence, test := range writes {
		t.Run(sentence, func(t *testing.T) {
			w := newWriter(t)
			test.write(w)
			if r := verify(t, keys, nil, ledger.Accept{}, text(w.lines)); r.Whole || kinds(r) != test.want {
				t.Errorf("found %q; want %q: %+v", kinds(r), test.want, r)
			}
		})
	}
}

// TestForgedCheckpoints replaces the last checkpoint by others that are well made.
func TestForgedCheckpoints(t *testing.T) {
	key := newKey(t, 0, 1)
	keys := ledger.Keys{key.Certificate}
	w := small(t, key)
	notes := func(i int) string {
		var l struct{ Checkpoint string }
		if err := json.Unmarshal([]byte(w.lines[i]), &l); err != nil {
			t.Fatal(err)
		}
		return l.Checkpoint
	}
	last := notes(6)
	body, signature, _ := strings.Cut(last, "\n\n")
	again := func(change func(string) string, with *certificates.Pair) string {
		signed, err := note.Sign(&note.Note{Text: change(body) + "\n"}, independent{with})
		if err != nil {
			t.Fatal(err)
		}
		return string(signed)
	}
	replace := func(old, new string) func(string) string {
		return func(s string) string { return strings.Replace(s, old, new, 1) }
	}
	tests := map[string]struct{ note, want string }{
		"as it was":                       {last, ""},
		"signed again":                    {again(replace("", ""), key), ""},
		"the one before it":               {notes(3), "Contradict Open"},
		"of another replica":              {again(replace("pod-a", "pod-b"), key), "Contradict Open"},
		"of another chain":                {again(replace(chainA, chainB), key), "Contradict Open"},
		"of another size":                 {again(replace("\n6\n", "\n5\n"), key), "Contradict Open"},
		"of another start":                {again(replace("start 2030-01-01T00:01:00", "start 2030-01-01T00:00:59"), key), "Contradict Open"},
		"before the one before it":        {again(replace("time 2030-01-01T00:01:06", "time 2030-01-01T00:01:02"), key), "BadTime Open"},
		"before the key":                  {again(replace("time 2030-01-01T00:01:06", "time 2029-12-31T23:59:59"), key), "BadTime Open"},
		"after the key":                   {again(replace("time 2030-01-01T00:01:06", "time 2030-01-01T01:00:01"), key), "BadKey Open"},
		"with an unknown key":             {again(replace("", ""), newKey(t, 0, 1)), "BadKey Open"},
		"with two signatures":             {last + signature, "BadSign Open"},
		"with a line too many":            {again(replace("closed", "closed\nmore"), key), "BadSign Open"},
		"with a time in another form":     {again(replace("000Z\nclosed", "00Z\nclosed"), key), "BadSign Open"},
		"without a signature":             {body + "\n", "BadSign Open"},
		"with another of the signature's": {body + "\n\n" + flipped(t, body+"\n", signature, key), "BadSign Open"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			encoded := strings.NewReplacer("\n", `\n`).Replace(test.note)
			lines := append(slices.Clone(w.lines[:6]), strings.Replace(w.lines[6], strings.ReplaceAll(last, "\n", `\n`), encoded, 1))
			r := verify(t, keys, nil, ledger.Accept{}, text(lines))
			if kinds(r) != test.want || r.Whole != (test.want == "") {
				t.Errorf("found %q; want %q: %+v", kinds(r), test.want, r.Findings)
			}
		})
	}
}

// independent signs and verifies as Rekor's checkpoints are signed.
type independent struct{ key *certificates.Pair }

func (independent) Name() string { return "kyverno-notation-venafi/records" }

func (i independent) KeyHash() uint32 {
	der, _ := x509.MarshalPKIXPublicKey(i.key.Key.Public())
	sum := sha256.Sum256(der)
	return binary.BigEndian.Uint32(sum[:])
}

func (i independent) Sign(message []byte) ([]byte, error) {
	for { // until s is small
		sum := sha256.Sum256(message)
		r, s, err := ecdsa.Sign(rand.Reader, i.key.Key.(*ecdsa.PrivateKey), sum[:])
		if err != nil || s.Cmp(new(big.Int).Rsh(elliptic.P256().Params().N, 1)) <= 0 {
			return derOf(r, s), err
		}
	}
}

func (i independent) Verify(message, signature []byte) bool {
	sum := sha256.Sum256(message)
	return ecdsa.VerifyASN1(i.key.Key.Public().(*ecdsa.PublicKey), sum[:], signature)
}

// TestCheckpointsAreSignedNotes opens one with the library and nothing of ours.
func TestCheckpointsAreSignedNotes(t *testing.T) {
	key := newKey(t, 0, 1)
	w := small(t, key)
	var l struct{ Checkpoint, Previous string }
	if err := json.Unmarshal([]byte(w.lines[6]), &l); err != nil {
		t.Fatal(err)
	}
	opened, err := note.Open([]byte(l.Checkpoint), note.VerifierList(independent{key}))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(opened.Text, "kyverno-notation-venafi/records/pod-a/"+chainA+"\n6\n") || !strings.HasSuffix(opened.Text, "\nclosed\n") {
		t.Errorf("it says %q", opened.Text)
	}
	if again := small(t, key); !slices.Equal(again.lines, w.lines) {
		t.Error("the same records, key and times give other lines")
	}
}

func TestRotatedFiles(t *testing.T) {
	key := newKey(t, 0, 1)
	keys := ledger.Keys{key.Certificate}
	lines := small(t, key).lines
	first, second, third := text(lines[:2]), text(lines[2:5]), text(lines[5:])
	partial := ledger.Accept{Partial: true}
	tests := map[string]struct {
		files  []string
		accept ledger.Accept
		want   string
		whole  bool
	}{
		"in order":                         {[]string{first, second, third}, ledger.Accept{}, "", true},
		"in any order":                     {[]string{third, first, second}, ledger.Accept{}, "", true},
		"the last ones":                    {[]string{second, third}, ledger.Accept{}, "Partial", false},
		"the last ones, as is known":       {[]string{third, second}, partial, "Partial", true},
		"the first ones":                   {[]string{first, second}, partial, "Open", false},
		"the first ones, as is known":      {[]string{first, second}, ledger.Accept{Open: true}, "Open", true},
		"one in the middle is missing":     {[]string{first, third}, ledger.Accept{Partial: true, Open: true}, "Missing", false},
		"one is there twice":               {[]string{first, second, second, third}, ledger.Accept{Partial: true, Open: true}, "Repeated", false},
		"a line was cut off at their seam": {[]string{first, text(lines[3:5]), third}, ledger.Accept{Partial: true, Open: true}, "Missing", false},
		"a line is changed at their seam":  {[]string{text([]string{lines[0], strings.Replace(lines[1], "A1", "A9", 1)}), second, third}, ledger.Accept{Partial: true, Open: true}, "Changed", false},
		"the last line has no end":         {[]string{strings.TrimSuffix(text(lines), "\n")}, ledger.Accept{Partial: true, Open: true}, "Torn Open", false},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			if r := verify(t, keys, nil, test.accept, test.files...); kinds(r) != test.want || r.Whole != test.whole {
				t.Errorf("found %q, whole %t; want %q: %+v", kinds(r), r.Whole, test.want, r.Findings)
			}
		})
	}
}

// TestSeenHeads exchanges a log for an earlier copy of itself.
func TestSeenHeads(t *testing.T) {
	key := newKey(t, 0, 1)
	keys := ledger.Keys{key.Certificate}
	w := small(t, key)
	seen := verify(t, keys, nil, ledger.Accept{}, text(w.lines)).Heads()
	both := ledger.Accept{Partial: true, Open: true}
	older := text(w.lines[:4])
	if r := verify(t, keys, nil, both, older); !r.Whole {
		t.Errorf("an earlier copy by itself: %+v", r.Findings)
	}
	if r := verify(t, keys, seen, both, older); r.Whole || kinds(r) != "Rollback Open" {
		t.Errorf("an earlier copy: %+v", r.Findings)
	}
	if r := verify(t, keys, seen, both, text(w.lines)); !r.Whole {
		t.Errorf("the same log: %+v", r.Findings)
	}
	middle := []ledger.Head{{Chain: chainA, Sequence: 4, Hash: strings.Repeat("0", 64)}}
	if r := verify(t, keys, middle, both, text(w.lines)); r.Whole || kinds(r) != "Rollback" {
		t.Errorf("another line was seen: %+v", r.Findings)
	}
	w = newWriter(t)
	w.start(chainB, "pod-b", nil)
	w.checkpoint(chainB, key, true)
	if r := verify(t, keys, seen, ledger.Accept{Open: true}, text(w.lines)); r.Whole || kinds(r) != "Partial" {
		t.Errorf("another log: %+v", r.Findings)
	}
}

func TestStateOfAChain(t *testing.T) {
	key, late := newKey(t, 0, 1), newKey(t, 2, 1)
	chain, _, err := ledger.Start(chainA, "pod-a", start, nil, 3)
	if err != nil {
		t.Fatal(err)
	}
	for sentence, refused := range map[string]func() (ledger.Chain, []byte, error){
		"a record that is no object": func() (ledger.Chain, []byte, error) { return chain.Record([]byte(`[]`), 0) },
		"a record that is no JSON":   func() (ledger.Chain, []byte, error) { return chain.Record([]byte(`{`), 0) },
		"a record over the bound": func() (ledger.Chain, []byte, error) {
			return chain.Record(fmt.Appendf(nil, `{"a":"%s"}`, strings.Repeat("x", ledger.MaxLine)), 0)
		},
		"a key that is not valid yet":   func() (ledger.Chain, []byte, error) { return chain.Checkpoint(late, start, false) },
		"a key that is not valid still": func() (ledger.Chain, []byte, error) { return chain.Checkpoint(key, start.Add(2*time.Hour), false) },
		"a replica without a name":      func() (ledger.Chain, []byte, error) { return ledger.Start(chainA, "a/b", start, nil, 0) },
		"a chain without a name":        func() (ledger.Chain, []byte, error) { return ledger.Start("short", "a", start, nil, 0) },
	} {
		if next, text, err := refused(); err == nil || text != nil || next.Head() != chain.Head() && next.Head() != (ledger.Head{}) {
			t.Errorf("%s: %s, %v", sentence, text, err)
		}
	}
	if chain.Unsigned() != 1 {
		t.Errorf("%d lines are unsigned", chain.Unsigned())
	}
	closed, _, err := chain.Checkpoint(key, start, true)
	if err != nil || closed.Unsigned() != 0 {
		t.Fatalf("%d lines are unsigned: %v", closed.Unsigned(), err)
	}
	if _, _, err := closed.Record([]byte(`{}`), 0); err == nil {
		t.Error("a closed chain goes on")
	}
}

func TestRecordAndLastHead(t *testing.T) {
	w := small(t, newKey(t, 0, 1))
	var records []string
	for _, l := range append(w.lines, `{"id":"X"}`, `nonsense`) {
		if record, ok := ledger.Record([]byte(l)); ok {
			records = append(records, string(record))
		}
	}
	if len(records) != 5 || !strings.Contains(w.lines[1], records[0]) || records[4] != `{"id":"X"}` {
		t.Errorf("records %q", records)
	}
	log := text(w.lines[:6])
	want := ledger.Head{Chain: chainA, Sequence: 5, Hash: fmt.Sprintf("%x", sha256.Sum256([]byte(w.lines[5])))}
	for sentence, tail := range map[string]string{
		"a whole log": log, "the end of one": log[len(w.lines[0])+20:], "a torn line behind it": log + w.lines[6][:30], "nonsense behind it": log + "\n\nnonsense\n",
	} {
		if head, ok := ledger.LastHead([]byte(tail)); !ok || head != want {
			t.Errorf("%s: %+v", sentence, head)
		}
	}
	for _, tail := range []string{"", "\n", "nonsense", w.lines[0]} {
		if head, ok := ledger.LastHead([]byte(tail)); ok {
			t.Errorf("%q: %+v", tail, head)
		}
	}
}

func TestRecordsAreGivenAndKept(t *testing.T) {
	key := newKey(t, 0, 1)
	w := newWriter(t)
	w.start(chainA, "pod-a", nil)
	record := `{"a":"<&>","id":"1","z":1e3}`
	w.keep(w.chain[chainA].Record([]byte(record), 7))
	w.checkpoint(chainA, key, true)
	v := ledger.NewVerifier(ledger.Keys{key.Certificate}, nil)
	var given bytes.Buffer
	if err := v.Read("log", strings.NewReader(text(w.lines)), func(record []byte, chain string, sequence uint64) {
		fmt.Fprint(&given, string(record), chain, sequence)
	}); err != nil {
		t.Fatal(err)
	}
	if given.String() != record+chainA+"1" {
		t.Errorf("it gives %s", given.String())
	}
	if r := v.Report(ledger.Accept{}); !r.Whole || r.Records != 1 || r.Chains[0].Dropped != 7 || r.Chains[0].Replica != "pod-a" || !r.Chains[0].Closed {
		t.Errorf("%+v", r)
	}
}

// TestFindingsAreBounded reads a log in which every line is wrong.
func TestFindingsAreBounded(t *testing.T) {
	r := verify(t, nil, nil, ledger.Accept{}, strings.Repeat("x\n", 5000)+strings.Repeat("y", 3*ledger.MaxLine)+"\n")
	if len(r.Findings) != 1000 || r.More != 4002 || r.Whole {
		t.Errorf("%d findings and %d more, whole %t", len(r.Findings), r.More, r.Whole)
	}
}

func derOf(r, s *big.Int) []byte {
	der, _ := asn1.Marshal(struct{ R, S *big.Int }{r, s})
	return der
}

// flipped gives the other signature that anyone can make of one by ECDSA: with the negative of s.
func flipped(t *testing.T, message, line string, key *certificates.Pair) string {
	t.Helper()
	prefix := line[:strings.LastIndex(line, " ")+1]
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(line[len(prefix):]))
	if err != nil {
		t.Fatal(err)
	}
	var parts struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(raw[4:], &parts); err != nil {
		t.Fatal(err)
	}
	other := derOf(parts.R, new(big.Int).Sub(elliptic.P256().Params().N, parts.S))
	if !(independent{key}).Verify([]byte(message), other) {
		t.Fatal("no other signature")
	}
	return prefix + base64.StdEncoding.EncodeToString(append(raw[:4], other...)) + "\n"
}

// TestSignaturesAreWrittenInOneWay changes the bits of a signature's base64 that stand for nothing.
func TestSignaturesAreWrittenInOneWay(t *testing.T) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for range 100 {
		key := newKey(t, 0, 1)
		log := text(small(t, key).lines)
		at := strings.LastIndex(log, `\n","previous"`) - 1
		if log[at] != '=' {
			continue // all bits stand for something
		}
		for log[at] == '=' {
			at--
		}
		other := log[:at] + alphabet[strings.IndexByte(alphabet, log[at])^1:][:1] + log[at+1:]
		if r := verify(t, ledger.Keys{key.Certificate}, nil, ledger.Accept{}, other); r.Whole || kinds(r) != "BadSign Open" {
			t.Errorf("%q: %+v", other[at-8:at+4], r.Findings)
		}
		return
	}
	t.Fatal("no signature has such bits")
}
