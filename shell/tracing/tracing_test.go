package tracing_test

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/nirmata/kyverno-notation-venafi/shell/tracing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector takes spans, and answers as it is told to.
type collector struct {
	*httptest.Server
	answer  func(w http.ResponseWriter)
	took    chan *tracepb.TracesData
	headers chan http.Header
}

func collect(t *testing.T) *collector {
	t.Helper()
	c := &collector{took: make(chan *tracepb.TracesData, 16), headers: make(chan http.Header, 16)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			body, _ = gzip.NewReader(r.Body)
		}
		text, err := io.ReadAll(body)
		var sent tracepb.TracesData
		if err != nil || proto.Unmarshal(text, &sent) != nil || r.URL.Path != "/v1/traces" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.took <- &sent
		c.headers <- r.Header
		if c.answer != nil {
			c.answer(w)
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// tracer makes a tracer that sends to a collector, with further variables as key, value, ...
func (c *collector) tracer(t *testing.T, log *strings.Builder, variables ...string) *tracing.Tracer {
	t.Helper()
	env := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL}
	for pair := range slices.Chunk(variables, 2) {
		env[pair[0]] = pair[1]
	}
	made, err := tracing.New(of(env), "test", slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func of(env map[string]string) tracing.Environment {
	return func(name string) (string, bool) { value, ok := env[name]; return value, ok }
}

// spans gives the spans that came, by name.
func (c *collector) spans() map[string]*tracepb.Span {
	found := map[string]*tracepb.Span{}
	for len(c.took) > 0 {
		for _, resource := range (<-c.took).ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				for _, span := range scope.Spans {
					found[span.Name] = span
				}
			}
		}
	}
	return found
}

const (
	parentTrace = "0af7651916cd43dd8448eb211c80319c"
	parentSpan  = "b7ad6b7169203331"
)

// traceparent is the header of a parent; flags are 01 when it is recorded.
func traceparent(flags string) http.Header {
	return http.Header{"Traceparent": {"00-" + parentTrace + "-" + parentSpan + "-" + flags}, "Tracestate": {"vendor=" + strings.Repeat("x", 200)}}
}

func TestNewReadsTheStandardVariables(t *testing.T) {
	const on = "OTEL_EXPORTER_OTLP_ENDPOINT"
	tests := map[string]struct {
		env    map[string]string
		traces bool
		fails  string
	}{
		"nothing is set":                              {nil, false, ""},
		"an endpoint":                                 {map[string]string{on: "http://a:4318"}, true, ""},
		"an endpoint for traces":                      {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://a/x"}, true, ""},
		"an endpoint, and the SDK is disabled":        {map[string]string{on: "http://a:4318", "OTEL_SDK_DISABLED": "true"}, false, ""},
		"an endpoint, and no exporter":                {map[string]string{on: "http://a:4318", "OTEL_TRACES_EXPORTER": "none"}, false, ""},
		"another exporter":                            {map[string]string{on: "http://a:4318", "OTEL_TRACES_EXPORTER": "zipkin"}, false, "OTEL_TRACES_EXPORTER"},
		"gRPC, which is not built in":                 {map[string]string{on: "http://a:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, false, "4318"},
		"no URL":                                      {map[string]string{on: "a:4318"}, false, "no URL"},
		"a sampler":                                   {map[string]string{on: "http://a", "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}, true, ""},
		"an unknown sampler":                          {map[string]string{on: "http://a", "OTEL_TRACES_SAMPLER": "some"}, false, "OTEL_TRACES_SAMPLER"},
		"a ratio over 1":                              {map[string]string{on: "http://a", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"}, false, "from 0 to 1"},
		"a ratio that is no number":                   {map[string]string{on: "http://a", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "NaN"}, false, "from 0 to 1"},
		"a queue of nothing":                          {map[string]string{on: "http://a", "OTEL_BSP_MAX_QUEUE_SIZE": "0"}, false, "OTEL_BSP_MAX_QUEUE_SIZE"},
		"an unknown compression":                      {map[string]string{on: "http://a", "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, false, "COMPRESSION"},
		"a CA file that is missing":                   {map[string]string{on: "https://a", "OTEL_EXPORTER_OTLP_CERTIFICATE": "/no/file"}, false, "CERTIFICATE"},
		"a client certificate without key":            {map[string]string{on: "https://a", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "/no/file"}, false, "CLIENT_KEY"},
		"a timeout for traces that is no number":      {map[string]string{on: "http://a", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "10s"}, false, "TIMEOUT"},
		"an endpoint with a password is not repeated": {map[string]string{on: "http:/user:secret@a"}, false, "no URL"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			tracer, err := tracing.New(of(test.env), "test", slog.New(slog.DiscardHandler))
			t.Cleanup(tracer.Close) // nil where there are no traces
			if test.fails == "" && err != nil || test.fails != "" && (err == nil || !strings.Contains(err.Error(), test.fails)) {
				t.Errorf("error %v, want one that says %q", err, test.fails)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error holds a password: %v", err)
			}
			if (tracer != nil) != test.traces {
				t.Errorf("tracer %v, want one: %t", tracer, test.traces)
			}
		})
	}
}

func TestSpansReachTheCollector(t *testing.T) {
	c := collect(t)
	var log strings.Builder
	tracer := c.tracer(t, &log, "OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc, x=1", "OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "OTEL_SERVICE_NAME", "ours", "OTEL_RESOURCE_ATTRIBUTES", "team=a")
	came := time.Now().Add(-time.Second)
	ctx, root := tracer.Request(t.Context(), "POST /verify", traceparent("01"), came)
	ctx, span := tracing.Start(ctx, "lookup", "manifest")
	span.Text("subject", strings.Repeat("é", 300)+"\xff")
	span.Text("empty", "")
	span.Number("n", 3)
	span.Flag("flag", true)
	span.Failed("RegistryUnavailable")
	_, inner := tracing.Start(ctx, "plugin", "")
	inner.End()
	span.End()
	root.End()
	tracer.Close()
	if stats := tracer.Stats(); stats != (tracing.Stats{Exported: 3}) {
		t.Errorf("stats %+v\n%s", stats, log.String())
	}
	header := <-c.headers
	if header.Get("Authorization") != "Bearer abc" || header.Get("X") != "1" {
		t.Errorf("headers %v", header)
	}
	if strings.Contains(log.String(), "abc") {
		t.Errorf("the log holds the token: %s", log.String())
	}
	sent := <-c.took
	c.took <- sent
	attributes := map[string]string{}
	for _, attribute := range sent.ResourceSpans[0].Resource.Attributes {
		attributes[attribute.Key] = attribute.Value.GetStringValue()
	}
	if attributes["service.name"] != "ours" || attributes["team"] != "a" {
		t.Errorf("resource %v", attributes)
	}
	spans := c.spans()
	if names := slices.Sorted(maps.Keys(spans)); !slices.Equal(names, []string{"POST /verify", "lookup manifest", "plugin"}) {
		t.Fatalf("spans %q", names)
	}
	request, lookup := spans["POST /verify"], spans["lookup manifest"]
	if fmt.Sprintf("%x %x", request.TraceId, request.ParentSpanId) != parentTrace+" "+parentSpan || root.TraceID() != parentTrace || request.TraceState != "" {
		t.Errorf("the request's span is %v", request)
	}
	if int64(request.StartTimeUnixNano) != came.UnixNano() {
		t.Errorf("the request began at %d, want %d", request.StartTimeUnixNano, came.UnixNano())
	}
	if string(lookup.ParentSpanId) != string(request.SpanId) || string(spans["plugin"].ParentSpanId) != string(lookup.SpanId) {
		t.Error("the spans are no tree")
	}
	if text := lookup.Attributes[0].Value.GetStringValue(); len(text) > 260 || len(lookup.Attributes) != 3 || lookup.Status.Message != "RegistryUnavailable" {
		t.Errorf("the lookup's span is %v", lookup)
	}
}

// TestWhoDecidesOnRecording holds the ways in which a request is recorded against what its header asks for.
func TestWhoDecidesOnRecording(t *testing.T) {
	tests := map[string]struct {
		header    http.Header
		variables []string
		recorded  bool
		follows   bool
	}{
		"nobody asks":                                  {nil, nil, true, false},
		"the parent is recorded":                       {traceparent("01"), nil, true, true},
		"the parent is not recorded":                   {traceparent("00"), nil, false, false},
		"a parent that is none":                        {http.Header{"Traceparent": {"01"}}, nil, true, false},
		"two parents":                                  {http.Header{"Traceparent": {traceparent("01").Get("Traceparent"), traceparent("00").Get("Traceparent")}}, nil, true, false},
		"the parent is recorded, others never":         {traceparent("01"), []string{"OTEL_TRACES_SAMPLER", "parentbased_always_off"}, true, true},
		"nobody asks, and nothing else is recorded":    {nil, []string{"OTEL_TRACES_SAMPLER", "parentbased_always_off"}, false, false},
		"the parent is recorded, and nothing is to be": {traceparent("01"), []string{"OTEL_TRACES_SAMPLER", "always_off"}, false, false},
		"a ratio of nothing":                           {nil, []string{"OTEL_TRACES_SAMPLER", "traceidratio", "OTEL_TRACES_SAMPLER_ARG", "0"}, false, false},
		"the header is no propagator":                  {traceparent("00"), []string{"OTEL_PROPAGATORS", "none"}, true, false},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			c := collect(t)
			tracer := c.tracer(t, &strings.Builder{}, test.variables...)
			defer tracer.Close()
			ctx, span := tracer.Request(t.Context(), "POST /verify", test.header, time.Now())
			_, inner := tracing.Start(ctx, "plan", "")
			if recorded := span != nil && inner != nil; recorded != test.recorded || (span.TraceID() == parentTrace) != test.follows {
				t.Errorf("recorded %t, trace %q", recorded, span.TraceID())
			}
			header := http.Header{}
			tracing.Inject(ctx, header)
			if (header.Get("Traceparent") != "") != test.recorded || header.Get("Tracestate") != "" {
				t.Errorf("others are told %v", header)
			}
		})
	}
}

// TestNothingIsWaitedFor ends spans while a collector does not answer, or refuses.
func TestNothingIsWaitedFor(t *testing.T) {
	end := func(tracer *tracing.Tracer, n int) {
		for range n {
			_, span := tracer.Request(context.Background(), "POST /verify", nil, time.Now())
			span.End()
		}
	}
	t.Run("a queue that is full drops, and counts", func(t *testing.T) {
		c, release := collect(t), make(chan struct{})
		c.answer = func(http.ResponseWriter) { <-release }
		tracer := c.tracer(t, &strings.Builder{}, "OTEL_BSP_MAX_QUEUE_SIZE", "8")
		end(tracer, 20)
		stats := tracer.Stats()
		close(release)
		tracer.Close()
		if after := tracer.Stats(); stats.Dropped == 0 || after.Dropped+after.Exported != 20 {
			t.Errorf("stats %+v, then %+v", stats, after)
		}
	})
	t.Run("a collector that refuses loses them, counted and told once", func(t *testing.T) {
		c := collect(t)
		c.answer = func(w http.ResponseWriter) { w.WriteHeader(http.StatusUnauthorized) }
		var log strings.Builder
		tracer := c.tracer(t, &log, "OTEL_BSP_MAX_QUEUE_SIZE", "1024")
		end(tracer, 5)
		tracer.Close()
		if tracer.Stats() != (tracing.Stats{Failed: 5}) || strings.Count(log.String(), "spans are lost") != 1 {
			t.Errorf("stats %+v\n%s", tracer.Stats(), log.String())
		}
	})
	t.Run("a redirect is not followed", func(t *testing.T) {
		c := collect(t)
		c.answer = func(w http.ResponseWriter) {
			w.Header().Set("Location", c.URL+"/v1/traces")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
		tracer := c.tracer(t, &strings.Builder{})
		end(tracer, 1)
		tracer.Close()
		if len(c.took) != 1 || tracer.Stats() != (tracing.Stats{Failed: 1}) {
			t.Errorf("%d requests, stats %+v", len(c.took), tracer.Stats())
		}
	})
	t.Run("a collector that takes a part says how many it rejected", func(t *testing.T) {
		c := collect(t)
		c.answer = func(w http.ResponseWriter) { _, _ = w.Write([]byte("\x0a\x07\x08\x02\x12\x03bad")) }
		var log strings.Builder
		tracer := c.tracer(t, &log)
		end(tracer, 5)
		tracer.Close()
		if tracer.Stats() != (tracing.Stats{Exported: 3, Failed: 2}) || !strings.Contains(log.String(), "rejected 2 spans: bad") {
			t.Errorf("stats %+v\n%s", tracer.Stats(), log.String())
		}
	})
	t.Run("a collector whose answer is nonsense took them", func(t *testing.T) {
		c := collect(t)
		c.answer = func(w http.ResponseWriter) { _, _ = w.Write([]byte("\x0a\xff")) }
		tracer := c.tracer(t, &strings.Builder{})
		end(tracer, 5)
		tracer.Close()
		if tracer.Stats() != (tracing.Stats{Exported: 5}) {
			t.Errorf("stats %+v", tracer.Stats())
		}
	})
	t.Run("a collector that is away", func(t *testing.T) {
		c := collect(t)
		tracer := c.tracer(t, &strings.Builder{}, "OTEL_EXPORTER_OTLP_TIMEOUT", "1")
		c.Close()
		end(tracer, 5)
		tracer.Close()
		if tracer.Stats() != (tracing.Stats{Failed: 5}) {
			t.Errorf("stats %+v", tracer.Stats())
		}
	})
}

func TestTracesAreBounded(t *testing.T) {
	t.Run("spans of one request", func(t *testing.T) {
		c := collect(t)
		tracer := c.tracer(t, &strings.Builder{})
		ctx, root := tracer.Request(t.Context(), "POST /verify", nil, time.Now())
		for range 1100 {
			_, span := tracing.Start(ctx, "lookup", "")
			span.End()
		}
		root.End()
		tracer.Close()
		if stats := tracer.Stats(); stats.Exported != 1000 || stats.Dropped != 101 {
			t.Errorf("stats %+v", stats)
		}
	})
	t.Run("requests of a second, although their callers want more", func(t *testing.T) {
		tracer := collect(t).tracer(t, &strings.Builder{})
		defer tracer.Close()
		recorded := 0
		for range 1000 {
			if _, span := tracer.Request(t.Context(), "POST /verify", traceparent("01"), time.Now()); span != nil {
				recorded++
			}
		}
		if recorded < 100 || recorded == 1000 || tracer.Stats().Limited != uint64(1000-recorded) {
			t.Errorf("%d of 1000 are recorded, stats %+v", recorded, tracer.Stats())
		}
	})
}

func TestWhatIsOffCostsNothing(t *testing.T) {
	var off *tracing.Tracer
	header := traceparent("01")
	if n := testing.AllocsPerRun(100, func() {
		ctx, root := off.Request(t.Context(), "POST /verify", header, time.Time{})
		ctx, span := tracing.Start(ctx, "lookup", "manifest")
		span.Text("subject", "x")
		span.Number("n", 1)
		tracing.Inject(ctx, nil)
		span.End()
		root.End()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
