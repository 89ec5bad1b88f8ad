package tracing

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// bounded refuses spans for which the queue behind it has no room, and counts them: that queue would drop them untold.
type bounded struct {
	sdk.SpanProcessor
	most    int64
	waiting *atomic.Int64
	counts  *counts
}

// OnEnd is part of sdk.SpanProcessor.
func (b *bounded) OnEnd(span sdk.ReadOnlySpan) {
	if b.waiting.Add(1) > b.most {
		b.waiting.Add(-1)
		b.counts.dropped.Add(1)
		return
	}
	b.SpanProcessor.OnEnd(span)
}

// sending counts what is sent, and logs what fails.
type sending struct {
	sdk.SpanExporter
	waiting atomic.Int64 // spans that are not sent yet
	counts  *counts
	log     *slog.Logger
	told    atomic.Int64 // when a failure was logged last, in seconds since 1970
}

// tellEvery is how often a collector that fails is logged, seconds.
const tellEvery = 60

// ExportSpans is part of sdk.SpanExporter. Failures are told here and not returned, since the SDK would print each.
func (s *sending) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	s.waiting.Add(-int64(len(spans)))
	err := s.SpanExporter.ExportSpans(ctx, spans)
	var rejected *rejectedError
	lost := uint64(len(spans))
	if err == nil {
		lost = 0
	} else if errors.As(err, &rejected) {
		lost = min(lost, rejected.spans)
	}
	s.counts.exported.Add(uint64(len(spans)) - lost)
	s.counts.failed.Add(lost)
	if now, last := time.Now().Unix(), s.told.Load(); err != nil && now-last >= tellEvery && s.told.CompareAndSwap(last, now) {
		s.log.Warn("spans are lost", "error", err.Error(), "spans", lost)
	}
	return nil
}

// rejectedError is a partial success: the collector took the other spans.
type rejectedError struct {
	spans uint64
	why   string
}

// Error says what the collector said.
func (e *rejectedError) Error() string {
	return fmt.Sprintf("the collector rejected %d spans: %s", e.spans, clip(e.why))
}

// maxAnswer bounds a collector's answer, and its header; bytes.
const maxAnswer = 64 << 10

// client sends spans by OTLP over HTTP. It stands in for OpenTelemetry's own client of this protocol, otlptracehttp, with which
// all of gRPC would be linked.
type client struct {
	endpoint *url.URL
	headers  map[string]string
	timeout  time.Duration // for a batch, all tries together
	packs    bool
	web      *http.Client
}

// Start is part of otlptrace.Client.
func (c *client) Start(context.Context) error { return nil }

// Stop is part of otlptrace.Client.
func (c *client) Stop(context.Context) error {
	c.web.CloseIdleConnections()
	return nil
}

// UploadTraces sends a batch. TracesData has the encoding of the request that the collector expects: the fields are the same.
func (c *client) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return err
	}
	if c.packs {
		var packed bytes.Buffer
		writer := gzip.NewWriter(&packed)
		_, _ = writer.Write(body) // a buffer takes everything
		_ = writer.Close()
		body = packed.Bytes()
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	for delay := time.Second; ; delay *= 2 {
		wait, err := c.send(ctx, body)
		if err == nil || wait < 0 {
			return err
		}
		if deadline, _ := ctx.Deadline(); time.Until(deadline) < max(delay, wait) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(max(delay, wait)):
		}
	}
}

// never is the wait of a request that is not sent again.
const never = -1

// send sends a batch once. After an error it may be sent again when wait is over, unless that is never.
func (c *client) send(ctx context.Context, body []byte) (wait time.Duration, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint.String(), bytes.NewReader(body))
	if err != nil {
		return never, err
	}
	for key, value := range c.headers {
		request.Header.Set(key, value)
	}
	request.Header.Set("Content-Type", "application/x-protobuf")
	if c.packs {
		request.Header.Set("Content-Encoding", "gzip")
	}
	response, err := c.web.Do(request)
	if err != nil {
		return 0, withoutURL(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	switch status := response.StatusCode; {
	case status/100 == 2 && err == nil:
		return never, rejectedBy(answer)
	case status/100 == 2:
		return never, nil // it took them, whatever it wanted to add
	case status == http.StatusTooManyRequests, status == http.StatusBadGateway, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		seconds, _ := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 16)
		return time.Duration(seconds) * time.Second, fmt.Errorf("the collector answered %d", status)
	default:
		return never, fmt.Errorf("the collector answered %d", status)
	}
}

// withoutURL leaves out the endpoint, which may hold a password.
func withoutURL(err error) error {
	var at *url.Error
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// rejectedBy reads the partial success of an ExportTraceServiceResponse: a message in field 1, with the number of rejected
// spans in field 1 and why in field 2. What is not of this form rejects nothing.
func rejectedBy(answer []byte) error {
	var rejected rejectedError
	partial := fields(answer)[1]
	rejected.spans, _ = protowire.ConsumeVarint(fields(partial)[1])
	rejected.why = string(fields(partial)[2])
	if rejected.spans == 0 {
		return nil
	}
	return &rejected
}

// fields gives the content of the fields of a message, the last of each number; nothing for an invalid message.
func fields(message []byte) map[protowire.Number][]byte {
	found := map[protowire.Number][]byte{}
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil
		}
		size := protowire.ConsumeFieldValue(number, kind, message[n:])
		if size < 0 {
			return nil
		}
		content := message[n : n+size]
		if kind == protowire.BytesType {
			content, _ = protowire.ConsumeBytes(content)
		}
		found[number] = content
		message = message[n+size:]
	}
	return found
}
