package ledger

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// FuzzCompactObject holds a line that takes its record as it is against the one that encoding/json writes.
func FuzzCompactObject(f *testing.F) {
	for _, text := range []string{
		`{}`, `{"a":[1,20,{"b":"<&>\u2028 é\"\\","c":null}],"d":true,"e":false}`, `{"a":[]}`, "{\"a\":\"\u2028\xff\"}",
		`{"a":1.0}`, `{"a":01}`, `{"a":-1}`, `{"a":"\x"}`, `{"a":"\u12g4"}`, `{"a":tru}`, `{"a" :1}`, `{"a":1,}`, `{"a"}`, `{`, `[]`, "{\"a\":\"\n\"}", `{"a":1}}`, `{"a":1]`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !compactObject([]byte(text)) {
			return
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(text)); err != nil || compact.String() != text {
			t.Fatalf("%q becomes %q: %v", text, compact.String(), err)
		}
		for _, dropped := range []uint64{0, 7} {
			l := line{Chain: "C", Dropped: dropped, Previous: "H", Record: json.RawMessage(text), Sequence: 1 << 52}
			var want bytes.Buffer
			encoder := json.NewEncoder(&want)
			encoder.SetEscapeHTML(false)
			if err := encoder.Encode(l); err != nil {
				t.Fatal(err)
			}
			if got, err := l.appendTo(nil); err != nil || string(got)+"\n" != want.String() {
				t.Errorf("%q (%v), and by encoding/json %q", got, err, want.String())
			}
		}
	})
}

// TestRecordsAreCompactObjects holds that records take the short way, and what is none does not.
func TestRecordsAreCompactObjects(t *testing.T) {
	for text, want := range map[string]bool{
		`{}`: true,
		`{"a":[1,20,0,{"b":"<&>\u20aF \n\"\\","c":null}],"d":true,"e":false,"f":{}}`: true,
		`{"\"\\\"":"\\","\u00e9\"":"\n\"\"\\\\"}`:                                    true, `{"a":"\\\"}`: false, `{"a":"\"`: false, `{"a":"\u00"}`: false,
		strings.Repeat(`{"a":`, maxDepth-2) + `{}` + strings.Repeat(`}`, maxDepth-2): true,
		strings.Repeat(`{"a":`, maxDepth) + `{}` + strings.Repeat(`}`, maxDepth):     false,
		``: false, `[]`: false, `{`: false, `{"a"`: false, `{"a":`: false, `{"a":1`: false, `{"a":1]`: false, `{"a":[1}`: false, `{"a":1}}`: false, `{"a":1,}`: false, `{,}`: false,
		`{"a": 1}`: false, ` {}`: false, `{} `: false, `{"a":01}`: false, `{"a":1.5}`: false, `{"a":1e3}`: false, `{"a":-1}`: false, `{"a":nul}`: false, `{"a":}`: false,
		`{"a`: false, `{"a\`: false, `{"a\x":1}`: false, `{"\u12g4":1}`: false, `{"\u12`: false, "{\"\n\":1}": false, `{1:1}`: false,
	} {
		if got := compactObject([]byte(text)); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}
