package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"oras.land/oras-go/v2/registry/remote"
)

// maxElements bounds the commas of a JSON document, and with them its elements: in four megabytes there is room for a
// million empty descriptors, each of which costs a hundred bytes of memory. Real ones are longer than that.
const maxElements = 100_000

var errDense = errors.New("it has more elements than are looked at")

// sparing reads no document that costs much more memory than it has bytes.
type sparing struct{ next remote.Client }

// Do is part of remote.Client.
func (c *sparing) Do(request *http.Request) (*http.Response, error) {
	response, err := c.next.Do(request)
	if err == nil && !strings.Contains(request.URL.Path, "/blobs/") {
		response.Body = &sparse{ReadCloser: response.Body}
	}
	return response, err
}

type sparse struct {
	io.ReadCloser
	elements int
}

// Read fails when there were too many elements.
func (s *sparse) Read(data []byte) (int, error) {
	n, err := s.ReadCloser.Read(data)
	s.elements += bytes.Count(data[:n], []byte(","))
	if s.elements > maxElements {
		return 0, fmt.Errorf("%w, which is %d", errDense, maxElements)
	}
	return n, err
}
