package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"

	"oras.land/oras-go/v2/registry/remote"
)

// maxElements bounds the commas of a JSON document, and with them its elements: in four megabytes there is room for a
// million empty descriptors, each of which costs a hundred bytes of memory. Real ones are longer than that.
const maxElements = 100_000

// brokenOff is an answer that came to an end before its end, whatever protocol broke it.
type brokenOff struct{ cause error }

// Error is the cause's text.
func (b *brokenOff) Error() string { return b.cause.Error() }

// Unwrap gives the cause.
func (b *brokenOff) Unwrap() error { return b.cause }

type blobKey struct{}

// forBlob marks what is asked for as a blob. Its URL would not do: the registry chooses the URL of a list's next page, and
// "blobs" may be a part of a repository's name.
func forBlob(ctx context.Context) context.Context { return context.WithValue(ctx, blobKey{}, true) }

// sparing reads no document that is too long, or that costs much more memory than it has bytes. Blobs are bounded by
// who asks for them.
type sparing struct{ next remote.Client }

// Do is part of remote.Client.
func (c *sparing) Do(request *http.Request) (*http.Response, error) {
	response, err := c.next.Do(request)
	if err == nil {
		response.Body = &sparse{ReadCloser: response.Body, isBlob: request.Context().Value(blobKey{}) != nil}
	}
	return response, err
}

type sparse struct {
	io.ReadCloser
	isBlob          bool
	bytes, elements int
}

// Read fails when there was too much.
func (s *sparse) Read(data []byte) (int, error) {
	n, err := s.ReadCloser.Read(data)
	s.bytes += n
	s.elements += bytes.Count(data[:n], []byte(","))
	switch {
	case err != nil && err != io.EOF:
		return n, &brokenOff{err}
	case s.isBlob:
	case s.bytes > maxManifest:
		return 0, fmt.Errorf("it has more than %d bytes", maxManifest)
	case s.elements > maxElements:
		return 0, fmt.Errorf("it has more than %d elements", maxElements)
	}
	return n, err
}
