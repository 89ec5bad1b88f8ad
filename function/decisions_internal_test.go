package function

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestFewReadDecisionsAtOnce since each answer may take as much memory as all records.
func TestFewReadDecisionsAtOnce(t *testing.T) {
	d, err := newDecisions(Settings{DecisionsInMemory: 1, DecisionsWithoutToken: true}, nil, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	read := func() int {
		got := httptest.NewRecorder()
		d.recent(got, httptest.NewRequest(http.MethodGet, "/decisions", nil))
		return got.Code
	}
	for range maxReading {
		d.reading <- struct{}{}
	}
	if status := read(); status != http.StatusServiceUnavailable {
		t.Errorf("one reader too many gets %d", status)
	}
	<-d.reading
	for range 2 {
		if status := read(); status != http.StatusOK {
			t.Errorf("a reader where there is room gets %d", status)
		}
	}
}
