package function

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// sentSpans serves a collector, and gives a function that ends the service and gives the spans that it sent.
func sentSpans(t *testing.T) (env Environment, after func(*Function) []*tracepb.Span) {
	t.Helper()
	batches := make(chan *tracepb.TracesData, 16)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var sent tracepb.TracesData
		text, _ := io.ReadAll(r.Body)
		if err := proto.Unmarshal(text, &sent); err != nil {
			t.Error(err)
		}
		batches <- &sent
	}))
	t.Cleanup(server.Close)
	env = func(name string) (string, bool) {
		if name != "OTEL_EXPORTER_OTLP_ENDPOINT" {
			return "", false
		}
		return server.URL, true
	}
	return env, func(f *Function) (spans []*tracepb.Span) {
		f.Stop()
		close(batches)
		for sent := range batches {
			for _, resource := range sent.ResourceSpans {
				for _, scope := range resource.ScopeSpans {
					spans = append(spans, scope.Spans...)
				}
			}
		}
		return spans
	}
}

// TestTracesBelongToAuthenticatedCallers holds that nobody else's traceparent is followed, and that the log line and the metrics
// name the trace.
func TestTracesBelongToAuthenticatedCallers(t *testing.T) {
	const theirs = "0af7651916cd43dd8448eb211c80319c"
	tests := map[string]struct {
		reviewed      bool // callers are authenticated
		authorization string
		flags         string // of the traceparent
		traced        bool
		follows       bool
	}{
		"an authenticated caller's trace is continued":               {true, "Bearer known", "01", true, true},
		"an authenticated caller may keep a request from the traces": {true, "Bearer known", "00", false, false},
		"a caller with a wrong token has nothing traced":             {true, "Bearer guess", "01", false, false},
		"a caller who may not ask has nothing traced":                {true, "Bearer stranger", "01", false, false},
		"where nobody is authenticated traces are our own":           {false, "", "01", true, false},
		"and nobody can keep a request from them":                    {false, "", "00", true, false},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			env, after := sentSpans(t)
			settings, _, err := LoadSettings("test", []string{"--trustDir", t.TempDir()}, func(string) (string, bool) { return "", false }, nil)
			if err != nil {
				t.Fatal(err)
			}
			var log strings.Builder
			f, err := New(settings, env, slog.New(slog.NewJSONHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			if test.reviewed {
				f.callers = callersOf{"Bearer known", "Bearer stranger"}
			}
			got, request := arrival(pathVerify, strings.NewReader(`{"object":{"kind":"Pod","spec":{"containers":[{"name":"c","image":"registry.example.com/x:v1"}]}},"trustPolicy":"absent"}`))
			request.Header.Set("Authorization", test.authorization)
			request.Header.Set("Traceparent", "00-"+theirs+"-b7ad6b7169203331-"+test.flags)
			f.Handler().ServeHTTP(got, request)
			metrics := scraped(f, "application/openmetrics-text; version=1.0.0")
			spans := after(f)
			if (len(spans) > 0) != test.traced {
				t.Fatalf("%d spans", len(spans))
			}
			if strings.Contains(log.String(), `"trace":"`) != test.traced || strings.Contains(metrics, `trace_id="`) != test.traced {
				t.Errorf("log %s\nmetrics %s", log.String(), metrics)
			}
			if strings.Contains(log.String(), theirs) != test.follows {
				t.Errorf("log %s", log.String())
			}
			for _, span := range spans {
				if strings.Contains(span.String(), "Bearer") || strings.Contains(span.String(), test.authorization) && test.authorization != "" {
					t.Errorf("a span holds the token: %v", span)
				}
			}
			if plain := scraped(f, "text/plain"); strings.Contains(plain, "trace_id") {
				t.Error("the plain format has exemplars")
			}
		})
	}
}

// scraped gives the metrics in the format that is asked for.
func scraped(f *Function, format string) string {
	got := httptest.NewRecorder()
	request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	request.Header.Set("Accept", format)
	f.Handler().ServeHTTP(got, request)
	return got.Body.String()
}
