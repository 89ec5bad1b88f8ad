package function

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
)

// TestSendResponseWritesWhatTheEncoderWrites compares answers in which a text is plain or not, in each place.
func TestSendResponseWritesWhatTheEncoderWrites(t *testing.T) {
	patches := func(texts ...string) []core.Patch {
		return []core.Patch{
			{Name: texts[0], Path: image.Pointer(texts[1]), Image: texts[2], Op: texts[3], Value: texts[4]},
			{Name: "c", Path: "/spec/containers/1/image", Image: "a@sha256:b", Op: "replace", Value: "a@sha256:b"},
		}
	}
	plain := []string{"c", "/spec/containers/0/image", "<a>&b~", "replace", ""}
	answers := []response{{}, {Verified: true, Message: "m", Results: []core.Patch{}}, {Message: "m", Results: patches(plain...), Decision: "d"}}
	for _, odd := range []string{`"`, `\`, "\n", "\x7f", "\x00", "ë", "\u2028", "\xff", "a\xed\xa0\x80"} {
		for i := range plain {
			texts := append([]string{}, plain...)
			texts[i] += odd
			answers = append(answers, response{Verified: true, Results: patches(texts...)})
		}
		answers = append(answers, response{Message: odd, Results: []core.Patch{}}, response{Decision: odd, Results: []core.Patch{}})
	}
	for _, answer := range answers {
		got, want := httptest.NewRecorder(), httptest.NewRecorder()
		sendResponse(got, http.StatusOK, answer)
		sendJSON(want, http.StatusOK, answer)
		if got.Body.String() != want.Body.String() || got.Code != want.Code || got.Header().Get("Content-Type") != want.Header().Get("Content-Type") {
			t.Errorf("%q %v; want %q %v", got.Body, got.Header(), want.Body, want.Header())
		}
	}
	if _, ok := answers[2].plain(); !ok {
		t.Error("a plain answer is not written as one")
	}
}
