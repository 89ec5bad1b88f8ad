package ledger

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestHostileLogsAreVerifiedInOnePass counts what is done about logs that were made to keep a verifier busy: twice the lines take
// twice the steps.
func TestHostileLogsAreVerifiedInOnePass(t *testing.T) {
	tests := map[string]func(n int) (log string, seen []Head){
		"chains that each come after the one before": func(n int) (string, []Head) {
			var after *Head
			return startsOf(n, func(i int, last Head) *Head {
				if i > 0 {
					after = &last
				}
				return after
			}), nil
		},
		"chains that all come after the first one": func(n int) (string, []Head) {
			var first *Head
			return startsOf(n, func(i int, last Head) *Head {
				if i == 1 {
					first = &last
				}
				return first
			}), nil
		},
		"one chain of which every line was seen before": func(n int) (string, []Head) {
			chain, line, err := Start(tokenOf(0), "pod-a", time.Unix(0, 0), nil, 0)
			log, seen := []string{string(line)}, []Head{chain.Head()}
			for range n - 1 {
				if err == nil {
					chain, line, err = chain.Record([]byte(`{"id":"A"}`), 0)
				}
				log, seen = append(log, string(line)), append(seen, chain.Head())
			}
			if err != nil {
				panic(err)
			}
			return strings.Join(log, "\n") + "\n", seen
		},
	}
	for sentence, made := range tests {
		t.Run(sentence, func(t *testing.T) {
			steps := func(n int) int {
				log, seen := made(n)
				v := NewVerifier(nil, seen)
				if err := v.Read("log", strings.NewReader(log), nil); err != nil {
					t.Fatal(err)
				}
				if found := v.Report(Accept{Open: true}); found.Lines != n {
					t.Fatalf("%d lines of %d", found.Lines, n)
				}
				return v.steps
			}
			const n = 500
			if once, twice := steps(n), steps(2*n); once == 0 || twice > 2*once+10 {
				t.Errorf("%d lines take %d steps, and %d lines take %d", n, once, 2*n, twice)
			}
		})
	}
}

func tokenOf(i int) string { return fmt.Sprintf("CHAIN%020d", i) }

// startsOf gives the first lines of n chains. after gives what each names as the line before it.
func startsOf(n int, after func(i int, last Head) *Head) string {
	var log strings.Builder
	var last Head
	for i := range n {
		chain, line, err := Start(tokenOf(i), "pod-a", time.Unix(int64(i), 0), after(i, last), 0)
		if err != nil {
			panic(err)
		}
		last = chain.Head()
		fmt.Fprintf(&log, "%s\n", line)
	}
	return log.String()
}

// TestCircleVouchesForNothing has a signed chain and an unsigned one claim to follow each other, which honest logs cannot.
func TestCircleVouchesForNothing(t *testing.T) {
	a, b := &chain{Summary: Summary{After: &Head{Sequence: 7}}, covered: 3, followers: 1}, &chain{Summary: Summary{After: &Head{Sequence: 9}}, followers: 2}
	c := &chain{Summary: Summary{After: &Head{Sequence: 4}}, covered: 1}
	a.before, b.before, c.before = b, a, b
	new(Verifier).vouch([]*chain{a, b, c})
	if a.covered != 3 || b.covered != 5 {
		t.Errorf("%d lines of the signed chain and %d of the other are vouched for; want 3, and the 5 that the last chain names", a.covered, b.covered)
	}
}

// TestPiecesAreBounded has a log of which every line leaves a gap.
func TestPiecesAreBounded(t *testing.T) {
	v := NewVerifier(nil, nil)
	v.begun = maxSegments - 1
	lines := fmt.Sprintf(`{"chain":%q,"previous":%q,"record":{},"sequence":%%d}`+"\n", tokenOf(0), hashOf(nil))
	if err := v.Read("log", strings.NewReader(fmt.Sprintf(lines+lines, 1, 3)), nil); err != nil {
		t.Fatal(err)
	}
	found := v.Report(Accept{Partial: true, Open: true})
	if found.Whole || found.Findings[1].Kind != TooMany || len(v.segments[tokenOf(0)]) != 1 {
		t.Errorf("%+v", found)
	}
}
