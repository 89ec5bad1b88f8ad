package certmanager

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/callertoken"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
)

// callerToken reads the caller Secret.
func (c cluster) callerToken() callertoken.State {
	return callertoken.State{Token: c.stored(callerPath, "token"), Next: c.stored(callerPath, "next"), Previous: c.stored(callerPath, "previous")}
}

// setCallerToken replaces what the caller Secret holds.
func (c cluster) setCallerToken(t *testing.T, state callertoken.State) {
	t.Helper()
	c.Change(t, callerPath, func(object, _ map[string]any) {
		data := map[string]any{}
		for key, value := range state.Data() {
			if value != nil {
				data[key] = base64.StdEncoding.EncodeToString(value)
			}
		}
		object["data"] = data
	})
}

// manageUntil runs a manager until the returned function is called.
func manageUntil(t *testing.T, api cluster, others Others) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	manager := NewCertificates(api.Client(t), longLived(), others, (&kubetest.Log{}).Logger())
	go func() {
		manager.Run(ctx)
		close(ended)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// TestCallerTokenIsReplaced lets a policy and a replica read the Secret as late as they may: each token that the policy
// sends is accepted, through restarts of the manager.
func TestCallerTokenIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, others := start(t), others()
		others.CallerToken = callertoken.Policy{Period: time.Hour, Propagation: 5 * time.Minute}
		stop := manageUntil(t, api, others)
		kubetest.Within(t, 5*time.Second, "a token", func() bool { return api.exists(callerPath) })
		const every = 10 * time.Second
		lag := int(others.CallerToken.Propagation/every) - 1
		var states []callertoken.State
		tokens := map[string]bool{}
		for i := range int(6 * time.Hour / every) {
			if i%170 == 169 { // also during waits
				stop()
				stop = manageUntil(t, api, others)
			}
			time.Sleep(every)
			state := api.callerToken()
			states, tokens[state.Token] = append(states, state), true
			late := states[max(0, len(states)-1-lag)]
			switch {
			case len(state.Accepted()) == 0 || state.Next != "" && state.Previous != "":
				t.Fatalf("there is %+v", state)
			case !slices.Contains(state.Accepted(), late.Token):
				t.Fatalf("%+v does not accept what a policy sends that read %+v", state, late)
			case !slices.Contains(late.Accepted(), state.Token):
				t.Fatalf("a replica that read %+v does not accept the token of %+v", late, state)
			}
		}
		stop()
		if len(tokens) < 5 || len(tokens) > 6 {
			t.Errorf("%d tokens in six hours", len(tokens))
		}
	})
}

func TestCallerTokenIsRandom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := start(t)
		manage(t, api, longLived())
		first := api.stored(callerPath, "token")
		if len(first) != 52 || callertoken.Flaw(first) != "" {
			t.Errorf("a token of %d characters: %s", len(first), callertoken.Flaw(first))
		}
		api.Remove(callerPath)
		kubetest.Within(t, 5*time.Second, "another one", func() bool { return api.exists(callerPath) })
		if second := api.stored(callerPath, "token"); second == first {
			t.Error("the token is the same as before")
		}
	})
}

// TestCallerTokenIsRepaired writes tokens by hand.
func TestCallerTokenIsRepaired(t *testing.T) {
	good, own, third := strings.Repeat("0123456789", 4), strings.Repeat("abcdefghij", 4), strings.Repeat("ABCDEFGHIJ", 4)
	type state = callertoken.State
	tests := map[string]struct {
		written state
		never   bool
		soon    state // Token "" for a new random one
		later   state
	}{
		"a token of somebody's own stays":            {state{Token: own}, false, state{Token: own}, state{Token: own}},
		"with the one before it, for a while":        {state{Token: own, Previous: good}, false, state{Token: own, Previous: good}, state{Token: own}},
		"the next one, which comes into use":         {state{Token: good, Next: own}, false, state{Token: good, Next: own}, state{Token: own}},
		"three of them":                              {state{Token: good, Next: own, Previous: third}, false, state{Token: good, Previous: third}, state{Token: good}},
		"a short one":                                {state{Token: "secret"}, false, state{}, state{}},
		"a short one beside a good one":              {state{Token: "secret", Previous: good, Next: own}, false, state{}, state{}},
		"none":                                       {state{}, false, state{}, state{}},
		"a line break":                               {state{Token: good + "\n"}, false, state{}, state{}},
		"a short one before it":                      {state{Token: good, Previous: "secret"}, false, state{Token: good}, state{Token: good}},
		"a token of somebody's own is never changed": {state{Token: own, Previous: good}, true, state{Token: own, Previous: good}, state{Token: own, Previous: good}},
		"but a short one is":                         {state{Token: "secret"}, true, state{}, state{}},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api, others := start(t), others()
				if test.never {
					others.CallerToken.Period = 0
				}
				log := &kubetest.Log{}
				kubetest.Run(t, NewCertificates(api.Client(t), longLived(), others, log.Logger()).Run)
				kubetest.Within(t, 5*time.Second, "a token", func() bool { return api.exists(callerPath) })
				before := api.callerToken()
				api.setCallerToken(t, test.written)
				for _, then := range []struct {
					after time.Duration
					want  state
				}{{time.Minute, test.soon}, {15 * time.Minute, test.later}} {
					time.Sleep(then.after)
					got := api.callerToken()
					if then.want.Token == "" && got.Token != before.Token && len(got.Token) == 52 {
						got.Token = ""
					}
					if got != then.want {
						t.Errorf("after %s there is %+v; want %+v", then.after, got, then.want)
					}
				}
				for _, token := range []string{before.Token, good, own, third, api.callerToken().Token} {
					if strings.Contains(log.String(), token) {
						t.Error("a token is logged")
					}
				}
			})
		})
	}
}

// TestSharedKeyIsMadeWhereReplicasShare and replaced as the token of callers is, each at its own pace.
func TestSharedKeyIsMadeWhereReplicasShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sharedPath = kubetest.SecretsPath + "/shared"
		api, others := start(t), others()
		stop := manageUntil(t, api, others)
		kubetest.Within(t, 5*time.Second, "a token", func() bool { return api.exists(callerPath) })
		stop()
		if api.exists(sharedPath) {
			t.Error("there is a key, and nothing is shared")
		}
		others.SharedKeys, others.SharedKey = "shared", callertoken.Policy{Period: time.Hour, Propagation: 5 * time.Minute}
		stop = manageUntil(t, api, others)
		defer stop()
		kubetest.Within(t, 5*time.Second, "a key", func() bool { return api.exists(sharedPath) })
		key, token := api.stored(sharedPath, "token"), api.stored(callerPath, "token")
		if key == token || callertoken.Flaw(key) != "" {
			t.Errorf("the key is %q, and the token %q", key, token)
		}
		kubetest.Within(t, 2*time.Hour, "the next key", func() bool {
			return api.stored(sharedPath, "previous") == key && api.stored(sharedPath, "token") != key
		})
		if api.stored(callerPath, "token") != token {
			t.Error("the token of callers was replaced too")
		}
	})
}
