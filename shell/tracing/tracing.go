// Package tracing records what a request takes its time with, as spans of OpenTelemetry, and sends them to a collector.
//
// [New] reads the OTEL_ variables of OpenTelemetry's specification; without an endpoint there are no traces. [Tracer.Request]
// begins the trace of one request, and [Start] a span within the trace of its context:
//
//	ctx, span := tracing.Start(ctx, "lookup", "manifest")
//	defer span.End()
//	span.Text("outcome", "ok")
//
// Where nothing is recorded, spans are nil, and their methods do nothing and allocate nothing. Nobody waits for the collector:
// spans wait in a queue of a fixed size, and those that find no room in it, or cannot be sent, are counted in [Stats].
package tracing

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Bounds on a trace.
const (
	maxSpans = 1000 // of one request; one of a thousand images would have many thousands
	maxText  = 256  // bytes of an attribute
)

// Tracer begins traces. Nil begins none.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	parents  bool // a caller's traceparent is followed
	counts   *counts
}

// recorded is the trace of one request.
type recorded struct {
	tracer trace.Tracer
	counts *counts
	spans  atomic.Int64
}

type recordedKey struct{}

// IsKey tells whether a key of a context's values is that of a trace. A context that belongs to no trace can so say at once that
// it has none, instead of asking all contexts that it is made of.
func IsKey(key any) bool { return key == recordedKey{} }

// Span is one part of the work on a request. Nil is one that is not recorded.
type Span struct{ span trace.Span }

// Request begins the trace of a request that came at a time in the past, with an operation's name. The header's traceparent
// (W3C Trace Context) is followed, its tracestate is not. It is for callers who were authenticated: whoever else sends one
// could have any request recorded. Pass a nil header for others.
func (t *Tracer) Request(ctx context.Context, name string, header http.Header, came time.Time) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	if t.parents && header != nil {
		ctx = trace.ContextWithRemoteSpanContext(ctx, parentIn(header))
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(came))
	if !span.IsRecording() {
		return ctx, nil
	}
	return context.WithValue(ctx, recordedKey{}, &recorded{tracer: t.tracer, counts: t.counts}), &Span{span}
}

// parentIn is the caller's span, without what vendors add to it, which has no bound.
func parentIn(header http.Header) trace.SpanContext {
	if len(header.Values("Traceparent")) != 1 { // several contradict each other
		return trace.SpanContext{}
	}
	parent := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(header)))
	return parent.WithTraceState(trace.TraceState{})
}

// Start begins a span of an operation on an object, which may be "", within the trace of the context. End ends it.
func Start(ctx context.Context, operation, object string) (context.Context, *Span) {
	return StartAt(ctx, operation, object, time.Time{})
}

// StartAt is Start for what began at a time in the past; the zero time is now.
func StartAt(ctx context.Context, operation, object string, began time.Time) (context.Context, *Span) {
	of, ok := ctx.Value(recordedKey{}).(*recorded)
	if !ok {
		return ctx, nil
	}
	if of.spans.Add(1) >= maxSpans {
		of.counts.dropped.Add(1)
		return ctx, nil
	}
	var options []trace.SpanStartOption
	if !began.IsZero() {
		options = append(options, trace.WithTimestamp(began))
	}
	ctx, span := of.tracer.Start(ctx, clip(strings.TrimSpace(operation+" "+object)), options...)
	return ctx, &Span{span}
}

// Inject adds the traceparent of the context's span to a header, if it is recorded.
func Inject(ctx context.Context, header http.Header) {
	if ctx.Value(recordedKey{}) != nil {
		propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(header))
	}
}

// Text sets an attribute, cut to a bound; "" sets none. It must hold no secret, no text of an error, which may quote an address
// with its query, and nothing that only the content of a document tells.
func (s *Span) Text(key, value string) {
	if s != nil && value != "" {
		s.span.SetAttributes(attribute.String(key, clip(value)))
	}
}

// Number sets an attribute.
func (s *Span) Number(key string, value int) {
	if s != nil {
		s.span.SetAttributes(attribute.Int(key, value))
	}
}

// Flag sets an attribute.
func (s *Span) Flag(key string, value bool) {
	if s != nil {
		s.span.SetAttributes(attribute.Bool(key, value))
	}
}

// Failed marks what could not be done, with a code. What was done and denies an image did not fail.
func (s *Span) Failed(code string) {
	if s != nil {
		s.span.SetStatus(codes.Error, code)
	}
}

// TraceID is the trace's ID in hexadecimal; "" where nothing is recorded.
func (s *Span) TraceID() string {
	if s == nil {
		return ""
	}
	return s.span.SpanContext().TraceID().String()
}

// End ends the span.
func (s *Span) End() {
	if s != nil {
		s.span.End()
	}
}

// clip makes a text that the collector's protocol can carry: in valid UTF-8, since one that is not would spoil all that is sent
// with it.
func clip(text string) string { return reason.Clip(strings.ToValidUTF8(text, "?"), maxText) }

// Stats counts since the start.
type Stats struct {
	Exported uint64 // spans that the collector took
	Dropped  uint64 // spans over the bound of a trace, or for which the queue had no room
	Failed   uint64 // spans that the collector did not take
	Limited  uint64 // requests that are not traced, since there were too many in that second
}

type counts struct{ exported, dropped, failed, limited atomic.Uint64 }

// Stats gives the counts of this moment; of a nil Tracer they are zero.
func (t *Tracer) Stats() Stats {
	if t == nil {
		return Stats{}
	}
	return Stats{Exported: t.counts.exported.Load(), Dropped: t.counts.dropped.Load(), Failed: t.counts.failed.Load(), Limited: t.counts.limited.Load()}
}

// closing is how long Close waits for the collector to take the last spans.
const closing = 2 * time.Second

// Close sends what is left, within two seconds, and ends the sending.
func (t *Tracer) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // what was not sent is not waited for
}
