package cache

import (
	"context"
	"testing"
	"time"
)

// TestALateLooker joins when the work that it did not find kept is no longer under way: between the two it was done.
func TestALateLooker(t *testing.T) {
	c := New(Options{Size: 1})
	t.Cleanup(c.Close)
	key := Key{Subject: "x"}
	Put(c, key, "outcome", Keep{For: time.Hour})
	again := func(context.Context) (any, Keep) {
		t.Error("the work is done again")
		return nil, Keep{}
	}
	f, started := c.join(t.Context(), key, again)
	if value, ok := c.wait(t.Context(), key, f, started); !ok || value != "outcome" || started {
		t.Errorf("%v, %t, started %t", value, ok, started)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 { // which of both is seen first is by chance
		f, started = c.join(t.Context(), key, again)
		c.wait(gone, key, f, started)
	}
}
