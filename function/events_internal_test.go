package function

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
	"github.com/nirmata/kyverno-notation-venafi/shell/kube"
)

// office is where events arrive, and what they bring about.
type office struct {
	*events
	outcomes *cache.Cache
	renewed  int
	bumped   []string
	deaf     error        // why the other replicas cannot be told
	said     bytes.Buffer // the log
}

// Review lets "Bearer good" in.
func (o *office) Review(_ context.Context, authorization string) (string, error) {
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
func (o *office) Snapshot() (trust.Snapshot, bool) {
	policy := func(name string, stores ...string) trust.Policy {
		return trust.Policy{Name: name, Statements: []trust.Statement{{Name: "s", TrustStores: stores}}}
	}
	return trust.Snapshot{Policies: map[string]trust.Policy{"a": policy("a", "ca:acme"), "b": policy("b", "ca:other")}}, true
}

func openOffice(t *testing.T) *office {
	t.Helper()
	o := &office{outcomes: cache.New(cache.Options{Size: 10})}
	t.Cleanup(o.outcomes.Close)
	o.events = newEvents(o, o.outcomes, o, func() { o.renewed++ }, func(_ context.Context, value string) error {
		if o.deaf == nil {
			o.bumped = append(o.bumped, value)
		}
		return o.deaf
	}, slog.New(slog.NewTextHandler(&o.said, nil)))
	o.fill()
	return o
}

func keyOf(policy string) cache.Key {
	return cache.Key{Kind: verification.Signature, Trust: verification.Trust{Policy: policy}}
}

func (o *office) fill() {
	for _, policy := range []string{"", "a", "b"} {
		cache.Put(o.outcomes, keyOf(policy), true, cache.Keep{For: time.Hour})
	}
}

// kept lists the policies whose outcomes are kept.
func (o *office) kept() string {
	var kept []string
	for _, policy := range []string{"a", "b"} {
		if _, ok := cache.Get[bool](o.outcomes, keyOf(policy)); ok {
			kept = append(kept, policy)
		}
	}
	return strings.Join(kept, " ")
}

// letter is an event on its way. Its zero fields are those of a change of the policy a.
type letter struct {
	token, id, kind, group, eventType, data string
	structured                              bool
	raw                                     string // instead of all that
}

func (l letter) request() *http.Request {
	or := func(value, other string) string {
		if value == "" {
			return other
		}
		return value
	}
	attributes := map[string]string{
		"specversion": "1.0", "id": or(l.id, "1"), "source": "https://cluster",
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

func (o *office) post(l letter) (status int, text string) {
	answer := httptest.NewRecorder()
	o.ServeHTTP(answer, l.request())
	return answer.Code, answer.Body.String()
}

func TestEventsDropAffectedOutcomes(t *testing.T) {
	tests := map[string]struct {
		letter letter
		status int
		acted  bool
		kept   string
	}{
		"a policy changed, in binary mode":     {letter{}, 202, true, "b"},
		"a policy changed, in structured mode": {letter{structured: true}, 202, true, "b"},
		"a policy was deleted":                 {letter{eventType: "dev.knative.apiserver.resource.delete"}, 202, true, "b"},
		"a store changed":                      {letter{kind: "TrustStore", data: `{"spec":{"type":"ca","trustStoreName":"acme"}}`}, 202, true, "b"},
		"something changed, in mode Reference": {letter{eventType: "dev.knative.apiserver.ref.update", data: `{"kind":"TrustPolicy","name":"x"}`}, 202, true, ""},
		"data that is nonsense":                {letter{data: `[7]`}, 202, true, ""},
		"another kind of resource":             {letter{kind: "ConfigMap", group: "v1"}, 202, false, "a b"},
		"another group's TrustPolicy":          {letter{group: "example.com/v1"}, 202, false, "a b"},
		"another type of event":                {letter{eventType: "com.example.news"}, 202, false, "a b"},
		"no token that is known":               {letter{token: "stolen"}, 401, false, "a b"},
		"the token of someone else":            {letter{token: "other"}, 403, false, "a b"},
		"a token that cannot be reviewed now":  {letter{token: "unknown"}, 503, false, "a b"},
		"no event":                             {letter{structured: true, raw: `{"specversion":"1.0"`}, 400, false, "a b"},
		"an event without an id":               {letter{structured: true, raw: `{"specversion":"1.0","type":"x","source":"y"}`}, 400, false, "a b"},
		"more than is read":                    {letter{data: `"` + strings.Repeat("x", maxEvent) + `"`}, 413, false, "a b"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			o := openOffice(t)
			status, text := o.post(test.letter)
			if told := strings.Contains(o.said.String(), fmt.Sprintf("status=%d", status)); told != (status != http.StatusAccepted) {
				t.Errorf("%d, logged: %q", status, o.said.String())
			}
			if status != test.status || o.kept() != test.kept {
				t.Errorf("%d %s, kept %q; want %d, %q", status, text, o.kept(), test.status, test.kept)
			}
			if acted := o.renewed == 1 && len(o.bumped) == 1; acted != test.acted || !acted && o.renewed+len(o.bumped) > 0 {
				t.Errorf("renewed %d times, bumped %v", o.renewed, o.bumped)
			}
		})
	}
}

// TestEventsApplyOnceAndReportFailures holds that a duplicate event is applied once, and that the sender is asked to send
// again when the epoch cannot be written.
func TestEventsApplyOnceAndReportFailures(t *testing.T) {
	o := openOffice(t)
	o.deaf = errors.New("the API server is away")
	if status, text := o.post(letter{}); status != http.StatusServiceUnavailable || !strings.Contains(text, "send the event again") {
		t.Errorf("%d %s", status, text)
	}
	o.deaf = nil
	for range 3 {
		if status, text := o.post(letter{}); status != http.StatusAccepted {
			t.Errorf("%d %s", status, text)
		}
		o.fill()
	}
	if len(o.bumped) != 1 || o.renewed != 2 || o.kept() != "a b" {
		t.Errorf("bumped %v, renewed %d times, kept %q", o.bumped, o.renewed, o.kept())
	}
	if status, _ := o.post(letter{id: "2"}); status != http.StatusAccepted || len(o.bumped) != 2 || o.bumped[0] == o.bumped[1] {
		t.Errorf("another event: %d, bumped %v", status, o.bumped)
	}
}

// TestEventsAreRefusedWithoutACluster holds that events are refused without an API server that can review their sender.
func TestEventsAreRefusedWithoutACluster(t *testing.T) {
	o := openOffice(t)
	o.senders = nil
	if status, text := o.post(letter{}); status != http.StatusForbidden || o.renewed != 0 {
		t.Errorf("%d %s", status, text)
	}
}
