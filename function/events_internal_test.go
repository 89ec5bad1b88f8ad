package function

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
	"github.com/nirmata/kyverno-notation-venafi/shell/kube"
)

// eventsFixture is an events handler that records its effects.
type eventsFixture struct {
	*events
	outcomes  *cache.Cache
	renewed   int
	bumped    []string
	bumpFails error // returned instead of bumping the epoch; nil to bump it
	logged    bytes.Buffer
}

// Review accepts "Bearer good".
func (o *eventsFixture) Review(_ context.Context, authorization string) (string, error) {
	switch authorization {
	case "Bearer good":
		return "sender", nil
	case "Bearer other":
		return "", kube.ErrForbidden
	case "Bearer unknown":
		return "", errors.New("the API server is away")
	}
	return "", kube.ErrUnauthenticated
}

// Snapshot has two policies, one of which uses a store.
func (o *eventsFixture) Snapshot() (trust.Snapshot, bool) {
	policy := func(name string, stores ...string) trust.Policy {
		return trust.Policy{Name: name, Statements: []trust.Statement{{Name: "s", TrustStores: stores}}}
	}
	return trust.Snapshot{Policies: map[string]trust.Policy{"a": policy("a", "ca:acme"), "b": policy("b", "ca:other")}}, true
}

func newEventsFixture(t *testing.T) *eventsFixture {
	t.Helper()
	o := &eventsFixture{outcomes: cache.New(cache.Options{Size: 10})}
	t.Cleanup(o.outcomes.Close)
	o.events = newEvents(o, o.outcomes, o, func() { o.renewed++ }, func(_ context.Context, value string) error {
		if o.bumpFails == nil {
			o.bumped = append(o.bumped, value)
		}
		return o.bumpFails
	}, slog.New(slog.NewTextHandler(&o.logged, nil)))
	o.fill()
	return o
}

func keyOf(policy string) cache.Key {
	return cache.Key{Kind: verification.Signature, Trust: verification.Trust{Policy: policy}}
}

func (o *eventsFixture) fill() {
	for _, policy := range []string{"", "a", "b"} {
		cache.Put(o.outcomes, keyOf(policy), true, cache.Keep{For: time.Hour})
	}
}

// cached lists the policies whose outcomes are still cached. What depends on no policy has to be.
func (o *eventsFixture) cached() string {
	var policies []string
	if _, ok := cache.Get[bool](o.outcomes, keyOf("")); !ok {
		policies = append(policies, "not what depends on none")
	}
	for _, policy := range []string{"a", "b"} {
		if _, ok := cache.Get[bool](o.outcomes, keyOf(policy)); ok {
			policies = append(policies, policy)
		}
	}
	return strings.Join(policies, " ")
}

// counts lists what the metric has counted so far, such as "taken 1, failed 2".
func (o *eventsFixture) counts() string {
	var counted []string
	for _, outcome := range eventOutcomes {
		if n := o.counted[outcome].Load(); n != 0 {
			counted = append(counted, fmt.Sprint(outcome, " ", n))
		}
	}
	return strings.Join(counted, ", ")
}

// testEvent is an event to send. Its zero fields stand for those of a change of the policy a.
type testEvent struct {
	token, id, source, kind, group, eventType, data string
	structured                                      bool
	raw                                             string // body that is sent instead
}

func (l testEvent) request() *http.Request {
	or := func(value, other string) string {
		if value == "" {
			return other
		}
		return value
	}
	attributes := map[string]string{
		"specversion": "1.0", "id": or(l.id, "1"), "source": or(l.source, "https://cluster"),
		"type":       or(l.eventType, "dev.knative.apiserver.resource.update"),
		"apiversion": or(l.group, "notation.nirmata.io/v1alpha1"), "kind": or(l.kind, "TrustPolicy"), "name": "x",
	}
	data := or(l.data, `{"spec":{"trustPolicyName":"a"}}`)
	body, contentType := data, "application/json"
	if l.structured {
		var members []string
		for name, value := range attributes {
			members = append(members, fmt.Sprintf("%q:%q", name, value))
		}
		body, contentType = "{"+strings.Join(members, ",")+`,"datacontenttype":"application/json","data":`+data+"}", "application/cloudevents+json"
	}
	if l.raw != "" {
		body = l.raw
	}
	request := httptest.NewRequest(http.MethodPost, "/events", strings.NewReader(body))
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("Authorization", "Bearer "+or(l.token, "good"))
	if !l.structured {
		for name, value := range attributes {
			request.Header.Set("Ce-"+name, value)
		}
	}
	return request
}

func (o *eventsFixture) post(l testEvent) (status int, text string) {
	answer := httptest.NewRecorder()
	o.ServeHTTP(answer, l.request())
	return answer.Code, answer.Body.String()
}

func TestEventsDropAffectedOutcomes(t *testing.T) {
	tests := map[string]struct {
		event  testEvent
		status int
		acted  bool
		cached string
		as     string // what the metric counts it as
	}{
		"a policy changed, in binary mode":     {testEvent{}, 202, true, "b", "taken"},
		"a policy changed, in structured mode": {testEvent{structured: true}, 202, true, "b", "taken"},
		"a policy was deleted":                 {testEvent{eventType: "dev.knative.apiserver.resource.delete"}, 202, true, "b", "taken"},
		"a store changed":                      {testEvent{kind: "TrustStore", data: `{"spec":{"type":"ca","trustStoreName":"acme"}}`}, 202, true, "b", "taken"},
		"something changed, in mode Reference": {testEvent{eventType: "dev.knative.apiserver.ref.update", data: `{"kind":"TrustPolicy","name":"x"}`}, 202, true, "", "taken"},
		"data that is nonsense":                {testEvent{data: `[7]`}, 202, true, "", "taken"},
		"another kind of resource":             {testEvent{kind: "ConfigMap", group: "v1"}, 202, false, "a b", "ignored"},
		"another group's TrustPolicy":          {testEvent{group: "example.com/v1"}, 202, false, "a b", "ignored"},
		"another type of event":                {testEvent{eventType: "com.example.news"}, 202, false, "a b", "ignored"},
		"no token that is known":               {testEvent{token: "stolen"}, 401, false, "a b", "refused"},
		"the token of someone else":            {testEvent{token: "other"}, 403, false, "a b", "refused"},
		"a token that cannot be reviewed now":  {testEvent{token: "unknown"}, 503, false, "a b", "failed"},
		"no event":                             {testEvent{structured: true, raw: `{"specversion":"1.0"`}, 400, false, "a b", "malformed"},
		"an event without an id":               {testEvent{structured: true, raw: `{"specversion":"1.0","type":"x","source":"y"}`}, 400, false, "a b", "malformed"},
		"more than is read":                    {testEvent{data: `"` + strings.Repeat("x", maxEvent) + `"`}, 413, false, "a b", "malformed"},
		"the largest store":                    {testEvent{kind: "TrustStore", data: largestStore()}, 202, true, "b", "taken"},
		"something long that is no event":      {testEvent{structured: true, raw: `{"specversion":"` + strings.Repeat("x", 1<<20) + `"}`}, 400, false, "a b", "malformed"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			o := newEventsFixture(t)
			status, text := o.post(test.event)
			if len(text)+o.logged.Len() > 4000 {
				t.Errorf("answered with %d bytes, logged %d", len(text), o.logged.Len())
			}
			if logged := strings.Contains(o.logged.String(), fmt.Sprintf("status=%d", status)); logged != (status != http.StatusAccepted) {
				t.Errorf("%d, logged: %q", status, o.logged.String())
			}
			if status != test.status || o.cached() != test.cached {
				t.Errorf("%d %s, cached %q; want %d, %q", status, text, o.cached(), test.status, test.cached)
			}
			if acted := o.renewed == 1 && len(o.bumped) == 1; acted != test.acted || !acted && o.renewed+len(o.bumped) > 0 {
				t.Errorf("renewed %d times, bumped %v", o.renewed, o.bumped)
			}
			if counted := o.counts(); counted != test.as+" 1" {
				t.Errorf("counted as %q, want %s 1", counted, test.as)
			}
		})
	}
}

// largestStore is a TrustStore as large as the CRD lets it be.
func largestStore() string {
	line := strings.Repeat("x", 64) + `\n`
	return `{"spec":{"type":"ca","trustStoreName":"acme","caBundle":"` + strings.Repeat(line, (1<<20)/65) + `"}}`
}

// TestEventsApplyOnceAndReportFailures holds that a duplicate event is applied once, and that the sender is asked to send
// again when the epoch cannot be written.
func TestEventsApplyOnceAndReportFailures(t *testing.T) {
	o := newEventsFixture(t)
	o.bumpFails = errors.New("the API server is away")
	if status, text := o.post(testEvent{}); status != http.StatusServiceUnavailable || !strings.Contains(text, "send the event again") {
		t.Errorf("%d %s", status, text)
	}
	o.bumpFails = nil
	for range 3 {
		if status, text := o.post(testEvent{}); status != http.StatusAccepted {
			t.Errorf("%d %s", status, text)
		}
		o.fill()
	}
	if counted, want := o.counts(), "taken 1, duplicate 2, failed 1"; counted != want {
		t.Errorf("counted %q, want %q", counted, want)
	}
	if len(o.bumped) != 1 || o.renewed != 2 || o.cached() != "a b" {
		t.Errorf("bumped %v, renewed %d times, cached %q", o.bumped, o.renewed, o.cached())
	}
	if status, _ := o.post(testEvent{id: "2"}); status != http.StatusAccepted || len(o.bumped) != 2 || o.bumped[0] == o.bumped[1] {
		t.Errorf("another event: %d, bumped %v", status, o.bumped)
	}
	if status, _ := o.post(testEvent{source: "https://other"}); status != http.StatusAccepted || len(o.bumped) != 3 {
		t.Errorf("another source's event of the same id: %d, bumped %v", status, o.bumped)
	}
}

func TestSaysEvent(t *testing.T) {
	for sentence, test := range map[string]struct {
		header http.Header
		want   bool
	}{
		"binary mode":        {http.Header{"Ce-Specversion": {"1.0"}}, true},
		"binary, unfinished": {http.Header{"Ce-Id": {"1"}}, true},
		"structured mode":    {http.Header{"Content-Type": {"Application/CloudEvents+json; charset=utf-8"}}, true},
		"a batch":            {http.Header{"Content-Type": {"application/cloudevents-batch+json"}}, true},
		"something else":     {http.Header{"Content-Type": {"application/json"}, "Cedar": {"x"}}, false},
	} {
		if got := saysEvent(test.header); got != test.want {
			t.Errorf("%s: %t", sentence, got)
		}
	}
}

// TestEventsOfStrangersAreNotRead holds that a body is read of a sender that may send events, and of nobody else.
func TestEventsOfStrangersAreNotRead(t *testing.T) {
	o := newEventsFixture(t)
	for token, want := range map[string]bool{"stolen": false, "other": false, "unknown": false, "good": true} {
		request, body := testEvent{token: token}.request(), strings.NewReader("{}")
		request.Body = io.NopCloser(body)
		o.ServeHTTP(httptest.NewRecorder(), request)
		if read := body.Len() == 0; read != want {
			t.Errorf("the body that came with the token %q: read %t", token, read)
		}
	}
}

// TestEventsThatDoNotArriveAreSentAgain holds that an event is not called malformed where its body is late, nor where others are read all
// the time: its sender would drop it.
func TestEventsThatDoNotArriveAreSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newEventsFixture(t)
		server, listener, began := &http.Server{Handler: o, ReadTimeout: 5 * time.Second}, make(pipes, 1), time.Now()
		go func() { _ = server.Serve(listener) }()
		for range maxEvents + 1 { // the last waits for its turn in vain
			caller, connection := net.Pipe()
			listener <- connection
			go func() {
				_, _ = io.WriteString(caller, "POST /events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer good\r\nCe-Specversion: 1.0\r\nContent-Length: 9\r\n\r\n{")
				answer, err := http.ReadResponse(bufio.NewReader(caller), nil)
				if err != nil || answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" || time.Since(began) > server.ReadTimeout {
					t.Errorf("%v, %v after %s", answer, err, time.Since(began))
				}
				_ = caller.Close()
			}()
		}
		time.Sleep(time.Minute)
		if counted, want := o.counts(), fmt.Sprintf("failed %d", maxEvents+1); counted != want {
			t.Errorf("counted %q, want %q", counted, want)
		}
		if status, text := o.post(testEvent{}); status != http.StatusAccepted {
			t.Errorf("afterwards: %d %s", status, text)
		}
		close(listener)
		_ = server.Close()
	})
}

// TestEventsAreRefusedWithoutACluster holds that events are refused without an API server that can review their sender.
func TestEventsAreRefusedWithoutACluster(t *testing.T) {
	o := newEventsFixture(t)
	o.senders = nil
	if status, text := o.post(testEvent{}); status != http.StatusForbidden || o.renewed != 0 || o.counts() != "refused 1" {
		t.Errorf("%d %s, counted %q", status, text, o.counts())
	}
}
