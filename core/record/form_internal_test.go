package record

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// written is the form of a value, and whether it has one.
func written(value any) (string, bool) {
	v := reflect.ValueOf(value).Elem()
	text, ok := formOf(v.Type(), maxTypes)(nil, v)
	return string(text), ok
}

// filler fills values of any type. Zero values come up often, since tags treat them in ways of their own.
type filler struct{ *rand.Rand }

var texts = []string{"", "a", "a\"\\/<&>", "\x00\x1f\x7f\b\f\n\r\t", "\u2028\u2029\ufffd", "é€😀", `\ufffd \u2028`, "https://acme.example/x", "z"}

func (f filler) fill(v reflect.Value) {
	if f.IntN(5) == 0 {
		return
	}
	switch kind := v.Kind(); {
	case v.Type() == typeTime:
		v.Set(reflect.ValueOf(time.Unix(f.Int64N(1e9), f.Int64N(1e9)).In(time.FixedZone("", 60*f.IntN(600)))))
	case v.Type() == reflect.TypeFor[verification.Kind]():
		v.SetInt(f.Int64N(5))
	case kind == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case kind == reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && v.Type().Field(i).Tag.Get("json") != "-" {
				f.fill(v.Field(i))
			}
		}
	case kind == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), f.IntN(3), 3))
		for i := range v.Len() {
			f.fill(v.Index(i))
		}
	case kind == reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range f.IntN(4) {
			key, element := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			key.SetString(string(rune('a' + f.IntN(26))))
			f.fill(element)
			v.SetMapIndex(key, element)
		}
	case kind == reflect.String:
		v.SetString(texts[f.IntN(len(texts))])
	case kind == reflect.Bool:
		v.SetBool(true)
	case v.CanInt():
		v.SetInt([]int64{1, -7, 123, 99_999}[f.IntN(4)])
	case v.CanUint():
		v.SetUint(uint64(f.IntN(256)))
	default:
		panic(v.Type())
	}
}

// TestFormIsThatOfOthers fills records with all that their types can hold, and holds their form against package encoding/json and
// the library of RFC 8785.
func TestFormIsThatOfOthers(t *testing.T) {
	random := filler{rand.New(rand.NewPCG(1, 2))}
	for range 2000 {
		var r Record
		for r.Version == "" {
			random.fill(reflect.ValueOf(&r).Elem())
		}
		got, ok := written(&r)
		if !ok {
			t.Fatalf("no form of %+v", r)
		}
		text, err := marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		if want, err := Canonical(text); err != nil || got != string(want) {
			t.Fatalf("%s\nwant\n%s (%v)", got, want, err)
		}
	}
}

// FuzzForm does so with texts and numbers of others.
func FuzzForm(f *testing.F) {
	for _, text := range texts {
		f.Add(text, int64(12))
	}
	f.Add("a\xff", int64(1e15-1))
	f.Add("{}", int64(-1e15))
	f.Fuzz(func(t *testing.T, text string, n int64) {
		r := Record{ID: text, Took: Micros(n), Plan: Plan{Demands: map[string]Demand{text: {Name: text}, "b": {}}, Limits: verification.Limits{Keep: time.Duration(n)}, Stores: []Store{{Certificates: [][]byte{[]byte(text)}}}}}
		got, ok := written(&r)
		if !ok {
			return
		}
		encoded, err := marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if want, err := Canonical(encoded); err != nil || got != string(want) {
			t.Errorf("%s\nwant\n%s (%v)", got, want, err)
		}
	})
}

// TestWhatHasNoForm leaves to others what records do not have.
func TestWhatHasNoForm(t *testing.T) {
	type embedded struct {
		A int `json:"a"`
	}
	for what, value := range map[string]any{
		"text that is not UTF-8":     &struct{ A string }{"\xff"},
		"a number that is not exact": &struct{ A int64 }{1e15},
		"a fraction":                 &struct{ A float64 }{1},
		"anything":                   &struct{ A any }{1},
		"raw JSON":                   &struct{ A json.RawMessage }{json.RawMessage("1.0")},
		"a name that is not ASCII":   &map[string]int{"é": 1},
		"a name with an escape":      &map[string]int{`"`: 1},
		"names that are numbers":     &map[int]int{1: 1},
		"a name twice": &struct {
			embedded
			B int `json:"a"`
		}{},
		"a year of no calendar": &struct{ A time.Time }{time.Date(12_000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"an option that is not known": &struct {
			A bool `json:"a,string"`
		}{},
	} {
		if got, ok := written(value); ok {
			t.Errorf("%s becomes %s", what, got)
		}
	}
}

// TestEncoderAsksNobody holds that ordinary records take the short way.
func TestEncoderAsksNobody(t *testing.T) {
	r := Record{ID: "01J0000000000000000000000A", Time: time.Unix(0, 0).UTC(), Evidence: []Gathered{{How: Kept}}}
	_, line, err := Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	var e Encoder
	r.Version, r.Outcome, r.Replayable = Version, "denied", true
	if formed, ok := e.formed(&r); !ok || !slices.Equal(formed, line) || !bytes.HasPrefix(line, []byte(`{"endpoint":"",`)) {
		t.Errorf("%s, %t; want %s", formed, ok, line)
	}
}
