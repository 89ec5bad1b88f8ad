package function

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	cloudeventshttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

// eventRequest is a request with three headers of an event and one more.
func eventRequest(version, contentType, name, value, body string) *http.Request {
	request := httptest.NewRequest(http.MethodPost, "/events", strings.NewReader(body))
	for header, value := range map[string]string{"Ce-Specversion": version, "Ce-Id": "1", "Ce-Source": "https://cluster", "Content-Type": contentType, name: value} {
		if header != "" && value != "" {
			request.Header.Set(header, value)
		}
	}
	return request
}

// FuzzEventOf compares what is read of a request with what the SDK of CloudEvents reads.
func FuzzEventOf(f *testing.F) {
	structured := `{"specversion":"1.0","id":"1","source":"s","type":"t","kind":"TrustPolicy","data":{"a":[1]}}`
	for _, seed := range [][5]string{
		{"1.0", "application/json", "Ce-Type", "t", `{"a":1}`},
		{"1.0", "application/json", "ce-apiversion", "notation.nirmata.io/v1alpha1", "not json"},
		{"1.0", "", "Ce-Time", "2026-01-02T03:04:05Z", ""},
		{"1.0", "text/plain", "Ce-Time", "yesterday", "x"},
		{"1.0", "application/json", "Ce-Datacontenttype", "text/xml", "{}"},
		{"1.0", "application/json", "Ce-Subject", "Zo%C3%AB", "{}"},
		{"1.0", "application/json", "Ce-Not-A-Name", "x", "{}"},
		{"0.3", "application/json", "Ce-Schemaurl", "https://s", "{}"},
		{"2.0", "application/json", "Ce-Type", "t", "{}"},
		{"", "application/cloudevents+json", "", "", structured},
		{"1.0", "application/cloudevents+json; charset=utf-8", "Ce-Type", "other", structured},
		{"", "application/cloudevents-batch+json", "", "", "[" + structured + "]"},
		{"", "application/cloudevents+avro", "", "", structured},
		{"", "application/cloudevents+json", "", "", structured[:40]},
		{"", "application/json", "", "", structured},
		{"", "", "", "", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[4])
	}
	f.Fuzz(func(t *testing.T, version, contentType, name, value, body string) {
		if http.CanonicalHeaderKey(name) == headerEvent {
			t.Skip("the SDK panics")
		}
		got, err := eventOf(eventRequest(version, contentType, name, value, body))
		want, wantErr := cloudeventshttp.NewEventFromHTTPRequest(eventRequest(version, contentType, name, value, body))
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v; the SDK's is %v", err, wantErr)
		}
		if err == nil && (got.String() != want.String() || (got.Validate() == nil) != (want.Validate() == nil)) {
			t.Errorf("event %s; the SDK's is %s", got, want)
		}
	})
}

// TestEventOfTakesAnyHeader holds that a header that is nothing but the prefix of those of events ends nothing.
func TestEventOfTakesAnyHeader(t *testing.T) {
	event, err := eventOf(eventRequest("1.0", "application/json", "Ce-", "x", "{}"))
	if err == nil && event.Validate() == nil {
		t.Errorf("took %s", event)
	}
}
