package auditor_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/auditor"
)

// TestPaceHoldsInEveryMinute with many callers at once, and each registry has its own.
func TestPaceHoldsInEveryMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := auditor.NewPace(60)
		sent := make(chan time.Time, 1000)
		for range 300 {
			go func() {
				if err := pace.Wait(t.Context(), "reg.example"); err == nil {
					sent <- time.Now()
				}
			}()
		}
		began := time.Now()
		if err := pace.Wait(t.Context(), "other.example"); err != nil || time.Since(began) > 0 {
			t.Errorf("another registry waits for %s, %v", time.Since(began), err)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		close(sent)
		var times []time.Time
		for at := range sent {
			times = append(times, at)
		}
		if len(times) != 300 {
			t.Fatalf("%d were sent", len(times))
		}
		for i := range times[:len(times)-60] {
			if within := times[i+60].Sub(times[i]); within < time.Minute {
				t.Fatalf("61 within %s", within)
			}
		}
	})
}

func TestPaceLeavesARegistryAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := auditor.NewPace(600)
		pace.Pause("reg.example", 30*time.Second)
		if got := pace.Ready("reg.example"); got != 30*time.Second {
			t.Errorf("ready in %s", got)
		}
		soon, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		if err := pace.Wait(soon, "reg.example"); err == nil || time.Since(began) > 0 {
			t.Errorf("it waits in vain for %s, %v", time.Since(began), err)
		}
		ended, end := context.WithCancel(t.Context())
		go func() {
			time.Sleep(time.Second)
			end()
		}()
		if err := pace.Wait(ended, "reg.example"); err == nil {
			t.Error("it waits for what ended")
		}
		if err := pace.Wait(t.Context(), "reg.example"); err != nil || time.Since(began) < 30*time.Second {
			t.Errorf("sent after %s, %v", time.Since(began), err)
		}
		pace.Pause("reg.example", 0)
		if got := pace.Ready("reg.example"); got != 10*time.Second {
			t.Errorf("where it does not say for how long, ready in %s", got)
		}
	})
}

// TestPaceForgetsRegistries that may be asked anyway: whoever names an image chooses the registry.
func TestPaceForgetsRegistries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := auditor.NewPace(2)
		pace.Pause("paused.example", time.Hour)
		for i := range 20_000 {
			time.Sleep(100 * time.Millisecond)
			if err := pace.Wait(t.Context(), fmt.Sprintf("%d.example", i)); err != nil {
				t.Fatal(err)
			}
		}
		if n := pace.Len(); n > 4096 {
			t.Errorf("%d are remembered", n)
		}
		if pace.Ready("paused.example") == 0 {
			t.Error("a registry that wants to be left alone is forgotten")
		}
	})
}
