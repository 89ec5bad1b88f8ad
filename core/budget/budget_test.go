package budget_test

import (
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/budget"
)

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// registry is a registry under a clock.
type registry struct {
	*testing.T
	state budget.State
	now   time.Time
}

func (r *registry) after(d time.Duration) *registry { r.now = r.now.Add(d); return r }

func (r *registry) ask(want time.Duration) {
	r.Helper()
	if got := r.state.Ask(r.now); got != want {
		r.Errorf("after %s a request waits %s; want %s", r.now.Sub(begin), got, want)
	}
}

func (r *registry) refuse(after time.Duration) {
	r.state.Hear(budget.Reply{Sent: r.now, Refused: true, RetryAfter: after}, r.now)
}

func (r *registry) answer(left budget.Left) {
	r.state.Hear(budget.Reply{Sent: r.now, RetryAfter: -1, Left: left}, r.now)
}

func TestState(t *testing.T) {
	empty := budget.Left{Known: true, Limit: 100, Reset: 6 * time.Hour}
	tests := map[string]func(r *registry){
		"nothing is known, so nothing waits": func(r *registry) { r.ask(0); r.ask(0) },
		"a refusal holds all back for as long as it says": func(r *registry) {
			r.refuse(30 * time.Second)
			r.ask(30 * time.Second)
			r.after(29 * time.Second).ask(time.Second)
		},
		"after it one tries, and the others wait for the answer": func(r *registry) {
			r.refuse(30 * time.Second)
			r.after(30 * time.Second).ask(0)
			r.ask(2 * time.Second)
			r.answer(budget.Left{})
			r.ask(0)
			r.ask(0)
		},
		"a try that nobody answers is followed by another": func(r *registry) {
			r.refuse(time.Second)
			r.after(time.Second).ask(0)
			r.after(2 * time.Second).ask(0)
		},
		"an absurd pause is tried once a minute, and ends with the first answer": func(r *registry) {
			r.refuse(100 * 365 * 24 * time.Hour)
			r.ask(time.Minute)
			r.after(time.Minute).ask(0)
			r.ask(time.Minute)
			r.answer(budget.Left{})
			r.ask(0)
		},
		"no pause is longer than an hour": func(r *registry) {
			r.refuse(100 * 365 * 24 * time.Hour)
			if until := r.state.Until(r.now); !until.Equal(r.now.Add(time.Hour)) {
				r.Errorf("until %s", until)
			}
		},
		"without a time, pauses become longer, up to a minute": func(r *registry) {
			for i := range 40 {
				r.refuse(-1)
				wait := r.state.Wait(r.now)
				if want := min(100*time.Millisecond<<min(i, 20), time.Minute); wait != want {
					r.Errorf("refusal %d: %s; want %s", i, wait, want)
				}
				r.after(wait).ask(0)
			}
		},
		"what was sent before a refusal does not end the pause": func(r *registry) {
			sent := r.now
			r.after(time.Second).refuse(30 * time.Second)
			r.state.Hear(budget.Reply{Sent: sent, RetryAfter: -1}, r.now)
			r.ask(30 * time.Second)
		},
		"that nothing is left holds back for ten seconds, whatever it says": func(r *registry) {
			r.answer(empty)
			r.ask(10 * time.Second)
			r.after(10 * time.Second).ask(0)
		},
		"who says that nothing is left, and answers, is not believed again for ten minutes": func(r *registry) {
			r.answer(empty)
			r.after(10 * time.Second).ask(0)
			for range 100 {
				r.answer(empty)
				r.after(5 * time.Second).ask(0)
			}
			r.after(10 * time.Minute).answer(empty)
			r.ask(10 * time.Second)
		},
		"what is left leaves time for what is not": func(r *registry) {
			r.answer(budget.Left{Known: true, Remaining: 1})
			r.ask(0)
		},
		"what another replica was told holds back for ten seconds": func(r *registry) {
			r.state.Told(r.now.Add(time.Hour), r.now)
			r.ask(10 * time.Second)
			r.after(10 * time.Second).ask(0)
			r.answer(budget.Left{})
			r.ask(0)
			r.state.Told(r.now.Add(time.Hour), r.now)
			r.ask(0)
			for range 59 { // whoever tells of more and more is not believed for a minute
				r.state.Told(r.after(time.Second).now.Add(2*time.Hour), r.now)
				r.ask(0)
			}
		},
		"the same is told once": func(r *registry) {
			until := r.now.Add(time.Hour)
			r.state.Told(until, r.now)
			r.after(10 * time.Second).ask(0)
			r.answer(budget.Left{})
			r.after(2*time.Minute).state.Told(until, r.now)
			r.ask(0)
		},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) { test(&registry{T: t, now: begin}) })
	}
}

// TestNoLieStopsARegistryForLong has a registry answer at random, and counts how long nothing is let through.
func TestNoLieStopsARegistryForLong(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		r := &registry{T: t, now: begin}
		last := r.now
		for range 2000 {
			r.after(time.Duration(random.IntN(20_000)) * time.Millisecond)
			if random.IntN(4) == 0 {
				r.state.Told(r.now.Add(time.Duration(random.Int64N(int64(24*time.Hour)))), r.now)
			}
			if r.state.Ask(r.now) > 0 {
				if stopped := r.now.Sub(last); stopped > 2*budget.TryEvery {
					t.Fatalf("seed %d: nothing is let through for %s", seed, stopped)
				}
				continue
			}
			last = r.now
			switch random.IntN(4) {
			case 0:
				r.refuse(time.Duration(random.Int64N(int64(48*time.Hour))) - time.Hour)
			case 1:
				r.answer(budget.Left{Known: true, Remaining: random.Int64N(2), Reset: 24 * time.Hour})
			case 2:
				r.answer(budget.Left{})
			}
		}
	}
}

func TestReadLeft(t *testing.T) {
	tests := map[string]struct {
		header map[string]string
		want   budget.Left
	}{
		"nothing":               {nil, budget.Left{}},
		"Docker Hub":            {map[string]string{"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "76;w=21600"}, budget.Left{Known: true, Remaining: 76, Limit: 100}},
		"the IETF's old fields": {map[string]string{"RateLimit-Limit": "100, 100;w=60", "RateLimit-Remaining": "5", "RateLimit-Reset": "30"}, budget.Left{Known: true, Remaining: 5, Limit: 100, Reset: 30 * time.Second}},
		"in one field":          {map[string]string{"RateLimit": "limit=100, remaining=50, reset=5"}, budget.Left{Known: true, Remaining: 50, Limit: 100, Reset: 5 * time.Second}},
		"the new ones":          {map[string]string{"RateLimit": `"default";r=50;t=30`, "RateLimit-Policy": `"default";q=100;w=60`}, budget.Left{Known: true, Remaining: 50, Limit: 100, Reset: 30 * time.Second}},
		"several limits":        {map[string]string{"RateLimit": `"day";r=5000;t=80000, "burst";r=0;t=2`, "RateLimit-Policy": `"day";q=9000, "burst";q=10`}, budget.Left{Known: true, Remaining: 0, Limit: 10, Reset: 2 * time.Second}},
		"less than nothing":     {map[string]string{"RateLimit-Remaining": "-5"}, budget.Left{}},
		"more than a number":    {map[string]string{"RateLimit-Remaining": "99999999999999999999"}, budget.Left{}},
		"words":                 {map[string]string{"RateLimit": "soon", "RateLimit-Remaining": "few"}, budget.Left{}},
		"a reset in a century":  {map[string]string{"RateLimit-Remaining": "0", "RateLimit-Reset": "999999999"}, budget.Left{Known: true, Reset: time.Hour}},
		"very long":             {map[string]string{"RateLimit": `"a";r=0` + string(make([]byte, 100000))}, budget.Left{}},
	}
	for what, test := range tests {
		header := http.Header{}
		for name, value := range test.header {
			header.Set(name, value)
		}
		if got := budget.ReadLeft(header.Get); got != test.want {
			t.Errorf("%s: %+v; want %+v", what, got, test.want)
		}
	}
}

func FuzzReadLeft(f *testing.F) {
	f.Add(`"default";r=50;t=30`, `"default";q=100;w=60`, "76;w=21600")
	f.Fuzz(func(t *testing.T, limit, policy, remaining string) {
		fields := map[string]string{"RateLimit": limit, "RateLimit-Policy": policy, "RateLimit-Remaining": remaining}
		left := budget.ReadLeft(func(name string) string { return fields[name] })
		if left.Remaining < 0 || left.Limit < 0 || left.Reset < 0 || left.Reset > budget.MaxPause || !left.Known && left.Remaining != 0 {
			t.Errorf("%+v", left)
		}
	})
}
