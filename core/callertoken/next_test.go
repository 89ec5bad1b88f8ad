package callertoken_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/callertoken"
)

var start = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	tokenA = "AAAAAAAAAAAABCDEFGHIJKLMNO"
	tokenB = "BBBBBBBBBBBBACDEFGHIJKLMNO"
	tokenC = "CCCCCCCCCCCCABDEFGHIJKLMNO"
	fresh  = "FFFFFFFFFFFFABCDEGHIJKLMNO"
	weak   = "secret"
)

func TestNext(t *testing.T) {
	type state = callertoken.State
	month := 720 * time.Hour
	policy := callertoken.Policy{Period: month, Propagation: 5 * time.Minute}
	never := callertoken.Policy{Propagation: 5 * time.Minute}
	now := start.Add(month)
	recent := now.Add(-time.Hour)
	tests := map[string]struct {
		policy callertoken.Policy
		have   state
		seen   time.Duration
		want   state // zero to leave it as it is
		wait   time.Duration
	}{
		"there is no Secret":                                {policy, state{}, 0, state{Token: fresh, Since: now}, 0},
		"the token is emptied: all are revoked":             {policy, state{Previous: tokenB, Since: recent}, month, state{Token: fresh, Since: now}, 0},
		"the token is weak":                                 {policy, state{Token: weak, Next: tokenB, Since: recent}, 0, state{Token: fresh, Since: now}, 0},
		"the token is in use":                               {policy, state{Token: tokenA, Since: recent}, 0, state{}, 24 * time.Hour},
		"the next token is due soon":                        {policy, state{Token: tokenA, Since: start.Add(time.Minute)}, 0, state{}, time.Minute},
		"the next token is due":                             {policy, state{Token: tokenA, Since: start}, 0, state{Token: tokenA, Next: fresh, Since: start}, 0},
		"the next token is published":                       {policy, state{Token: tokenA, Next: tokenB, Since: start}, time.Minute, state{}, 4 * time.Minute},
		"the next token is known":                           {policy, state{Token: tokenA, Next: tokenB, Since: start}, 5 * time.Minute, state{Token: tokenB, Previous: tokenA, Since: now}, 0},
		"the previous token may be sent still":              {policy, state{Token: tokenB, Previous: tokenA, Since: now.Add(-time.Hour)}, time.Second, state{}, 299 * time.Second},
		"the previous token is sent no more":                {policy, state{Token: tokenB, Previous: tokenA, Since: recent}, 5 * time.Minute, state{Token: tokenB, Since: recent}, 0},
		"the previous token goes before the next one comes": {policy, state{Token: tokenB, Previous: tokenA, Since: start}, time.Minute, state{}, 4 * time.Minute},
		"the previous token is weak":                        {policy, state{Token: tokenB, Previous: weak, Since: recent}, 0, state{Token: tokenB, Since: recent}, 0},
		"the next token is weak":                            {policy, state{Token: tokenB, Next: weak, Since: recent}, month, state{Token: tokenB, Since: recent}, 0},
		"the previous token is the token":                   {policy, state{Token: tokenB, Previous: tokenB, Since: recent}, 0, state{Token: tokenB, Since: recent}, 0},
		"the next token is the token":                       {policy, state{Token: tokenB, Next: tokenB, Since: recent}, month, state{Token: tokenB, Since: recent}, 0},
		"there are three":                                   {policy, state{Token: tokenB, Previous: tokenA, Next: tokenC, Since: recent}, month, state{Token: tokenB, Previous: tokenA, Since: recent}, 0},
		"nothing tells since when the token is used":        {policy, state{Token: tokenA}, month, state{Token: tokenA, Since: now}, 0},
		"the clock was ahead":                               {policy, state{Token: tokenA, Since: now.Add(time.Second)}, 0, state{Token: tokenA, Since: now}, 0},
		"the clock was ahead during a wait":                 {policy, state{Token: tokenA, Next: tokenB, Since: now.Add(month)}, month, state{Token: tokenA, Next: tokenB, Since: now}, 0},
		"never, and the token is old":                       {never, state{Token: tokenA, Since: start}, 0, state{}, 24 * time.Hour},
		"never, and there is a previous token":              {never, state{Token: tokenB, Previous: tokenA}, month, state{}, 24 * time.Hour},
		"never, and there is no Secret":                     {never, state{}, 0, state{Token: fresh, Since: now}, 0},
		"never, and the token is weak":                      {never, state{Token: weak}, 0, state{Token: fresh, Since: now}, 0},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			step := test.policy.Next(test.have, fresh, now, test.seen)
			if step.Want != test.want || step.Wait != test.wait || (step.Reason != "") != (test.want != state{}) {
				t.Errorf("got %+v; want %+v, or a wait of %s", step, test.want, test.wait)
			}
			for _, token := range []string{tokenA, tokenB, tokenC, fresh, weak} {
				if strings.Contains(step.Reason, token) {
					t.Errorf("the reason holds a token: %s", step.Reason)
				}
			}
		})
	}
}

func TestAccepted(t *testing.T) {
	tests := map[string]struct {
		state callertoken.State
		want  string
	}{
		"no Secret":                            {callertoken.State{}, ""},
		"one token":                            {callertoken.State{Token: tokenA}, tokenA},
		"the next one":                         {callertoken.State{Token: tokenA, Next: tokenB}, tokenA + " " + tokenB},
		"the previous one":                     {callertoken.State{Token: tokenA, Previous: tokenB}, tokenA + " " + tokenB},
		"never three":                          {callertoken.State{Token: tokenA, Previous: tokenB, Next: tokenC}, tokenA + " " + tokenB},
		"a weak previous one":                  {callertoken.State{Token: tokenA, Previous: weak}, tokenA},
		"the next one, beside a weak previous": {callertoken.State{Token: tokenA, Previous: weak, Next: tokenC}, tokenA + " " + tokenC},
		"nothing beside a weak token":          {callertoken.State{Token: weak, Previous: tokenB, Next: tokenC}, ""},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			if got := strings.Join(test.state.Accepted(), " "); got != test.want {
				t.Errorf("got %s; want %s", got, test.want)
			}
		})
	}
}

func TestFlaw(t *testing.T) {
	tests := map[string]struct{ token, says string }{
		"random letters and digits":       {"4PJOKSWW5TWQMXIU3DHIOZVTNR", ""},
		"random hexadecimal digits":       {"9f86d081884c7d659a2feaa0c55ad015", ""},
		"base64":                          {"q+Vy/0v3nT8s2m1cH7kQZx4bJdLwE5uR9fYaGpKiNoM=", ""},
		"nothing":                         {"", "is missing or empty"},
		"a word":                          {weak, "might be guessed"},
		"one character too few":           {"4PJOKSWW5TWQMXIU3DHIOZVTN", "fewer than 26"},
		"a word that is repeated":         {strings.Repeat("changeme", 8), "fewer than 8 different"},
		"a line break at the end":         {"4PJOKSWW5TWQMXIU3DHIOZVTNR\n", "line break"},
		"a blank":                         {"4PJOKSWW5TWQ MXIU3DHIOZVTNR", "blank"},
		"a letter beyond ASCII":           {"4PJOKSWW5TWQMXIU3DHIOZVTNR\u00e9", "header cannot carry"},
		"a byte that is no UTF-8":         {"4PJOKSWW5TWQMXIU3DHIOZVTNR\xff", "header cannot carry"},
		"longer than a header should be":  {strings.Repeat(tokenA, 200), "more than"},
		"as long as a header may be":      {strings.Repeat(tokenA, 150), ""},
		"a zero byte, which ends C texts": {"4PJOKSWW5TWQMXIU3DHIOZVTNR\x00", "header cannot carry"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			got := callertoken.Flaw(test.token)
			if (got == "") != (test.says == "") || !strings.Contains(got, test.says) {
				t.Errorf("got %q; want %q", got, test.says)
			}
		})
	}
}

// TestParse writes a state and reads it back.
func TestParse(t *testing.T) {
	want := callertoken.State{Token: tokenA, Next: tokenB, Since: start}
	data := want.Data()
	if previous, listed := data["previous"]; !listed || previous != nil {
		t.Error("a key that should be missing is not named")
	}
	if got := callertoken.Parse(data, map[string]string{callertoken.AnnotationSince: start.Format(time.RFC3339)}); got != want {
		t.Errorf("got %+v; want %+v", got, want)
	}
	for _, annotation := range []string{"", "yesterday", "2030-01-01"} {
		if got := callertoken.Parse(data, map[string]string{callertoken.AnnotationSince: annotation}); !got.Since.IsZero() {
			t.Errorf("%q is %s", annotation, got.Since)
		}
	}
}

func TestValidate(t *testing.T) {
	tests := map[string]struct {
		policy callertoken.Policy
		says   string
	}{
		"a month":                  {callertoken.Policy{Period: 720 * time.Hour, Propagation: 5 * time.Minute}, ""},
		"never":                    {callertoken.Policy{Propagation: 5 * time.Minute}, ""},
		"just long enough":         {callertoken.Policy{Period: 20 * time.Minute, Propagation: 5 * time.Minute}, ""},
		"shorter than the waits":   {callertoken.Policy{Period: 19 * time.Minute, Propagation: 5 * time.Minute}, "at least 4 times the propagation delay"},
		"a period before it began": {callertoken.Policy{Period: -time.Hour}, "must be 0"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			err := test.policy.Validate()
			if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v; want %q", err, test.says)
			}
		})
	}
}
