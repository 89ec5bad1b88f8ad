package core_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

var update = flag.Bool("update", false, "rewrite what the golden cases expect")

const goldenDir = "../testdata/golden"

// goldenCase is a file of testdata/golden: what goes into the core, and under -- plan.txt -- and after it what
// has to come out. The file's comment is the sentence that the case shows.
type goldenCase struct {
	archive *txtar.Archive
	request []byte
	trust   trust.Snapshot
	dflt    string // the service's default trust policy; "" for none
	facts   []factFile
	clock   time.Time
}

// outputs are the sections that -update rewrites.
var outputs = []string{"plan.txt", "verdict.json", "patches.json", "denial.txt", "error.txt"}

// TestGolden runs every case. Run it with -update to rewrite what they expect, and read the difference.
func TestGolden(t *testing.T) {
	for _, path := range goldenPaths(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			c := readGolden(t, path)
			got := txtar.Format(c.answered())
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestGoldenCoversEveryCode demands a golden case for every code that the core documents.
func TestGoldenCoversEveryCode(t *testing.T) {
	exempt := map[reason.Code]string{reason.RequestTooLarge: "the function bounds the body before the core sees it"}
	seen := map[reason.Code]bool{}
	for _, path := range goldenPaths(t) {
		plan, verdict, err := readGolden(t, path).run()
		var refused *core.RequestError
		if errors.As(err, &refused) {
			seen[refused.Code] = true
		}
		if len(plan.Images) != len(verdict.Results) {
			t.Errorf("%s: %d images and %d results", path, len(plan.Images), len(verdict.Results))
		}
		for _, result := range verdict.Results {
			seen[result.Code] = true
		}
	}
	for _, info := range reason.Codes() {
		if exempt[info.Code] == "" && !seen[info.Code] {
			t.Errorf("no golden case gives %s", info.Code)
		}
	}
}

func goldenPaths(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(goldenDir, "*.txtar"))
	if err != nil || len(paths) < 60 {
		t.Fatalf("found %d golden cases (%v), want at least 60", len(paths), err)
	}
	return paths
}

// run is the whole core, as the service runs it.
func (c goldenCase) run() (core.Plan, core.Verdict, error) {
	request, err := core.ParseRequest(c.request)
	if err != nil {
		return core.Plan{}, core.Verdict{}, err
	}
	plan, err := core.NewPlan(request, c.trust, c.dflt)
	if err != nil {
		return core.Plan{}, core.Verdict{}, err
	}
	var facts []verification.Fact
	for i, fact := range c.facts {
		var task verification.Task // facts of none are for no image
		if i < len(plan.Tasks) {
			task = plan.Tasks[i]
		}
		facts = append(facts, fact.fact(task, c.clock))
	}
	return plan, core.Decide(plan, facts, c.clock), nil
}

// answered is the case's file with the outputs that the core gives now.
func (c goldenCase) answered() *txtar.Archive {
	answer := &txtar.Archive{Comment: c.archive.Comment}
	for _, file := range c.archive.Files {
		if !slices.Contains(outputs, file.Name) {
			answer.Files = append(answer.Files, file)
		}
	}
	add := func(name, text string) {
		answer.Files = append(answer.Files, txtar.File{Name: name, Data: []byte(text)})
	}
	plan, verdict, err := c.run()
	if err != nil {
		add("error.txt", describeError(err))
		return answer
	}
	add("plan.txt", describePlan(plan))
	add("verdict.json", indented(verdict))
	if verdict.Verified {
		add("patches.json", indented(core.Patches(verdict)))
	} else {
		add("denial.txt", verdict.Message+"\n")
	}
	return answer
}

func describeError(err error) string {
	var refused *core.RequestError
	if !errors.As(err, &refused) {
		return fmt.Sprintf("%T: %v\n", err, err)
	}
	return fmt.Sprintf("%s, field %q\n%s\n", refused.Code, refused.Field, refused.Error())
}

// describePlan writes a plan for a reader: a line per image, then a line per task.
func describePlan(plan core.Plan) string {
	var text strings.Builder
	for _, p := range plan.Images {
		outcome := fmt.Sprintf("task %d", p.Task)
		if p.Decided != nil {
			outcome = string(p.Decided.Code)
		}
		fmt.Fprintf(&text, "%s %q at %s: %s -> %s\n", p.Image.Kind, p.Image.Name, p.Image.Pointer, p.Image.Ref, outcome)
	}
	for i, task := range plan.Tasks {
		fmt.Fprintf(&text, "task %d: %s under %s/%s", i, task.Ref, task.Policy, task.Statement.Name)
		for _, demand := range task.Attestations {
			fmt.Fprintf(&text, ", %s of %s", demand.Select, demand.Name)
		}
		if !task.Platforms.None() {
			fmt.Fprintf(&text, ", platforms %s", task.Platforms)
		}
		text.WriteString("\n")
	}
	return text.String()
}

func indented(value any) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		panic(err)
	}
	return text.String()
}

func readGolden(t testing.TB, path string) goldenCase {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(archive.Comment)) == "" {
		t.Errorf("%s does not begin with the sentence that it shows", path)
	}
	c := goldenCase{archive: archive}
	for _, file := range archive.Files {
		if err := c.read(file); err != nil {
			t.Fatalf("%s: %s: %v", path, file.Name, err)
		}
	}
	return c
}

func (c *goldenCase) read(file txtar.File) (err error) {
	switch file.Name {
	case "request.json":
		c.request = file.Data
	case "trust.json":
		var trust trustFile
		err = decodeStrictly(file.Data, &trust)
		c.trust, c.dflt = trust.snapshot(), trust.Default
	case "facts.json":
		err = decodeStrictly(file.Data, &c.facts)
	case "clock.txt":
		c.clock, err = time.Parse(time.RFC3339, strings.TrimSpace(string(file.Data)))
	default:
		if !slices.Contains(outputs, file.Name) {
			err = errors.New("is not a section of a golden case")
		}
	}
	return err
}

func decodeStrictly(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// trustFile is the section trust.json.
type trustFile struct {
	Default  string `json:"default"` // the service's default trust policy
	Policies []struct {
		Name       string            `json:"name"`
		Problem    string            `json:"problem"`
		Statements []trust.Statement `json:"statements"`
	} `json:"policies"`
	Stores []struct {
		Type         string   `json:"type"`
		Name         string   `json:"name"`
		Problem      string   `json:"problem"`
		Certificates []string `json:"certificates"` // any text: the core compares certificates only
	} `json:"stores"`
}

func (f trustFile) snapshot() trust.Snapshot {
	snapshot := trust.Snapshot{Policies: map[string]trust.Policy{}, Stores: map[trust.StoreRef]trust.Store{}}
	for _, p := range f.Policies {
		snapshot.Policies[p.Name] = trust.Policy{Name: p.Name, Problem: p.Problem, Statements: p.Statements}
	}
	for _, s := range f.Stores {
		store := trust.Store{Ref: trust.StoreRef{Type: s.Type, Name: s.Name}, Problem: s.Problem}
		for _, text := range s.Certificates {
			store.Certificates = append(store.Certificates, &x509.Certificate{Raw: []byte(text)})
		}
		snapshot.Stores[store.Ref] = store
	}
	return snapshot
}

// factFile is an element of the section facts.json: a verification.Fact for a reader.
type factFile struct {
	Digest       string             `json:"digest"`
	Failure      *findingFile       `json:"failure"`
	Signature    signatureFile      `json:"signature"`
	Attestations []attestationsFile `json:"attestations"`
	Index        *indexFile         `json:"index"`
}

type attestationsFile struct {
	Failure    *findingFile    `json:"failure"`
	Candidates []candidateFile `json:"candidates"`
}

type indexFile struct {
	Single    bool         `json:"single"`
	Problem   *findingFile `json:"problem"`
	Manifests []struct {
		Digest       string             `json:"digest"`
		Platform     image.Platform     `json:"platform"`
		Failure      *findingFile       `json:"failure"`
		Signature    signatureFile      `json:"signature"`
		Attestations []attestationsFile `json:"attestations"`
	} `json:"manifests"`
}

func (f *indexFile) fact(task verification.Task, now time.Time) *verification.IndexFact {
	if f == nil {
		return nil
	}
	fact := &verification.IndexFact{Single: f.Single, Problem: f.Problem.finding()}
	for _, m := range f.Manifests {
		fact.Manifests = append(fact.Manifests, verification.PlatformFact{
			Digest: m.Digest, Platform: m.Platform, Failure: m.Failure.finding(), Signature: m.Signature.fact(), Attestations: attestationsOf(m.Attestations, task, now),
		})
	}
	return fact
}

func attestationsOf(files []attestationsFile, task verification.Task, now time.Time) (facts []verification.AttestationsFact) {
	for i, a := range files {
		var demand verification.AttestationType // none of a fact that is one too many
		if i < len(task.Attestations) {
			demand = task.Attestations[i]
		}
		found := verification.AttestationsFact{Failure: a.Failure.finding()}
		for _, candidate := range a.Candidates {
			found.Candidates = append(found.Candidates, candidate.fact(demand, now))
		}
		facts = append(facts, found)
	}
	return facts
}

type findingFile struct {
	Code   reason.Code `json:"code"`
	Reason string      `json:"reason"`
}

type signatureFile struct {
	Verified   bool          `json:"verified"`
	Skipped    bool          `json:"skipped"`
	Signer     string        `json:"signer"`
	SignedAt   time.Time     `json:"signedAt"`
	ValidUntil time.Time     `json:"validUntil"`
	Warnings   []string      `json:"warnings"`
	Rejected   []findingFile `json:"rejected"`
	Truncated  bool          `json:"truncated"`
}

type candidateFile struct {
	Digest        string          `json:"digest"`
	NotApplicable *findingFile    `json:"notApplicable"`
	Missing       *findingFile    `json:"missing"`
	Signature     signatureFile   `json:"signature"`
	Payload       json.RawMessage `json:"payload"` // the document itself
	Text          string          `json:"text"`    // instead of payload: bytes that are no JSON
	Unusable      *findingFile    `json:"unusable"`
}

// fact gives the fact for a task, with its documents evaluated.
func (f factFile) fact(task verification.Task, now time.Time) verification.Fact {
	return verification.Fact{
		Digest: f.Digest, Failure: f.Failure.finding(), Signature: f.Signature.fact(),
		Attestations: attestationsOf(f.Attestations, task, now), Index: f.Index.fact(task, now),
	}
}

func (f *findingFile) finding() *reason.Finding {
	if f == nil {
		return nil
	}
	return &reason.Finding{Code: f.Code, Reason: f.Reason}
}

func (f signatureFile) fact() verification.SignatureFact {
	fact := verification.SignatureFact{
		Verified: f.Verified, Skipped: f.Skipped, Signer: f.Signer, SignedAt: f.SignedAt, ValidUntil: f.ValidUntil,
		Warnings: f.Warnings, Truncated: f.Truncated,
	}
	for _, rejected := range f.Rejected {
		fact.Rejected = append(fact.Rejected, *rejected.finding())
	}
	return fact
}

func (f candidateFile) fact(demand verification.AttestationType, now time.Time) verification.AttestationFact {
	document := []byte(f.Payload)
	if f.Text != "" {
		document = []byte(f.Text)
	}
	fact := verification.AttestationFact{
		Digest: f.Digest, NotApplicable: f.NotApplicable.finding(), Missing: f.Missing.finding(), Signature: f.Signature.fact(), Unusable: f.Unusable.finding(),
	}
	if !demand.Conditions.Empty() {
		evaluation := verification.Evaluate(demand, document, now, nil)
		fact.Evaluation = &evaluation
	}
	return fact
}
