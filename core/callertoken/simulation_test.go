package callertoken_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/callertoken"
)

// world is a Secret, the managers that rotate its tokens, and what could have been read of it at any time.
type world struct {
	random   *rand.Rand
	policy   callertoken.Policy
	lag      time.Duration // within which policies and replicas read a change
	elapsed  time.Duration // of real time
	skew     time.Duration // of the managers' clock, which jumps
	state    callertoken.State
	version  int
	history  []version
	revoked  map[string]bool // tokens that were accepted once, and are gone from the Secret
	damaged  time.Duration   // when the Secret was damaged last, or was so still
	managers [2]manager
	made     int // tokens
	replaced int // tokens in use
}

// version is what could be read from a moment on, until the next one.
type version struct {
	from  time.Duration
	state callertoken.State
}

// manager decides on what it read, perhaps long ago.
type manager struct {
	read    callertoken.State
	version int           // of what it read; 0 for nothing, as after a crash
	since   time.Duration // when it first read that version
}

func newWorld(seed uint64, policy callertoken.Policy, lag time.Duration) *world {
	w := &world{random: rand.New(rand.NewPCG(seed, 0)), policy: policy, lag: lag, revoked: map[string]bool{}}
	w.write(callertoken.State{}) // as before the installation
	return w
}

// write stores a state.
func (w *world) write(state callertoken.State) {
	if state.Token != w.state.Token {
		w.replaced++
	}
	for _, token := range w.state.Accepted() {
		if token != state.Token && token != state.Next && token != state.Previous {
			w.revoked[token] = true
		}
	}
	w.state, w.version = state, w.version+1
	w.history = append(w.history, version{w.elapsed, state})
}

// fresh is a new token.
func (w *world) fresh() string {
	w.made++
	return fmt.Sprintf("ABCDEFGHIJKLMNOPQRSTUVWX%06d", w.made)
}

func (w *world) within(d time.Duration) []version {
	var versions []version
	for i, v := range w.history {
		if last := i == len(w.history)-1; last || w.history[i+1].from >= w.elapsed-d {
			versions = append(versions, v)
		}
	}
	return versions
}

// check gives an error when a call may fail that should not, or succeed that should not.
func (w *world) check() error {
	accepted := w.state.Accepted()
	if len(accepted) > 2 {
		return fmt.Errorf("%d tokens are accepted", len(accepted))
	}
	for _, token := range accepted {
		if callertoken.Flaw(token) != "" || w.revoked[token] {
			return fmt.Errorf("%s is accepted, in %+v", token, w.state)
		}
	}
	if callertoken.Flaw(w.state.Token) != "" {
		w.damaged = w.elapsed
	}
	if w.elapsed-w.damaged <= 2*w.lag {
		return nil
	}
	for _, policy := range w.within(w.lag) {
		for _, replica := range w.within(w.lag) {
			if !slices.Contains(replica.state.Accepted(), policy.state.Token) {
				return fmt.Errorf("after %s a policy that read %+v is refused by a replica that read %+v", w.elapsed, policy, replica)
			}
		}
	}
	return nil
}

// act has a manager read the Secret, decide, and write where nobody else wrote meanwhile. It may crash, or be late at any of these.
func (w *world) act(m *manager) {
	if w.random.IntN(20) == 0 {
		*m = manager{}
	}
	if m.version != w.version && w.random.IntN(4) > 0 {
		*m = manager{w.state, w.version, w.elapsed}
	}
	step := w.policy.Next(m.read, w.fresh(), start.Add(w.elapsed+w.skew), w.elapsed-m.since)
	if step.Reason != "" && m.version == w.version && w.random.IntN(4) > 0 {
		w.write(step.Want)
	}
}

// edit is what people do to the Secret.
func (w *world) edit() {
	s := w.state
	damages := []callertoken.State{
		{},
		{Token: weak, Previous: s.Previous, Next: s.Next, Since: s.Since},
		{Previous: s.Token},
		{Token: w.fresh()},
		{Token: w.fresh(), Previous: weak, Next: w.fresh(), Since: start.Add(-time.Hour)},
		{Token: s.Next, Next: s.Token, Previous: s.Previous, Since: s.Since},
	}
	harmless := []callertoken.State{
		{Token: s.Token, Previous: s.Previous, Next: w.fresh(), Since: s.Since}, // the documented way to replace it
		{Token: s.Token, Previous: s.Previous, Next: weak},
		{Token: s.Token, Previous: s.Previous, Next: s.Token, Since: s.Since},
		{Token: s.Token, Previous: s.Previous, Next: s.Next, Since: start.Add(w.elapsed + 100*w.policy.Period)},
		{Token: s.Token, Previous: s.Previous, Next: s.Next},
	}
	if w.random.IntN(3) == 0 {
		w.write(damages[w.random.IntN(len(damages))])
		w.damaged = w.elapsed
		return
	}
	w.write(harmless[w.random.IntN(len(harmless))])
}

// run lets a number of propagation times pass.
func (w *world) run(times int) error {
	for end := w.elapsed + time.Duration(times)*w.lag; w.elapsed < end; {
		w.elapsed += time.Duration(1 + w.random.Int64N(int64(w.lag/3)))
		switch w.random.IntN(60) {
		case 0:
			w.edit()
		case 1:
			w.skew = time.Duration(w.random.Int64N(int64(8*w.policy.Period))) - 4*w.policy.Period
		}
		w.act(&w.managers[w.random.IntN(len(w.managers))])
		if err := w.check(); err != nil {
			return err
		}
	}
	return nil
}

// TestTokenRotationFailsNoCall simulates managers that crash, come late and disagree on the time, and people who edit the Secret:
// every token that a policy may send is accepted by every replica, and no other.
func TestTokenRotationFailsNoCall(t *testing.T) {
	policy := callertoken.Policy{Period: 1000 * time.Second, Propagation: 100 * time.Second}
	seeds := uint64(30)
	if testing.Short() {
		seeds = 10
	}
	replaced := 0
	for seed := range seeds {
		w := newWorld(seed, policy, policy.Propagation)
		if err := w.run(1000); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		replaced += w.replaced
	}
	if mean := replaced / int(seeds); mean < 40 {
		t.Errorf("in 100 periods a token was replaced %d times", mean)
	}
}

// TestSimulationFindsFailedCalls rotates without waiting long enough.
func TestTokenSimulationFindsFailedCalls(t *testing.T) {
	for sentence, policy := range map[string]callertoken.Policy{
		"no wait":        {Period: 1000 * time.Second},
		"half the wait":  {Period: 1000 * time.Second, Propagation: 50 * time.Second},
		"nearly all":     {Period: 1000 * time.Second, Propagation: 90 * time.Second},
		"a short period": {Period: 200 * time.Second, Propagation: 50 * time.Second},
	} {
		found := false
		for seed := uint64(0); seed < 20 && !found; seed++ {
			found = newWorld(seed, policy, 100*time.Second).run(1000) != nil
		}
		if !found {
			t.Errorf("%s: no call failed", sentence)
		}
	}
}
