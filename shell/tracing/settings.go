package tracing

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"golang.org/x/time/rate"
)

// Environment looks up an environment variable, as os.LookupEnv does.
type Environment func(name string) (string, bool)

// Defaults of OpenTelemetry's specification.
const (
	defaultQueue   = 2048 // spans
	defaultTimeout = 10 * time.Second
)

// New makes the tracer that the OTEL_ variables ask for; nil where they ask for none. It fails on values that it does not
// understand. It connects to nobody yet.
func New(env Environment, service string, log *slog.Logger) (*Tracer, error) {
	read := settings{env}
	if read.off() {
		return nil, nil
	}
	client, err := read.client()
	if err != nil {
		return nil, err
	}
	sampler, err := samplerOf(read.text("OTEL_TRACES_SAMPLER"), read.text("OTEL_TRACES_SAMPLER_ARG"))
	if err != nil {
		return nil, err
	}
	queue, err := number("OTEL_BSP_MAX_QUEUE_SIZE", read.text("OTEL_BSP_MAX_QUEUE_SIZE"), defaultQueue)
	if err != nil {
		return nil, err
	}
	from, err := resource.New(context.Background(), resource.WithTelemetrySDK(), resource.WithAttributes(read.resource(service)...))
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	counts := &counts{}
	sent := &sending{SpanExporter: otlptrace.NewUnstarted(client), counts: counts, log: log}
	provider := sdk.NewTracerProvider(
		sdk.WithResource(from),
		sdk.WithSampler(limited{sampler, rate.NewLimiter(maxTraces, maxTraces), counts}),
		sdk.WithSpanProcessor(&bounded{SpanProcessor: sdk.NewBatchSpanProcessor(sent, sdk.WithMaxQueueSize(queue)), most: int64(queue), waiting: &sent.waiting, counts: counts}),
	)
	log.Info("traces are sent", "endpoint", client.endpoint.Redacted())
	return &Tracer{provider: provider, tracer: provider.Tracer(service), parents: read.follows(), counts: counts}, nil
}

// settings reads the OTEL_ variables.
type settings struct{ env Environment }

func (s settings) text(name string) string {
	value, _ := s.env(name)
	return strings.TrimSpace(value)
}

// exporter is a variable of the exporter: that for traces goes before that for all signals.
func (s settings) exporter(name string) string {
	if value := s.text("OTEL_EXPORTER_OTLP_TRACES_" + name); value != "" {
		return value
	}
	return s.text("OTEL_EXPORTER_OTLP_" + name)
}

// off tells whether nothing is traced: without an endpoint, and where the specification's switches say so.
func (s settings) off() bool {
	return s.exporter("ENDPOINT") == "" || strings.EqualFold(s.text("OTEL_SDK_DISABLED"), "true") || s.text("OTEL_TRACES_EXPORTER") == "none"
}

// follows tells whether the header traceparent is among the propagators, as it is by default.
func (s settings) follows() bool {
	names := s.text("OTEL_PROPAGATORS")
	return names == "" || slices.Contains(strings.Split(strings.ReplaceAll(names, " ", ""), ","), "tracecontext")
}

// number reads a whole number of a variable; otherwise where it has no text.
func number(name, text string, otherwise int) (int, error) {
	if text == "" {
		return otherwise, nil
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < 1 || value > 1<<20 {
		return 0, fmt.Errorf("%s is %q; it must be a number from 1 to %d", name, text, 1<<20)
	}
	return value, nil
}

// resource says who sends the spans: what OTEL_RESOURCE_ATTRIBUTES says, and OTEL_SERVICE_NAME before it.
func (s settings) resource(service string) []attribute.KeyValue {
	attributes := []attribute.KeyValue{attribute.String("service.name", service)}
	if host, err := os.Hostname(); err == nil { // the pod's name
		attributes = append(attributes, attribute.String("service.instance.id", host))
	}
	for key, value := range pairs(s.text("OTEL_RESOURCE_ATTRIBUTES")) {
		attributes = append(attributes, attribute.String(key, value))
	}
	if name := s.text("OTEL_SERVICE_NAME"); name != "" {
		attributes = append(attributes, attribute.String("service.name", name))
	}
	return attributes
}

// pairs reads key=value,key=value, whose values may be percent-encoded. What is not of this form is left out.
func pairs(text string) map[string]string {
	found := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(pair, "=")
		decoded, err := url.PathUnescape(strings.TrimSpace(value))
		if key = strings.TrimSpace(key); ok && key != "" && err == nil {
			found[key] = decoded
		}
	}
	return found
}

// client makes the client of the collector.
func (s settings) client() (*client, error) {
	if exporter := s.text("OTEL_TRACES_EXPORTER"); exporter != "" && exporter != "otlp" {
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER is %q; it must be otlp or none", exporter)
	}
	if protocol := s.exporter("PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q; only http/protobuf is built in, for which collectors have port 4318", protocol)
	}
	endpoint, err := s.endpoint()
	if err != nil {
		return nil, err
	}
	milliseconds, err := number("OTEL_EXPORTER_OTLP_TIMEOUT", s.exporter("TIMEOUT"), int(defaultTimeout.Milliseconds()))
	if err != nil {
		return nil, err
	}
	compression := s.exporter("COMPRESSION")
	if compression != "" && compression != "none" && compression != "gzip" {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_COMPRESSION is %q; it must be gzip or none", compression)
	}
	secure, err := s.tls()
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = secure
	transport.MaxResponseHeaderBytes = maxAnswer
	return &client{
		endpoint: endpoint, headers: pairs(s.exporter("HEADERS")), timeout: time.Duration(milliseconds) * time.Millisecond, packs: compression == "gzip",
		web: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// endpoint is the address that spans are sent to.
func (s settings) endpoint() (*url.URL, error) {
	at, err := url.Parse(s.exporter("ENDPOINT"))
	if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
		return nil, errors.New("OTEL_EXPORTER_OTLP_ENDPOINT is no URL, such as http://collector:4318") // it may hold a password
	}
	if s.text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" { // that is taken as it is
		at = at.JoinPath("v1", "traces")
	}
	return at, nil
}

// tls gives whom to trust, and the client's certificate.
func (s settings) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if file := s.exporter("CERTIFICATE"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE: %s holds no PEM certificate", file)
		}
	}
	certificate, key := s.exporter("CLIENT_CERTIFICATE"), s.exporter("CLIENT_KEY")
	if certificate == "" && key == "" {
		return config, nil
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _CLIENT_KEY: %w", err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}
