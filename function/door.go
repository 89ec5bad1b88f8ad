package function

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"golang.org/x/sync/semaphore"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/shell/fair"
)

// door bounds the requests that are worked on at once, so that a burst is answered in part and at once rather than
// wholly and late. What it holds back is told to try again.
type door struct {
	maxBody int64           // bytes
	paths   map[string]path // since not all of them ask who comes
	inside  *fair.Gate      // that are being judged, by trust policy
}

// path bounds the requests of one path that are read and planned.
type path struct {
	requests *semaphore.Weighted
	large    *semaphore.Weighted // of those, with a body over usualBody
}

const (
	// usualBody is what a request for a pod takes; bytes.
	usualBody = 64 << 10
	// largeBodies is how many requests of a path with more than that are read at once: each may take maxBody, and
	// what is made of it several times that.
	largeBodies = 16
)

// errOverloaded is why a request is answered with 503 while others are worked on.
var errOverloaded = errors.New("the service has too many requests to answer; try again")

func newDoor(settings Settings) *door {
	bounded := func() path {
		return path{semaphore.NewWeighted(int64(settings.MaxRequests)), semaphore.NewWeighted(largeBodies)}
	}
	return &door{
		maxBody: int64(settings.MaxBodyBytes),
		paths:   map[string]path{pathCheck: bounded(), pathVerify: bounded()},
		inside:  fair.New(settings.MaxRequests, 0),
	}
}

// read reads a request's body. leave ends that, when the request is planned.
func (d *door) read(w http.ResponseWriter, r *http.Request) (body []byte, leave func(), err error) {
	at, known := d.paths[r.URL.Path]
	if !known || !at.requests.TryAcquire(1) {
		return nil, nil, errOverloaded
	}
	leave = func() { at.requests.Release(1) }
	source := http.MaxBytesReader(w, r.Body, d.maxBody)
	var text bytes.Buffer
	text.Grow(int(min(max(r.ContentLength, 0), usualBody)) + bytes.MinRead) // what a caller claims costs no more than that
	read, err := io.CopyN(&text, source, usualBody)
	if err == nil && read == usualBody {
		if !at.large.TryAcquire(1) {
			leave()
			return nil, nil, errOverloaded
		}
		leave = func() { at.large.Release(1); at.requests.Release(1) }
		_, err = io.Copy(&text, source)
	}
	if err := unreadable(err); err != nil {
		leave()
		return nil, nil, err
	}
	return text.Bytes(), leave, nil
}

// unreadable says why a body could not be read; nil when it was.
func unreadable(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &core.RequestError{Code: core.RequestTooLarge, Text: fmt.Sprintf("the body is over %d bytes; send images instead of object, or raise --maxBodyBytes", tooLarge.Limit)}
	case err != nil && !errors.Is(err, io.EOF):
		return &core.RequestError{Code: core.RequestInvalid, Text: fmt.Sprintf("the body could not be read: %v", err)}
	}
	return nil
}

// admit lets a request be judged under a trust policy; leave ends that. No trust policy gets all places.
func (d *door) admit(ctx context.Context, policy string) (leave func(), err error) {
	if err := d.inside.Enter(ctx, policy); err != nil {
		return nil, errOverloaded
	}
	return func() { d.inside.Leave(policy) }, nil
}
