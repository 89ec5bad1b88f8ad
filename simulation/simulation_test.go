//go:debug randseednop=0

package simulation

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

var (
	sequences = flag.Int("sequences", 2000, "sequences to run")
	seed      = flag.Uint64("seed", 1, "seed of the first one; the others have the next ones")
	stop      = flag.Bool("first", false, "stop at the first violation")
	verbose   = flag.Bool("story", false, "tell each sequence")
)

func TestMain(m *testing.M) {
	utilruntime.ErrorHandlers = utilruntime.ErrorHandlers[:1] // the other one sleeps by a clock that is not that of the sequence
	runtime.GOMAXPROCS(1)                                     // so that the scheduler changes little from one run to the next
	debug.SetGCPercent(800)                                   // there is little that lives
	os.Exit(m.Run())
}

// TestSimulation runs sequences, of which none may have a violation.
func TestSimulation(t *testing.T) {
	var total Counts
	found, start, n := 0, time.Now(), *sequences
	if testing.Short() {
		n = min(n, 100)
	}
	for i := range n {
		result := Sequence(t, *seed+uint64(i))
		total.add(result.Counts)
		if *verbose {
			fmt.Println(result)
		}
		if len(result.Violations) > 0 {
			if found++; *stop {
				t.Fatalf("found after %d sequences:\n%s", i+1, result)
			}
			if found <= 3 {
				t.Errorf("%s\nshortened:\n%s", result, Shortened(t, result.Seed))
			}
		}
	}
	t.Logf("%d sequences, %.1f virtual days, %d faults injected, %d violations; %d requests, %d admitted, %d denied, %d failed, %d not ready, %d with a replica that died; %d events; %d answers taken over, %d lies of the server; %s",
		n, total.Virtual.Hours()/24, total.Faults, found, total.Asked, total.Admitted, total.Denied, total.Failed, total.NotReady, total.Gone, total.Events, total.Shared, total.False, time.Since(start).Round(time.Millisecond))
}

// TestOneRegistryLeavesSeatsToAnother has requests for a registry that does not answer take all seats that they can have.
func TestOneRegistryLeavesSeatsToAnother(t *testing.T) {
	served := 0
	for i := range uint64(20) {
		result := run(t, *seed+i, []action{{"held seats", i}})
		if served += result.Counts.Admitted + result.Counts.Denied; len(result.Violations) > 0 {
			t.Fatalf("found after %d sequences:\n%s", i+1, result)
		}
	}
	if served == 0 {
		t.Error("no request is answered")
	}
}

// TestSequencesRepeat runs sequences twice. What the scheduler decides may differ, in few.
func TestSequencesRepeat(t *testing.T) {
	const n = 60
	differ := 0
	for i := range uint64(n) {
		once, again := Sequence(t, *seed+i), Sequence(t, *seed+i)
		if once.Trace != again.Trace {
			differ++
		}
	}
	t.Logf("%d of %d sequences differ from run to run", differ, n)
	if differ > n/5 {
		t.Errorf("%d of %d sequences differ from run to run", differ, n)
	}
}

// certificatesEvery is how many sequences there are for one of certificates, which takes as long as twenty: leases are renewed every second.
const certificatesEvery = 200

// TestCertificates runs sequences of certificates.
func TestCertificates(t *testing.T) {
	var total Counts
	found, n, start := 0, max(1, *sequences/certificatesEvery), time.Now()
	for i := range n {
		result := Certificates(t, *seed+uint64(i))
		total.add(result.Counts)
		if len(result.Violations) > 0 {
			if found++; *stop {
				t.Fatalf("found after %d sequences:\n%s", i+1, result)
			}
			if found <= 3 {
				t.Error(result)
			}
		}
	}
	t.Logf("%d sequences of certificates, %.1f virtual days, %d faults injected, %d violations; %d certificates held against bundles; %s",
		n, total.Virtual.Hours()/24, total.Faults, found, total.Asked, time.Since(start).Round(time.Millisecond))
}

func (c *Counts) add(more Counts) {
	c.Asked += more.Asked
	c.Admitted += more.Admitted
	c.Denied += more.Denied
	c.Failed += more.Failed
	c.NotReady += more.NotReady
	c.Gone += more.Gone
	c.Faults += more.Faults
	c.Events += more.Events
	c.Shared += more.Shared
	c.False += more.False
	c.Virtual += more.Virtual
}
