package verify

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/semaphore"

	"github.com/nirmata/kyverno-notation-venafi/core/condition"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/fair"
	"github.com/nirmata/kyverno-notation-venafi/shell/tracing"
)

// Bounds on the documents in memory at once, bytes. Reading takes as long as a registry draws it out. Evaluating takes no
// longer than computing, but several times the memory: at most [condition.BytesPerByte] for each byte of its budget, which is
// 512 MiB for all together. Retained documents stay after their evaluation.
const (
	readAtOnce      = 3 * verification.MaxDocument
	evaluatedAtOnce = verification.MaxDocument
	retainedAtOnce  = 32 << 20
)

// documentMemory bounds the memory for documents, of all requests together.
type documentMemory struct {
	reading    *fair.ByteBudget    // documents from when they are requested until they are evaluated
	evaluating *fair.ByteBudget    // documents while they are decoded and evaluated
	retained   *semaphore.Weighted // documents that stay until their verification ends, to be evaluated again for another time
}

func newDocumentMemory() documentMemory {
	return documentMemory{
		reading:    fair.NewByteBudget(readAtOnce, verification.MaxDocument),
		evaluating: fair.NewByteBudget(evaluatedAtOnce, verification.MaxDocument),
		retained:   semaphore.NewWeighted(retainedAtOnce),
	}
}

// retention retains the documents of evidence that several requests evaluate again: once for all that do at the same time.
type retention struct {
	of    *semaphore.Weighted
	bytes int64

	mu    sync.Mutex
	users int
}

// tryAcquire is false where no memory is free. The caller calls release.
func (r *retention) tryAcquire() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users == 0 && !r.of.TryAcquire(r.bytes) {
		return false
	}
	r.users++
	return true
}

func (r *retention) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users--; r.users == 0 {
		r.of.Release(r.bytes)
	}
}

// document reads a document and evaluates a demand's conditions on it. It holds the budget for reading until the evaluation
// has ended, and the budget for evaluating only while it evaluates.
func (c course) document(ctx context.Context, lookup verification.Lookup) verification.Answer {
	demand, ok := c.task.Demand(lookup.Demand)
	if !ok {
		return verification.Answer{Failure: &verification.Failure{Finding: reason.Finding{Code: reason.NotGathered, Reason: "nobody demands its document"}}}
	}
	if document, ok := c.cached[lookup]; ok {
		return c.evaluate(ctx, demand, document)
	}
	release, err := c.documents.reading.Acquire(ctx, c.task.Policy, lookup.Size)
	if err != nil {
		return noMemory()
	}
	defer release()
	data, err := c.repository(lookup).Blob(ctx, blobOf(lookup), verification.MaxDocument)
	if err != nil {
		return verification.Answer{Failure: failureOf(ctx, err)}
	}
	return c.evaluate(ctx, demand, data)
}

// evaluate decompresses a document and evaluates conditions on it. Where the result is time dependent, it keeps the document,
// if memory for that is free.
func (c course) evaluate(ctx context.Context, demand verification.AttestationType, data []byte) verification.Answer {
	ended := func() bool { return ctx.Err() != nil }
	release, err := c.documents.evaluating.Acquire(ctx, c.task.Policy, max(unpackedSize(data), condition.SmallDocument))
	if err != nil {
		return noMemory()
	}
	defer release()
	document, err := decompress(data, ended)
	switch {
	case ended():
		return verification.Answer{Failure: timeout()}
	case err != nil:
		finding := reason.Finding{Code: reason.AttestationInvalid, Reason: reason.Clip(fmt.Sprintf("its payload cannot be used: %v", err), 2*reason.MaxWords)}
		return verification.Answer{Failure: &verification.Failure{Finding: finding, Unusable: true}}
	}
	_, span := tracing.Start(ctx, "conditions", demand.Name)
	evaluation := verification.Evaluate(demand, document, c.now, ended)
	span.Text("outcome", outcome(evaluation.Finding))
	span.End()
	if evaluation.TimeDependent && c.retained != nil && c.documents.retained.TryAcquire(int64(len(document))) {
		c.retained.Add(int64(len(document)))
		evaluation.Document = document
	}
	return verification.Answer{Document: evaluation}
}

func noMemory() verification.Answer {
	return verification.Answer{Failure: &verification.Failure{
		Finding: reason.Finding{Code: reason.Overloaded, Reason: "time ran out while other attestations were read; try again"},
	}}
}

// The first bytes of compressed data, with which no JSON starts.
const (
	gzipMagic = "\x1f\x8b"
	zstdMagic = "\x28\xb5\x2f\xfd"
)

// unpackedSize bounds the size of a document when it is decompressed, bytes.
func unpackedSize(data []byte) int64 {
	if bytes.HasPrefix(data, []byte(gzipMagic)) || bytes.HasPrefix(data, []byte(zstdMagic)) {
		return verification.MaxDocument
	}
	return int64(len(data))
}

// decompress decompresses gzip or zstd, up to the bound on documents, and stops when the request has ended.
func decompress(data []byte, ended func() bool) ([]byte, error) {
	packed := untilEnd{ended, bytes.NewReader(data)} // it may have millions of empty members, which produce nothing to read
	switch {
	case bytes.HasPrefix(data, []byte(gzipMagic)):
		reader, err := gzip.NewReader(packed)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return readAll(untilEnd{ended, reader})
	case bytes.HasPrefix(data, []byte(zstdMagic)):
		reader, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(verification.MaxDocument))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		defer reader.Close()
		return readAll(untilEnd{ended, reader})
	}
	return data, nil
}

// untilEnd is a reader that fails when the request has ended.
type untilEnd struct {
	ended  func() bool
	reader io.Reader
}

// Read reads at most 64 KiB, so that the end is noticed.
func (r untilEnd) Read(into []byte) (int, error) {
	if r.ended() {
		return 0, errors.New("time ran out")
	}
	return r.reader.Read(into[:min(len(into), 64<<10)])
}

func readAll(reader io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(reader, verification.MaxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("decompressing: %w", err)
	}
	if len(data) > verification.MaxDocument {
		return nil, errors.New("decompressed, it is over 32 MiB")
	}
	return data, nil
}
