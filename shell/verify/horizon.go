package verify

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"
)

// horizon collects until when the answers hold on which a verification relies, such as lists of revoked certificates.
// notation-core-go does not give them with its result, so they are noted where they come in.
type horizon struct {
	mu    sync.Mutex
	until time.Time // zero: no bound
}

type horizonKey struct{}

// withHorizon lets what is done under a context note its horizon.
func withHorizon(ctx context.Context) (context.Context, *horizon) {
	h := &horizon{}
	return context.WithValue(ctx, horizonKey{}, h), h
}

// horizonOf gives a context's horizon; one that nobody reads where there is none.
func horizonOf(ctx context.Context) *horizon {
	if h, ok := ctx.Value(horizonKey{}).(*horizon); ok {
		return h
	}
	return &horizon{}
}

// note takes in a bound; a zero time is none.
func (h *horizon) note(until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.until.IsZero() || !until.IsZero() && until.Before(h.until) {
		h.until = until
	}
}

// bound is the earliest that was noted.
func (h *horizon) bound() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.until
}

// maxOCSP bounds an OCSP answer that is looked at; bytes. notation-core-go reads no more of one.
const maxOCSP = 20 << 10

// ocspHorizon notes the next update of OCSP answers that pass by. Whether to believe them is not its business.
type ocspHorizon struct{ next http.RoundTripper }

// RoundTrip passes the request on.
func (t ocspHorizon) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxOCSP))
	if err != nil {
		_ = response.Body.Close() // the first error is what counts
		return nil, err
	}
	if answer, err := ocsp.ParseResponse(body, nil); err == nil {
		horizonOf(request.Context()).note(answer.NextUpdate)
	}
	rest := response.Body
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), rest), rest}
	return response, nil
}
