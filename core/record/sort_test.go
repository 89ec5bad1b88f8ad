package record

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// FuzzSorted holds what is sorted in one pass against the library of RFC 8785.
func FuzzSorted(f *testing.F) {
	for _, text := range []string{`{"b":1,"a":{"d":"x","c":[true,null,{"z":"","y":-0}]}}`, `{"a":"\\u2028\\\\u2028 \\ufffd <&> \\u0001 \\n"}`, `[]`, `{"é":1,"a":2}`, `1.5`, `{"a":123456789012345678}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var value any
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber()
		if decoder.Decode(&value) != nil {
			return
		}
		written, err := marshal(map[string]any{"outer": value, "by": text})
		if err != nil {
			return
		}
		got, ok := new(sorter).sorted(written)
		if !ok {
			return
		}
		if want, err := Canonical(written); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s\nwant\n%s (%v)\nof %s", got, want, err, written)
		}
	})
}

// TestSortedIsUsed holds that records take the short way.
func TestSortedIsUsed(t *testing.T) {
	for text, want := range map[string]string{
		`{"b":1,"a":{"d":"x\u2028","c":[true,null]}}`: "{\"a\":{\"c\":[true,null],\"d\":\"x\u2028\"},\"b\":1}",
		`{"c":"\\u2028","b":"\"","a":{}}`:             `{"a":{},"b":"\"","c":"\\u2028"}`,
	} {
		if got, ok := new(sorter).sorted([]byte(text)); !ok || string(got) != want {
			t.Errorf("%s, %t; want %s", got, ok, want)
		}
	}
	for _, text := range []string{`{"a":1.0}`, `{"a":1e3}`, `{"é":1}`, `{"a":1234567890123456}`, `{"a":1`, `{"a"}`, `{`, ``, `{"a":1}}`, `{"a":"`, `{"a":1 }`} {
		if got, ok := new(sorter).sorted([]byte(text)); ok {
			t.Errorf("%s becomes %s", text, got)
		}
	}
}
