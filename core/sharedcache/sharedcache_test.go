package sharedcache_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

const (
	secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	second = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"
	digest = "sha256:e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0"
)

var (
	noon    = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	limits  = verification.Limits{Keep: time.Hour, KeepTags: 10 * time.Second, MaxReferrers: 200, MaxSignatureAttempts: 30}
	task    = verification.Task{Policy: "tp-team-a", Statement: trust.Statement{Level: "strict"}, Limits: limits}
	outcome = verification.Lookup{
		Kind: verification.Conclude, Repository: "ghcr.io/acme/secret-project", Subject: digest,
		Trust: verification.Trust{Policy: "tp-team-a", Revision: "r1", Plugins: "p1"}, Demand: "d1",
	}
	tag = verification.Lookup{Kind: verification.Resolve, Repository: "ghcr.io/acme/secret-project", Subject: "v1"}
)

func keyring(t testing.TB, surroundings string, secrets ...string) sharedcache.Keyring {
	t.Helper()
	ring, err := sharedcache.NewKeyring(secrets, surroundings)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func slot(t testing.TB, lookup verification.Lookup) sharedcache.Slot {
	return keyring(t, "build 1", secret).Slots(lookup)[0]
}

func admitted() *verification.Fact {
	return &verification.Fact{Digest: digest, Signature: verification.SignatureFact{Verified: true, Signer: "CN=signer,O=Acme"}}
}

func denied() *verification.Fact { return &verification.Fact{Digest: digest} }

func resolved() *verification.Answer {
	return &verification.Answer{Descriptor: verification.Descriptor{Digest: digest, MediaType: "application/json", Size: 7}}
}

func TestEntries(t *testing.T) {
	after := func(d time.Duration) time.Time { return noon.Add(d) }
	unknown := admitted()
	unknown.Signature.RevocationUnknown = true
	timed := admitted()
	timed.Attestations = []verification.AttestationsFact{{Candidates: []verification.AttestationFact{{Evaluation: &verification.Evaluation{TimeDependent: true}}}}}
	failed := &verification.Fact{Digest: digest, Failure: &reason.Finding{Code: reason.RegistryUnavailable, Reason: "it failed"}}
	ending := admitted()
	ending.Signature.FreshUntil = after(time.Minute)
	shortTask := task
	shortTask.Limits.Keep, shortTask.Limits.KeepTags = time.Minute, 0
	other := admitted()
	other.Digest = strings.Replace(digest, "e", "f", 1)
	tests := map[string]struct {
		lookup verification.Lookup
		answer *verification.Answer
		fact   *verification.Fact
		reader verification.Task
		at     time.Time
		shared bool
		counts bool
	}{
		"an image that is admitted counts for an hour":              {outcome, nil, admitted(), task, after(59 * time.Minute), true, true},
		"an admission for no longer":                                {outcome, nil, admitted(), task, after(time.Hour), true, false},
		"nor longer than its revocation data":                       {outcome, nil, ending, task, after(time.Minute), true, false},
		"but until then":                                            {outcome, nil, ending, task, after(59 * time.Second), true, true},
		"nor longer than the reader itself would keep it":           {outcome, nil, admitted(), shortTask, after(61 * time.Second), true, false},
		"a denial counts for ten seconds":                           {outcome, nil, denied(), task, after(9 * time.Second), true, true},
		"a denial for no longer":                                    {outcome, nil, denied(), task, after(10 * time.Second), true, false},
		"a tag counts for ten seconds":                              {tag, resolved(), nil, task, after(9 * time.Second), true, true},
		"a tag for no longer":                                       {tag, resolved(), nil, task, after(10 * time.Second), true, false},
		"nor for a reader that keeps no tags":                       {tag, resolved(), nil, shortTask, noon, true, false},
		"a clock that is ahead by a little is borne":                {outcome, nil, admitted(), task, after(-4 * time.Second), true, true},
		"by more it is not":                                         {outcome, nil, admitted(), task, after(-6 * time.Second), true, false},
		"what failed is nobody else's":                              {outcome, nil, failed, task, noon, false, false},
		"nor is what leaves open whether a certificate was revoked": {outcome, nil, unknown, task, noon, false, false},
		"nor what holds at its time only":                           {outcome, nil, timed, task, noon, false, false},
		"nor facts about another image":                             {outcome, nil, other, task, noon, false, false},
		"nor facts in place of a digest":                            {tag, nil, admitted(), task, noon, false, false},
		"nor a digest in place of facts":                            {outcome, resolved(), nil, task, noon, false, false},
		"nor a tag that could not be resolved":                      {tag, &verification.Answer{Failure: &verification.Failure{}}, nil, task, noon, false, false},
		"nor one whose digest is in doubt":                          {tag, &verification.Answer{Descriptor: resolved().Descriptor, Warnings: []string{"old"}}, nil, task, noon, false, false},
		"nor a manifest, of which the registry is to be asked":      {verification.Lookup{Kind: verification.Manifest, Subject: digest}, resolved(), nil, task, noon, false, false},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			entry, shared := sharedcache.NewEntry(task, tt.lookup, tt.answer, tt.fact, noon)
			if shared != tt.shared {
				t.Fatalf("shared = %t", shared)
			}
			if !shared {
				return
			}
			entry.Decision = "01M8C95RNMTW6JAP53C04EWFKA"
			place := slot(t, tt.lookup)
			sealed, ok := place.Seal(entry, [12]byte{1})
			if !ok {
				t.Fatal("it is too long")
			}
			opened, err := place.Open(sealed, tt.at)
			if err != nil {
				if tt.counts {
					t.Error(err)
				}
				return
			}
			if !reflect.DeepEqual(opened, entry) {
				t.Errorf("opened %+v\nwant %+v", opened, entry)
			}
			if until, counts := opened.Counts(tt.reader, tt.lookup, tt.at); counts != tt.counts || until.After(entry.Until) {
				t.Errorf("counts = %t until %s", counts, until)
			}
		})
	}
}

func TestWarningsAboutTheTagOfARequestAreNotShared(t *testing.T) {
	fact := admitted()
	fact.Warnings = []string{"its tag was resolved 3m ago"}
	entry, ok := sharedcache.NewEntry(task, outcome, nil, fact, noon)
	if !ok || entry.Fact.Warnings != nil || fact.Warnings == nil {
		t.Errorf("%t, %+v", ok, entry.Fact)
	}
}

// TestEveryFieldOfALookupIsPartOfItsName goes over the fields, those that are added later included.
func TestEveryFieldOfALookupIsPartOfItsName(t *testing.T) {
	names := map[string]string{slot(t, outcome).Name: "none"}
	var change func(path string, value reflect.Value, lookup *verification.Lookup)
	change = func(path string, value reflect.Value, lookup *verification.Lookup) {
		for i := range value.NumField() {
			field, name := value.Field(i), path+value.Type().Field(i).Name
			before := reflect.New(field.Type()).Elem()
			before.Set(field)
			switch {
			case field.Kind() == reflect.Struct:
				change(name+".", field, lookup)
				continue
			case name == "Kind":
				field.SetInt(int64(verification.Resolve))
			case field.Kind() == reflect.String:
				field.SetString(field.String() + "x")
			case field.CanInt():
				field.SetInt(field.Int() + 1)
			case field.Kind() == reflect.Bool:
				field.SetBool(!field.Bool())
			default:
				t.Fatalf("a field of kind %s", field.Kind())
			}
			got := slot(t, *lookup).Name
			if other, taken := names[got]; taken {
				t.Errorf("a change of %s is a change of %s", name, other)
			}
			names[got] = name
			field.Set(before)
		}
	}
	lookup := outcome
	change("", reflect.ValueOf(&lookup).Elem(), &lookup)
	if len(names) < 12 {
		t.Errorf("%d names", len(names))
	}
	shifted := outcome
	shifted.Repository, shifted.Subject = outcome.Repository+"s", outcome.Subject[1:]
	if _, taken := names[slot(t, shifted).Name]; taken {
		t.Error("what moves from one field to the next makes the same name")
	}
}

func TestNamesAndValuesTellNothing(t *testing.T) {
	entry, _ := sharedcache.NewEntry(task, outcome, nil, admitted(), noon)
	place := slot(t, outcome)
	sealed, _ := place.Seal(entry, [12]byte{1})
	for _, told := range []string{"ghcr.io", "acme", "Acme", "secret-project", digest[7:], "tp-team-a", "signer"} {
		if strings.Contains(place.Name, told) || bytes.Contains(sealed, []byte(told)) {
			t.Errorf("the server is told %q", told)
		}
	}
	longer := admitted()
	longer.Signature.Signer += ",OU=a few more letters"
	entry, _ = sharedcache.NewEntry(task, outcome, nil, longer, noon)
	if other, _ := place.Seal(entry, [12]byte{2}); len(other) != len(sealed) {
		t.Errorf("%d bytes, and %d of a signer with a longer name", len(sealed), len(other))
	}
	for sentence, ring := range map[string]sharedcache.Keyring{
		"another secret":                keyring(t, "build 1", second),
		"another build, or settings":    keyring(t, "build 2", secret),
		"what is moved between the two": keyring(t, "", secret+"build 1"),
	} {
		if ring.Slots(outcome)[0].Name == place.Name {
			t.Errorf("%s: the same name", sentence)
		}
	}
}

// TestWhatTheServerMakesUp has what somebody could do who controls the server, and has all that replicas ever wrote.
func TestWhatTheServerMakesUp(t *testing.T) {
	entry, _ := sharedcache.NewEntry(task, outcome, nil, admitted(), noon)
	place := slot(t, outcome)
	sealed, _ := place.Seal(entry, [12]byte{1})
	elsewhere, stranger := outcome, keyring(t, "build 1", second)
	elsewhere.Repository = "ghcr.io/mallory/app"
	moved, _ := slot(t, elsewhere).Seal(entry, [12]byte{1})
	revised := outcome
	revised.Trust.Revision = "r0"
	distrusted, _ := slot(t, revised).Seal(entry, [12]byte{1})
	foreign, _ := stranger.Slots(outcome)[0].Seal(entry, [12]byte{1})
	note, _ := keyring(t, "build 1", secret).Notes("topic")[0].SealText([]byte(`{}`), noon, noon.Add(time.Hour), [12]byte{1})
	lease, _ := place.Lease().SealText([]byte(`{}`), noon, noon.Add(time.Hour), [12]byte{1})
	longer := bytes.Clone(sealed)
	longer[10]++ // some weeks
	earlier := bytes.Clone(sealed)
	earlier[2]--
	versioned := append([]byte{sharedcache.Version + 1}, sealed[1:]...)
	for sentence, tt := range map[string]struct {
		sealed []byte
		want   error
	}{
		"an entry moved from another repository": {moved, sharedcache.ErrFalse},
		"one under a trust that was withdrawn":   {distrusted, sharedcache.ErrFalse},
		"one of a stranger":                      {foreign, sharedcache.ErrFalse},
		"a note":                                 {note, sharedcache.ErrFalse},
		"a lease":                                {lease, sharedcache.ErrFalse},
		"a longer life":                          {longer, sharedcache.ErrFalse},
		"an earlier beginning":                   {earlier, sharedcache.ErrFalse},
		"another version":                        {versioned, sharedcache.ErrOther},
		"nothing":                                {nil, sharedcache.ErrFalse},
		"a beginning":                            {sealed[:20], sharedcache.ErrFalse},
		"one that was cut":                       {sealed[:len(sealed)-1], sharedcache.ErrFalse},
		"one that goes on":                       {append(bytes.Clone(sealed), 0), sharedcache.ErrFalse},
		"zeroes":                                 {make([]byte, 300), sharedcache.ErrOther},
		"too much":                               {append(bytes.Clone(sealed), make([]byte, 1<<20)...), sharedcache.ErrFalse},
	} {
		if _, err := place.Open(tt.sealed, noon); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", sentence, err, tt.want)
		}
	}
	if _, err := place.Open(sealed, noon.Add(time.Hour)); !errors.Is(err, sharedcache.ErrOver) {
		t.Errorf("an old entry: %v", err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if opened, err := place.Open(changed, noon); err == nil {
			t.Fatalf("byte %d is changed, and it opens: %+v", i, opened)
		}
	}
}

func TestBothKeysOpenWhileOneReplacesTheOther(t *testing.T) {
	entry, _ := sharedcache.NewEntry(task, outcome, nil, admitted(), noon)
	old, both := keyring(t, "", secret), keyring(t, "", second, secret)
	sealed, _ := old.Slots(outcome)[0].Seal(entry, [12]byte{1})
	slots := both.Slots(outcome)
	if len(slots) != 2 || slots[1].Name != old.Slots(outcome)[0].Name || slots[0].Name == slots[1].Name {
		t.Fatalf("%d slots", len(slots))
	}
	if _, err := slots[1].Open(sealed, noon); err != nil {
		t.Error(err)
	}
	for _, secrets := range [][]string{nil, {"short"}, {secret, ""}, {secret, second, secret}} {
		if _, err := sharedcache.NewKeyring(secrets, ""); err == nil {
			t.Errorf("%d secrets are taken", len(secrets))
		}
	}
	if !(sharedcache.Keyring{}).Empty() || both.Empty() || len((sharedcache.Keyring{}).Slots(outcome)) != 0 {
		t.Error("an empty keyring has slots")
	}
}

func TestLongFactsAreNotShared(t *testing.T) {
	fact := denied()
	for range 1000 {
		fact.Signature.Rejected = append(fact.Signature.Rejected, reason.Finding{Code: reason.SignatureInvalid, Reason: strings.Repeat("x", 100)})
	}
	entry, ok := sharedcache.NewEntry(task, outcome, nil, fact, noon)
	if !ok {
		t.Fatal("such a denial is definitive")
	}
	if sealed, ok := slot(t, outcome).Seal(entry, [12]byte{}); ok {
		t.Errorf("%d bytes", len(sealed))
	}
}

// TestEntriesKeepAllOfAFact fills every field, those that are added later included.
func TestEntriesKeepAllOfAFact(t *testing.T) {
	fact := filled(reflect.TypeFor[verification.Fact]()).Interface().(verification.Fact)
	answer := filled(reflect.TypeFor[verification.Answer]()).Interface().(verification.Answer)
	entry := sharedcache.Entry{From: noon, Until: noon.Add(time.Hour), Fact: &fact, Answer: &answer, Decision: "d"}
	sealed, _ := slot(t, outcome).Seal(entry, [12]byte{})
	if opened, err := slot(t, outcome).Open(sealed, noon); err != nil || !reflect.DeepEqual(opened, entry) {
		t.Errorf("%v\n got %+v\nwant %+v", err, opened, entry)
	}
}

// filled is a value of a type in which nothing is zero.
func filled(of reflect.Type) reflect.Value {
	value := reflect.New(of).Elem()
	switch {
	case of == reflect.TypeFor[time.Time]():
		value.Set(reflect.ValueOf(noon))
	case of == reflect.TypeFor[verification.Cause](), of.Kind() == reflect.String:
		value.SetString("text")
	case of == reflect.TypeFor[verification.Kind]():
		value.SetInt(1)
	case of.Kind() == reflect.Struct:
		for i := range of.NumField() {
			if of.Field(i).Tag.Get("json") == "-" { // a document, which is kept for evaluations at another time only
				continue
			}
			value.Field(i).Set(filled(of.Field(i).Type))
		}
	case of.Kind() == reflect.Pointer:
		value.Set(reflect.New(of.Elem()))
		value.Elem().Set(filled(of.Elem()))
	case of.Kind() == reflect.Slice:
		value.Set(reflect.Append(value, filled(of.Elem())))
	case of.Kind() == reflect.Bool:
		value.SetBool(true)
	case value.CanInt():
		value.SetInt(7)
	case value.CanUint():
		value.SetUint(7)
	default:
		panic("no value for a " + of.String())
	}
	return value
}

// TestTheFormatIsThatOfItsVersion fails when a name or a seal changes: then Version has to change too.
func TestTheFormatIsThatOfItsVersion(t *testing.T) {
	place := keyring(t, "build 1", secret).Notes("topic")[0]
	sealed, _ := place.SealText([]byte("text"), noon, noon.Add(time.Hour), [12]byte{1})
	lease, _ := place.Lease().SealText([]byte("text"), noon, noon.Add(time.Hour), [12]byte{1})
	got := fmt.Sprintf("%d %x", sharedcache.Version, sha256.Sum256(fmt.Appendf(nil, "%s %x %s %x", place.Name, sealed, place.Lease().Name, lease)))
	if want := "1 295be8d836162d21526c594e8acdf9c1693bf5ee20d659dd572e8a087dfed804"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func FuzzOpen(f *testing.F) {
	entry, _ := sharedcache.NewEntry(task, outcome, nil, admitted(), noon)
	place := slot(f, outcome)
	sealed, _ := place.Seal(entry, [12]byte{1})
	f.Add(sealed)
	f.Add(sealed[:30])
	f.Fuzz(func(t *testing.T, value []byte) {
		if opened, err := place.Open(value, noon); err == nil && !bytes.Equal(value, sealed) {
			t.Fatalf("%x opens: %+v", value, opened)
		}
	})
}
