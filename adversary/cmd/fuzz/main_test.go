package main

import (
	"strings"
	"testing"
)

// TestEndedLate lets no failure of a target pass for the end of its time.
func TestEndedLate(t *testing.T) {
	for output, want := range map[string]bool{
		"fuzz: elapsed: 31s, execs: 80 (0/sec)\n--- FAIL: FuzzX (31.03s)\ncontext deadline exceeded\nFAIL":                            true,
		"--- FAIL: FuzzX (18.54s)\n--- FAIL: FuzzX (0.00s)\nx_test.go:9: no\n\nFailing input written to testdata/fuzz/FuzzX/5f807991": false,
		"--- FAIL: FuzzX (0.00s)\nx_test.go:9: context deadline exceeded\n\nFailing input written to testdata/fuzz/FuzzX/5f807991":    false,
		"--- FAIL: FuzzX (0.01s)\nx_test.go:9: a seed fails":                                                                          false,
	} {
		if got := endedLate(strings.Split(output, "\n")); got != want {
			t.Errorf("%t for %q", got, output)
		}
	}
}
