package function

import (
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	cloudeventshttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

// eventRequest is a request with an event of a type, with the attributes that are demanded but for the version, and with headers, names
// before values. What those name already is added to.
func eventRequest(version, contentType, body string, headers ...string) *http.Request {
	request := httptest.NewRequest(http.MethodPost, "/events", strings.NewReader(body))
	all := append([]string{"Ce-Specversion", version, "Content-Type", contentType, "Ce-Id", "1", "Ce-Source", "https://cluster", "Ce-Type", "t"}, headers...)
	for i := 0; i < len(all); i += 2 {
		if all[i] != "" && all[i+1] != "" {
			request.Header.Add(all[i], all[i+1])
		}
	}
	return request
}

// TestEventOfReadsWhatTheSDKReads compares what is read of requests with what the SDK of CloudEvents reads.
func TestEventOfReadsWhatTheSDKReads(t *testing.T) {
	structured := `{"specversion":"1.0","id":"1","source":"s","type":"t","kind":"TrustPolicy","data":{"a":[1]}}`
	for _, seed := range [][5]string{
		{"1.0", "application/json", `{"a":1}`, "", ""},
		{"1.0", "application/json", "not json", "ce-apiversion", "notation.nirmata.io/v1alpha1"},
		{"1.0", "", "", "Ce-Time", "2026-01-02T03:04:05Z"},
		{"1.0", "text/plain", "x", "Ce-Time", "yesterday"},
		{"1.0", "application/json", "{}", "Ce-Datacontenttype", "text/xml"},
		{"1.0", "application/json", "{}", "Ce-Subject", "Zoe"},
		{"1.0", "application/json", "{}", "Ce-Not-A-Name", "x"},
		{"1.0", "application/json", "{}", "Ce-Id", "2"},
		{"2.0", "application/json", "{}", "", ""},
		{"", "application/cloudevents+json", structured, "", ""},
		{"1.0", "application/cloudevents+json; charset=utf-8", structured, "Content-Type", "text/plain"},
		{"", "application/cloudevents-batch+json", "[" + structured + "]", "", ""},
		{"", "application/cloudevents+avro", structured, "", ""},
		{"", "application/cloudevents+json", structured[:40], "", ""},
		{"", "application/json", structured, "", ""},
		{"", "", "", "", ""},
	} {
		version, contentType, body, name, value := seed[0], seed[1], seed[2], seed[3], seed[4]
		got, err := readEvent(eventRequest(version, contentType, body, name, value))
		want, wantErr := cloudeventshttp.NewEventFromHTTPRequest(eventRequest(version, contentType, body, name, value))
		if wantErr == nil {
			wantErr = want.Validate()
		}
		if (err == nil) != (wantErr == nil) {
			t.Errorf("%q: error %v; the SDK's is %v", seed, err, wantErr)
			continue
		}
		if err != nil {
			continue
		}
		if got.String() != want.String() || !reflect.DeepEqual(got.Extensions(), want.Extensions()) || !reflect.DeepEqual(got.DataEncoded, want.DataEncoded) {
			t.Errorf("%q: event %s; the SDK's is %s", seed, got, want)
		}
	}
}

// readEvent reads the event of a request.
func readEvent(r *http.Request) (*cloudevents.Event, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return eventOf(r.Context(), r.Header, body)
}

func TestEventOfRefuses(t *testing.T) {
	structured := func(members string) *http.Request {
		return eventRequest("", "application/cloudevents+json", `{`+members+`,"id":"1","source":"s","type":"t"}`)
	}
	for sentence, test := range map[string]struct {
		request *http.Request
		want    string // in the error; "" for an event
	}{
		"a valid event":                   {eventRequest("1.0", "application/json", "{}"), ""},
		"an attribute without a name":     {eventRequest("1.0", "application/json", "{}", "Ce-", "x"), "MUST NOT be empty"},
		"an attribute without a value":    {withHeader(eventRequest("1.0", "application/json", "{}"), "Ce-Kind"), ""},
		"a batch":                         {eventRequest("", "application/cloudevents-batch+json", "[]"), "one by one"},
		"an older version":                {eventRequest("0.3", "application/json", "{}"), "of version 1.0"},
		"an older version, structured":    {structured(`"specversion":"0.3"`), "of version 1.0"},
		"data that is a number in base64": {structured(`"specversion":"1.0","data_base64":1`), "cannot be read"},
		"an encoding that is null":        {structured(`"datacontentencoding":null,"specversion":"0.3"`), "cannot be read"},
	} {
		_, err := readEvent(test.request)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", sentence, err)
		}
	}
}

// TestEventOfDecodesHeaders holds what a receiver has to accept (HTTP protocol binding, section 3.1.3.2); the SDK takes it as it stands.
func TestEventOfDecodesHeaders(t *testing.T) {
	for value, want := range map[string]string{
		"TrustPolicy":       "TrustPolicy",
		`"TrustPolicy"`:     "TrustPolicy",
		`"Trust\\Policy\""`: `Trust\Policy"`,
		"Trust%50olicy":     "TrustPolicy",
		"Trust%2550olicy":   "Trust%50olicy",
		"Zo%C3%ab":          "Zoë",
		"100%":              "100%",
		"%ff":               "%ff",
		`"`:                 `"`,
	} {
		event, err := readEvent(eventRequest(`"1.0"`, "application/json", "{}", "Ce-Kind", value))
		if err != nil || event.Extensions()["kind"] != want {
			t.Errorf("%s: %v, %v; want %s", value, event, err, want)
		}
	}
}

// withHeader gives a request a header without a value, as none that net/http reads has.
func withHeader(request *http.Request, name string) *http.Request {
	request.Header[name] = nil
	return request
}
