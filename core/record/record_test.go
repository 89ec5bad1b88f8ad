package record_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/condition"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// TestCanonical holds canonical JSON against the examples of RFC 8785, sections 3.2.2 to 3.2.4 and appendix B.
func TestCanonical(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"numbers, strings and literals": {
			`{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001], "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}`,
			`{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`,
		},
		"names by their UTF-16": {
			`{"\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh", "1": "One", "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control", "\u00f6": "Latin Small Letter O With Diaeresis"}`,
			"{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u0080\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\ufb33\":\"Hebrew Letter Dalet With Dagesh\"}",
		},
		"what HTML escapes": {"{\"a\":\"<&>\u2028\"}", "{\"a\":\"<&>\u2028\"}"},
		"a negative zero":   {`{"a":-0}`, `{"a":0}`},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			got, err := record.Canonical([]byte(tt.text))
			if err != nil || string(got) != tt.want {
				t.Errorf("%s, %v; want %s", got, err, tt.want)
			}
		})
	}
	if got, err := record.Canonical([]byte(`{"a":1,"a":2}`)); err == nil {
		t.Errorf("a name that stands twice gives %s", got)
	}
}

// all of the tasks were worked out.
func all(int) bool { return true }

var now = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

const (
	digest   = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	other    = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	envelope = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
)

// decided makes a record of a decision about one image, whose only signature is assessed by a report.
func decided(t testing.TB, change func(*verification.Report)) record.Record {
	t.Helper()
	ref, err := image.Parse("ghcr.io/acme/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	statement := trust.Statement{Name: "all", RegistryScopes: []string{"*"}, Level: "strict", TrustStores: []string{"ca:acme"}, TrustedIdentities: []string{"*"}}
	root := &x509.Certificate{Raw: []byte("the root of Acme")}
	stores := trust.Stores{{Type: "ca", Name: "acme"}: {Ref: trust.StoreRef{Type: "ca", Name: "acme"}, Certificates: []*x509.Certificate{root}}}
	demand := verification.AttestationType{Name: "sbom", Select: verification.SelectAll, Conditions: condition.Conditions{All: []condition.Condition{
		{Key: json.RawMessage(`"{{ components }}"`), Operator: "Equals", Value: json.RawMessage(`{"n": 12345678901234567890.10}`)},
	}}}
	limits := verification.Limits{MaxReferrers: 10, MaxSignatureAttempts: 3, Keep: time.Hour * 24 * 365 * 10}
	task := verification.Task{Ref: ref, Policy: "acme", Statement: statement, Stores: stores, Revision: "rev", Attestations: []verification.AttestationType{demand.Identified()}, Plugins: "plugins", Limits: limits}
	plan := core.Plan{Policy: "acme", Images: []core.PlannedImage{{Image: core.Image{Kind: "container", Name: "web", Pointer: "/spec/containers/0/image", Written: "ghcr.io/acme/app:v1", Ref: ref}}}, Tasks: []verification.Task{task}}
	report := verification.Report{
		Target: verification.Descriptor{MediaType: "m", Digest: digest, Size: 1<<60 + 1}, Scheme: trust.SchemeX509, SignedAt: now, Chain: []*x509.Certificate{root},
		Checks: []verification.CheckReport{{Name: verification.CheckIntegrity}, {Name: verification.CheckAuthenticity}}, Enforced: map[string]bool{verification.CheckIntegrity: true},
	}
	if change != nil {
		change(&report)
	}
	made := record.Record{ID: "01J0000000000000000000000A", Time: now, Plan: record.NewPlan(plan, "plugins", limits, all)}
	gathered := record.Gathered{How: record.WorkedOut}
	evidence := verification.Evidence{}
	for {
		step := verification.Next(task, evidence, now)
		if step.Outcome != nil {
			gathered.Fact = step.Outcome.Fact
			break
		}
		for _, lookup := range step.Lookups {
			asked := record.Asked{Lookup: lookup}
			switch lookup.Kind {
			case verification.Resolve:
				asked.Answer.Descriptor = verification.Descriptor{MediaType: "m", Digest: digest, Size: 1<<60 + 1}
			case verification.List:
				if lookup.Subject == digest {
					asked.Answer.List.Entries = []verification.Referrer{{Descriptor: verification.Descriptor{Digest: other}, ArtifactType: verification.TypeSignature}}
				}
			case verification.Manifest:
				asked.Answer.Manifest = verification.ManifestFacts{ArtifactType: verification.TypeSignature, LayerCount: 1, Layers: []verification.Descriptor{{MediaType: "application/jose+json", Digest: envelope}}}
			case verification.Signature:
				asked.Report = record.NewReport(report)
				asked.Answer.Signature = verification.Assess(task, report, now)
			}
			evidence[lookup] = asked.Answer
			gathered.Asked = append(gathered.Asked, asked)
		}
	}
	made.Evidence = []record.Gathered{gathered}
	made.Verdict = core.Decide(plan, []verification.Fact{gathered.Fact}, now)
	made.Patches = core.Patches(made.Verdict)
	return made
}

func encode(t *testing.T, r record.Record) []byte {
	t.Helper()
	_, line, err := record.Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	canonical, err := record.Canonical(line)
	if err != nil || !bytes.Equal(line, canonical) {
		t.Errorf("not canonical (%v): %s", err, line)
	}
	return line
}

func decode(t *testing.T, line []byte) record.Record {
	t.Helper()
	r, err := record.Decode(line)
	if err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return r
}

func TestRecordsReplay(t *testing.T) {
	tests := map[string]struct {
		change  func(*verification.Report)
		code    reason.Code
		altered bool
	}{
		"a good signature, and no attestation":    {nil, reason.AttestationMissing, false},
		"a signature that is refused":             {func(r *verification.Report) { r.Refused = &reason.Finding{Code: reason.SignatureInvalid, Reason: "no"} }, reason.SignatureInvalid, false},
		"a text that is not UTF-8":                {func(r *verification.Report) { r.Problem = "a\xffb" }, reason.SignatureInvalid, true},
		"a text that is not UTF-8, cut within it": {func(r *verification.Report) { r.Problem = strings.Repeat("\xff", 3000) }, reason.SignatureInvalid, true},
		"an address with a query":                 {func(r *verification.Report) { r.Problem = `Get "https://cdn.example/b?X-Amz-Signature=s3cret": no` }, reason.SignatureInvalid, true},
		"an address with a user":                  {func(r *verification.Report) { r.Problem = "https://user:s3cret@reg.example/v2/ fails" }, reason.SignatureInvalid, true},
		"a password with an @":                    {func(r *verification.Report) { r.Problem = `https://user:p@s3cret@reg.example/v2/ fails` }, reason.SignatureInvalid, true},
		"a password with a backslash":             {func(r *verification.Report) { r.Problem = `https://user:p\s3cret@reg.example/v2/ fails` }, reason.SignatureInvalid, true},
		"a query in the JSON of others":           {func(r *verification.Report) { r.Problem = `{"url":"https://cdn.example/b?x=1\u0026sig=s3cret"}` }, reason.SignatureInvalid, true},
		"an attribute with a query": {func(r *verification.Report) {
			r.Attributes = []verification.Attribute{{Name: trust.AttributeX5U, Named: true, Value: "https://tpp.example/x5u?token=s3cret"}}
		}, reason.AttestationMissing, true},
		"a signing time of no calendar": {func(r *verification.Report) {
			r.Problem, r.SignedAt, r.Expiry = "no", time.Unix(1<<40, 0), time.Unix(-1<<40, 0)
		}, reason.SignatureInvalid, false},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			line := encode(t, decided(t, tt.change))
			r := decode(t, line)
			if bytes.Contains(line, []byte("s3cret")) {
				t.Errorf("the record tells a secret: %s", line)
			}
			if r.Altered != tt.altered || r.Verdict.Results[0].Code != tt.code || !r.Replayable {
				t.Errorf("altered %t, code %s, replayable %t: %s", r.Altered, r.Verdict.Results[0].Code, r.Replayable, line)
			}
			if err := record.Replay(r); err != nil {
				t.Error(err)
			}
			if again := encode(t, r); !r.Altered && !bytes.Equal(again, line) {
				t.Errorf("encoded again:\n%s\nfirst:\n%s", again, line)
			}
		})
	}
}

// TestImagesTellNoSecret has one in what the caller wrote for an image, which the plan and the verdict repeat.
func TestImagesTellNoSecret(t *testing.T) {
	made := decided(t, nil)
	written := core.Image{Kind: "container", Name: "other", Pointer: "/spec/containers/1/image", Written: "https://user:s3cret@reg.example/app?token=s3cret"}
	made.Plan.Images = append(made.Plan.Images, core.PlannedImage{Image: written, Decided: &reason.Finding{Code: reason.ScopeNotCovered, Reason: written.Written + " is no image"}})
	line := encode(t, made)
	if bytes.Contains(line, []byte("s3cret")) {
		t.Errorf("the record tells a secret: %s", line)
	}
	if r := decode(t, line); !r.Altered || len(r.Verdict.Results) != 2 {
		t.Errorf("%+v", r.Verdict)
	} else if err := record.Replay(r); err != nil {
		t.Error(err)
	}
}

// FuzzHostileRecords replays and tells what strangers write.
func FuzzHostileRecords(f *testing.F) {
	_, line, err := record.Encode(decided(f, nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := record.Decode(text)
		if err != nil {
			return
		}
		_ = record.Replay(r)
		if told := record.Why(r); strings.ContainsFunc(told, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }) {
			t.Errorf("control characters in %q", told)
		}
		if again, line, err := record.Encode(r); err == nil {
			if _, err := record.Decode(line); err != nil {
				t.Errorf("%v: %+v", err, again)
			}
		}
	})
}

// TestReplayFindsWhatDiffers changes what decides in a record.
func TestReplayFindsWhatDiffers(t *testing.T) {
	tests := map[string]struct {
		change func(*record.Record)
		want   string
	}{
		"the message":               {func(r *record.Record) { r.Verdict.Message += "." }, "the verdict differs"},
		"a patch that is not there": {func(r *record.Record) { r.Patches = []core.Patch{{Name: "web"}} }, "the list of patches differs"},
		"the outcome":               {func(r *record.Record) { r.Outcome = "admitted" }, "the outcome differs"},
		"the facts":                 {func(r *record.Record) { r.Evidence[0].Fact.Signature.Signer = "CN=other" }, "the facts about ghcr.io/acme/app:v1 differs"},
		"an answer that is gone":    {func(r *record.Record) { r.Evidence[0].Asked = r.Evidence[0].Asked[:2] }, "no answer to the lookup"},
		"the report":                {func(r *record.Record) { report(r).Checks[0].Problem = "bad" }, "the assessment of signature"},
		"the chain":                 {func(r *record.Record) { report(r).SignedAt = now.Add(time.Second) }, "the assessment of signature"},
		"a limit":                   {func(r *record.Record) { r.Plan.Limits.MaxSignatureAttempts = 0 }, "the facts about"},
		"the statement's level":     {func(r *record.Record) { r.Plan.Tasks[0].Statement.Level = "skip" }, "no answer to the lookup"},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			r := decode(t, encode(t, decided(t, nil)))
			tt.change(&r)
			if err := record.Replay(r); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %s", err, tt.want)
			}
		})
	}
}

func report(r *record.Record) *record.Report {
	for _, asked := range r.Evidence[0].Asked {
		if asked.Report != nil {
			return asked.Report
		}
	}
	return nil
}

func TestDecodeRefusesWhatEncodeDoesNotWrite(t *testing.T) {
	line := string(encode(t, decided(t, nil)))
	tests := map[string]string{
		"nothing":                      "",
		"no object":                    "[]",
		"a field that is unknown":      strings.Replace(line, `"id":`, `"di":1,"id":`, 1),
		"a name that stands twice":     strings.Replace(line, `"id":`, `"id":"x","id":`, 1),
		"another version":              strings.Replace(line, record.Version, "v0", 1),
		"a lookup of an unknown kind":  strings.Replace(line, `"kind":"resolution"`, `"kind":"guess"`, 1),
		"a task that does not exist":   strings.Replace(line, `"task":0`, `"task":7`, 1),
		"a negative task":              strings.Replace(line, `"task":0`, `"task":-1`, 1),
		"a demand that is another":     strings.Replace(line, `"name":"sbom"`, `"name":"other"`, 1),
		"whole and cut":                strings.Replace(line, `"replayable":true`, `"replayable":false`, 1),
		"a negative task of a cut one": strings.Replace(strings.Replace(line, `"replayable":true`, `"cut":["x"],"replayable":false`, 1), `"task":0`, `"task":-1`, 1),
		"an id with an escape":         strings.Replace(line, `01J0000000000000000000000A`, `01J\u009b2J`, 1),
		"a name in two cases":          strings.Replace(line, `"verdict":`, `"Verdict":{},"verdict":`, 1),
		"more than one":                line + line,
		"more than a record may have":  strings.Replace(line, `"id":"`, `"id":"`+strings.Repeat("x", 2*record.MaxBytes), 1),
		"a number for a text":          strings.Replace(line, `"id":"01J0000000000000000000000A"`, `"id":1`, 1),
	}
	for sentence, text := range tests {
		t.Run(sentence, func(t *testing.T) {
			if text == line {
				t.Fatal("nothing was changed")
			}
			if r, err := record.Decode([]byte(text)); err == nil {
				t.Errorf("read as %+v", r)
			}
		})
	}
	spaced := bytes.Buffer{}
	if err := json.Indent(&spaced, []byte(line), "", "  "); err != nil {
		t.Fatal(err)
	}
	if err := record.Replay(decode(t, spaced.Bytes())); err != nil {
		t.Errorf("a record for a reader: %v", err)
	}
}

// TestRecordsAreBounded makes each part of a record too large.
func TestRecordsAreBounded(t *testing.T) {
	long := strings.Repeat("x", record.MaxBytes)
	many := func(r *record.Record) {
		for i := range 1000 {
			result := r.Verdict.Results[0]
			result.Reason, result.Verified = strings.Repeat("y", 500), i != 999
			r.Verdict.Results = append(r.Verdict.Results, result)
		}
	}
	tests := map[string]struct {
		change func(*record.Record)
		cut    string
		left   int // results
	}{
		"a report":                   {func(r *record.Record) { report(r).Certificates = [][]byte{[]byte(long)} }, "the reports on signatures", 1},
		"a trust store":              {func(r *record.Record) { r.Plan.Stores[0].Certificates = [][]byte{[]byte(long)} }, "the certificates of trust stores", 1},
		"an answer":                  {func(r *record.Record) { r.Evidence[0].Asked[0].Answer.Warnings = []string{long} }, "what was asked and answered", 1},
		"a fact":                     {func(r *record.Record) { r.Evidence[0].Fact.Warnings = []string{long} }, "the facts, and the tasks of the plan", 1},
		"the results of many images": {many, "all but 50 of 1001 images", 50},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			made := decided(t, nil)
			tt.change(&made)
			line := encode(t, made)
			r := decode(t, line)
			if len(line) > record.MaxBytes || r.Replayable || !strings.Contains(strings.Join(r.Cut, "; "), tt.cut) || len(r.Verdict.Results) != tt.left {
				t.Errorf("%d bytes, cut %q, %d results", len(line), r.Cut, len(r.Verdict.Results))
			}
			if r.Verdict.Results[0].Verified {
				t.Error("the first image that is told is one that was verified")
			}
			var cut *record.CutError
			if err := record.Replay(r); !errors.As(err, &cut) {
				t.Errorf("replayed with %v", err)
			}
		})
	}
}

func ExampleEncode() {
	r := record.Record{ID: "01J0000000000000000000000A", Time: time.Unix(0, 0).UTC(), Endpoint: "/verify", Evidence: []record.Gathered{}, Verdict: core.Decide(core.Plan{}, nil, time.Time{}), Patches: []core.Patch{}}
	r.Plan = record.NewPlan(core.Plan{Policy: "acme"}, "", verification.Limits{}, all)
	_, line, _ := record.Encode(r)
	fmt.Println(string(line[:90]))
	// Output: {"endpoint":"/verify","evidence":[],"id":"01J0000000000000000000000A","outcome":"denied","
}

// TestEncoderKeepsNothing encodes records of all sizes one after the other.
func TestEncoderKeepsNothing(t *testing.T) {
	var encoder record.Encoder
	lines := map[int][]byte{}
	sizes := []int{0, 1, 60_000, 10, 2 * record.MaxBytes, 0, 300}
	for i, size := range sizes {
		made := decided(t, func(r *verification.Report) { r.Problem = strings.Repeat("\"<", size/2) })
		_, line, err := encoder.Encode(made)
		if err != nil {
			t.Fatal(err)
		}
		lines[i] = bytes.Clone(line)
	}
	for i, size := range sizes {
		want := encode(t, decided(t, func(r *verification.Report) { r.Problem = strings.Repeat("\"<", size/2) }))
		if !bytes.Equal(lines[i], want) {
			t.Errorf("a record of size %d is %s, and by itself %s", size, lines[i], want)
		}
	}
}

// BenchmarkEncode measures what a record costs: of a decision that was worked out, and of one that comes from what was kept.
func BenchmarkEncode(b *testing.B) {
	made := decided(b, nil)
	kept := made
	kept.Evidence, kept.Plan.Stores = []record.Gathered{{How: record.Kept, From: made.ID, Fact: made.Evidence[0].Fact}}, nil
	for name, made := range map[string]record.Record{"worked out": made, "kept": kept} {
		b.Run(name, func(b *testing.B) {
			var encoder record.Encoder
			b.ReportAllocs()
			for b.Loop() {
				_, line, err := encoder.Encode(made)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(len(line)))
			}
		})
	}
}

// TestWhyTellsWhatConditionsSaw tells of attestations by what was recorded of them.
func TestWhyTellsWhatConditionsSaw(t *testing.T) {
	made := decided(t, nil)
	candidate := func(digest string, evaluation *verification.Evaluation) verification.AttestationFact {
		return verification.AttestationFact{Digest: digest, Signature: verification.SignatureFact{Verified: true}, Evaluation: evaluation}
	}
	made.Evidence[0].Fact.Attestations = []verification.AttestationsFact{{Candidates: []verification.AttestationFact{
		candidate(digest, &verification.Evaluation{Met: []string{"the condition on {{ a }} is met: found 1,\nwanted Equals 1"}}),
		candidate(other, &verification.Evaluation{Finding: &reason.Finding{Code: reason.ConditionUnmet, Reason: "found 2"}, Met: []string{"found 3"}}),
		candidate(envelope, &verification.Evaluation{}),
	}}}
	told := record.Why(made)
	for _, want := range []string{
		"its content meets the conditions\n        the condition on {{ a }} is met: found 1, wanted Equals 1\n",
		"its content: found 2\n        found 3\n",
		"its content meets the conditions\n        \"{{ components }}\" Equals {\"n\": 12345678901234567890.10}\n",
	} {
		if !strings.Contains(told, want) {
			t.Errorf("it does not say %q:\n%s", want, told)
		}
	}
}
