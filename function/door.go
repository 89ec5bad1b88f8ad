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
	maxBody  int64                          // bytes
	requests map[string]*semaphore.Weighted // that are being read, by path, since not all paths ask who comes
	large    *semaphore.Weighted            // of those, with a body over usualBody
	inside   *fair.Gate                     // that are being judged, by trust policy
}

const (
	// usualBody is what a request for a pod takes; bytes.
	usualBody = 64 << 10
	// largeBodies is how many requests with more than that are read at once: each may take maxBody.
	largeBodies = 16
)

// errOverloaded is why a request is answered with 503 while others are worked on.
var errOverloaded = errors.New("the service has too many requests to answer; try again")

func newDoor(settings Settings) *door {
	return &door{
		maxBody: int64(settings.MaxBodyBytes),
		requests: map[string]*semaphore.Weighted{
			pathCheck: semaphore.NewWeighted(int64(settings.MaxRequests)), pathVerify: semaphore.NewWeighted(int64(settings.MaxRequests)),
		},
		large:  semaphore.NewWeighted(largeBodies),
		inside: fair.New(settings.MaxRequests, 0),
	}
}

// read reads a request's body.
func (d *door) read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	places := d.requests[r.URL.Path]
	if places == nil || !places.TryAcquire(1) {
		return nil, errOverloaded
	}
	defer places.Release(1)
	body := http.MaxBytesReader(w, r.Body, d.maxBody)
	var text bytes.Buffer
	text.Grow(int(min(max(r.ContentLength, 0), usualBody)) + bytes.MinRead) // what a caller claims costs no more than that
	read, err := io.CopyN(&text, body, usualBody)
	if err == nil && read == usualBody {
		if !d.large.TryAcquire(1) {
			return nil, errOverloaded
		}
		defer d.large.Release(1)
		_, err = io.Copy(&text, body)
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &core.RequestError{Code: core.RequestTooLarge, Text: fmt.Sprintf("the body is over %d bytes; send images instead of object, or raise --maxBodyBytes", tooLarge.Limit)}
	case err != nil && !errors.Is(err, io.EOF):
		return nil, &core.RequestError{Code: core.RequestInvalid, Text: fmt.Sprintf("the body could not be read: %v", err)}
	}
	return text.Bytes(), nil
}

// admit lets a request be judged under a trust policy; leave ends that. No trust policy gets all places.
func (d *door) admit(ctx context.Context, policy string) (leave func(), err error) {
	if err := d.inside.Enter(ctx, policy); err != nil {
		return nil, errOverloaded
	}
	return func() { d.inside.Leave(policy) }, nil
}
