package recordkey_test

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/core/recordkey"
	"github.com/nirmata/kyverno-notation-venafi/shell/issuer"
)

var (
	start  = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	policy = recordkey.Policy{Duration: 90 * 24 * time.Hour}
)

func newKey(t *testing.T, policy recordkey.Policy, at time.Time) *certificates.Pair {
	t.Helper()
	key, err := issuer.RecordKey(policy, at)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func certs(pairs ...*certificates.Pair) []*x509.Certificate {
	var all []*x509.Certificate
	for _, pair := range pairs {
		all = append(all, pair.Certificate)
	}
	return all
}

func TestNext(t *testing.T) {
	day := 24 * time.Hour
	a, b := newKey(t, policy, start), newKey(t, policy, start.Add(60*day))
	foreign := newKey(t, policy, start.Add(-day))
	early := newKey(t, policy, start.Add(100*day))
	type state = recordkey.State
	tests := map[string]struct {
		have   state
		at     time.Duration // since start
		want   recordkey.Action
		public []*x509.Certificate
		wait   time.Duration
	}{
		"a new cluster":                                      {state{}, 0, recordkey.Create, nil, 0},
		"the first key is made":                              {state{Next: a}, 0, recordkey.Copy, certs(a), 0},
		"the first key is copied":                            {state{Next: a, Public: certs(a)}, 0, recordkey.Publish, certs(a), 0},
		"the first key is published":                         {state{Next: a, Public: certs(a), Published: certs(a), Exact: true}, 0, recordkey.Promote, certs(a), 0},
		"it signs":                                           {state{Key: a, Public: certs(a), Published: certs(a), Exact: true}, 0, recordkey.Rest, nil, day},
		"the next one is due soon":                           {state{Key: a, Public: certs(a), Published: certs(a), Exact: true}, 60*day - time.Minute, recordkey.Rest, nil, time.Minute},
		"the next one is due":                                {state{Key: a, Public: certs(a), Published: certs(a), Exact: true}, 60 * day, recordkey.Create, certs(a), 0},
		"the next one is made":                               {state{Key: a, Next: b, Public: certs(a), Published: certs(a), Exact: true}, 60 * day, recordkey.Copy, certs(a, b), 0},
		"the next one is copied":                             {state{Key: a, Next: b, Public: certs(a, b), Published: certs(a), Exact: true}, 60 * day, recordkey.Publish, certs(a, b), 0},
		"the next one is published":                          {state{Key: a, Next: b, Public: certs(a, b), Published: certs(a, b), Exact: true}, 60 * day, recordkey.Promote, certs(a, b), 0},
		"the next one signs, and the old one is kept":        {state{Key: b, Public: certs(a, b), Published: certs(a, b), Exact: true}, 100 * day, recordkey.Rest, nil, day},
		"somebody removed an old one from the ConfigMap":     {state{Key: b, Public: certs(a, b), Published: certs(b), Exact: true}, 61 * day, recordkey.Publish, certs(a, b), 0},
		"somebody added one to the ConfigMap":                {state{Key: b, Public: certs(b), Published: certs(foreign, b), Exact: true}, 61 * day, recordkey.Publish, certs(b), 0},
		"somebody added something to the ConfigMap":          {state{Key: b, Public: certs(b), Published: certs(b)}, 61 * day, recordkey.Publish, certs(b), 0},
		"the ConfigMap is gone":                              {state{Key: b, Public: certs(a, b)}, 61 * day, recordkey.Publish, certs(a, b), 0},
		"the Secret is gone":                                 {state{Published: certs(a), Exact: true}, day, recordkey.Create, certs(a), 0},
		"the Secret's copy is gone":                          {state{Key: b, Published: certs(a), Exact: true}, 61 * day, recordkey.Copy, certs(a, b), 0},
		"a key of somebody's own":                            {state{Key: b, Public: certs(a), Published: certs(a), Exact: true}, 61 * day, recordkey.Copy, certs(a, b), 0},
		"the key has expired":                                {state{Key: a, Public: certs(a), Published: certs(a), Exact: true}, 90 * day, recordkey.Create, certs(a), 0},
		"the key has expired, and the next one is published": {state{Key: a, Next: b, Public: certs(a, b), Published: certs(a, b), Exact: true}, 91 * day, recordkey.Promote, certs(a, b), 0},
		"the key is of a clock that was ahead":               {state{Key: early, Public: certs(early), Published: certs(early), Exact: true}, day, recordkey.Create, certs(early), 0},
		"the next key is not valid yet":                      {state{Key: a, Next: early, Public: certs(a, early), Published: certs(a, early), Exact: true}, 61 * day, recordkey.Create, certs(a, early), 0},
		"the next key is not valid yet, and none is due":     {state{Key: a, Next: early, Public: certs(a, early), Published: certs(a, early), Exact: true}, day, recordkey.Rest, nil, day},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			step := policy.Next(test.have, start.Add(test.at))
			if step.Action != test.want || step.Wait != test.wait || !slices.EqualFunc(step.Public, test.public, (*x509.Certificate).Equal) || (step.Reason == "") != (step.Action == recordkey.Rest) {
				t.Errorf("got %s (%s) with %d keys, wait %s; want %s with %d, %s", step.Action, step.Reason, len(step.Public), step.Wait, test.want, len(test.public), test.wait)
			}
		})
	}
}

// TestNoKeySignsUnpublished follows the steps for years, and holds that each key that signs was published, and stays so.
func TestNoKeySignsUnpublished(t *testing.T) {
	s, now := recordkey.State{}, start
	signed := map[string]bool{}
	for steps := 0; now.Before(start.AddDate(15, 0, 0)); steps++ {
		if steps > 10_000 {
			t.Fatal("it does not rest")
		}
		step := policy.Next(s, now)
		switch step.Action {
		case recordkey.Rest:
			now = now.Add(step.Wait)
		case recordkey.Create:
			s.Next, s.Public = newKey(t, policy, now), step.Public
		case recordkey.Copy:
			s.Public = step.Public
		case recordkey.Publish:
			s.Published, s.Exact = step.Public, true
		case recordkey.Promote:
			s.Key, s.Next, s.Public = s.Next, nil, step.Public
			signed[certificates.Fingerprint(s.Key.Certificate)] = true
		default:
			t.Fatalf("%s: %s", step.Action, step.Reason)
		}
		if s.Key != nil && (!slices.ContainsFunc(s.Published, s.Key.Certificate.Equal) || now.After(s.Key.Certificate.NotAfter)) {
			t.Fatalf("at %s a key signs that is not published, or has expired", now)
		}
	}
	if len(signed) < 90 || len(s.Published) != 64 {
		t.Errorf("%d keys, %d of them published", len(signed), len(s.Published))
	}
}

func TestParse(t *testing.T) {
	a, b := newKey(t, policy, start), newKey(t, policy, start.Add(time.Hour))
	authority, err := issuer.Authority(certificates.Policy{CADuration: time.Hour, Names: []string{"svc.ns.svc"}}, start)
	if err != nil {
		t.Fatal(err)
	}
	text := recordkey.Encode(certs(b, a, b)) + certificates.EncodeBundle(certs(authority)) + "nonsense"
	if parsed := recordkey.Parse([]byte(text)); !slices.EqualFunc(parsed, certs(a, b), (*x509.Certificate).Equal) {
		t.Errorf("%d keys", len(parsed))
	}
	for sentence, pair := range map[string]*certificates.Pair{"its own": a, "a CA's": authority} {
		certificate, key, err := pair.PEM()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := recordkey.ParsePair(certificate, key); (err == nil) != (pair == a) {
			t.Errorf("%s: %v", sentence, err)
		}
	}
}

func TestValidate(t *testing.T) {
	for duration, want := range map[time.Duration]string{0: "", time.Hour: "", time.Minute: "at least an hour", -time.Hour: "at least an hour"} {
		if err := (recordkey.Policy{Duration: duration}).Validate(); fmt.Sprint(err) != "<nil>" && want == "" || want != "" && !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v", duration, err)
		}
	}
	if step := (recordkey.Policy{}).Next(recordkey.State{}, start); step.Action != recordkey.Rest {
		t.Errorf("without a duration it wants to %s", step.Action)
	}
}
