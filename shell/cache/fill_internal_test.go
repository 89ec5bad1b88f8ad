package cache

import (
	"context"
	"testing"
	"time"
)

// TestFillTakesAnAnswerThatWasKeptMeanwhile covers a caller that looked before other work kept the answer, and found that
// work no longer under way.
func TestFillTakesAnAnswerThatWasKeptMeanwhile(t *testing.T) {
	c := New(Options{Size: 1})
	t.Cleanup(c.Close)
	key := Key{Subject: "x"}
	Put(c, key, "answer", Keep{For: time.Hour})
	value := c.fill(t.Context(), key, func(context.Context) (any, Keep) {
		t.Error("the work is done again")
		return nil, Keep{}
	})
	if value != "answer" {
		t.Errorf("got %v", value)
	}
}
