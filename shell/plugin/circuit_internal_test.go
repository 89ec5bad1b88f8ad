package plugin

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// TestCircuitClosesWhenThePluginWorksAgain also checks that an open circuit refuses with the code of the last failure, and
// that it stays open while the plugin fails.
func TestCircuitClosesWhenThePluginWorksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pause = 5 * time.Second
		circuits := newCircuits(pause)
		c := circuits.of("venafi-csp")
		calls := 0
		crash := func() error {
			calls++
			return &Error{Code: reason.PluginTimeout, Text: "it hangs", blame: blamePlugin}
		}
		work := func() error { calls++; return nil }
		for range failuresToOpen {
			if err := c.do(crash); err == nil {
				t.Fatal("a crash is no error")
			}
		}
		var refusal *Error
		if err := c.do(work); !errors.As(err, &refusal) || !refusal.open || refusal.Code != reason.PluginTimeout || refusal.Refusal() {
			t.Errorf("an open circuit: %v", err)
		}
		if calls != failuresToOpen || circuits.open() != 1 {
			t.Errorf("%d calls, %d open circuits", calls, circuits.open())
		}
		<-time.After(pause + 1)
		if err := c.do(crash); err == nil || circuits.open() != 1 {
			t.Errorf("one try after the pause: %v, %d open circuits", err, circuits.open())
		}
		<-time.After(pause + 1)
		for range 3 {
			if err := c.do(work); err != nil {
				t.Errorf("after the plugin works again: %v", err)
			}
		}
		if circuits.open() != 0 || calls != failuresToOpen+4 {
			t.Errorf("%d open circuits, %d calls", circuits.open(), calls)
		}
	})
}
