package registry

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	maxRetries  = 4
	firstDelay  = 100 * time.Millisecond // and twice as long each time
	leastTime   = 500 * time.Millisecond // that must be left before the deadline after a delay
	longestWait = time.Hour              // bound on Retry-After

	// retryShare is how many retries a request adds to the budget, and retryBurst how many it holds at first and at most.
	// So a registry that is down gets hardly more requests than one that is up.
	retryShare = 0.1
	retryBurst = 10
)

// retryBudget bounds the retries of one registry.
type retryBudget struct {
	mu   sync.Mutex
	left float64
}

func newRetryBudget() *retryBudget { return &retryBudget{left: retryBurst} }

func (b *retryBudget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = min(retryBurst, b.left+retryShare)
}

func (b *retryBudget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// retrying sends a request again after a transient failure, as far as the budget reaches. It waits as long as Retry-After
// says (RFC 9110, section 10.2.3). When the deadline would pass meanwhile, it reports the registry's own answer instead.
type retrying struct {
	next   http.RoundTripper
	budget *retryBudget
	counts *counts
}

// RoundTrip is part of http.RoundTripper.
func (t *retrying) RoundTrip(request *http.Request) (*http.Response, error) {
	t.budget.earn()
	for attempt := 0; ; attempt++ {
		response, err := t.next.RoundTrip(request)
		once, _ := request.Context().Value(onceKey{}).(bool)
		if attempt == maxRetries || once || !transient(response, err) || request.Context().Err() != nil {
			return response, err
		}
		delay := delayOf(attempt, response, time.Now())
		if deadline, ok := request.Context().Deadline(); ok && time.Until(deadline) < delay+leastTime {
			return response, err
		}
		again, ok := rewound(request)
		if !ok || !t.budget.spend() {
			return response, err
		}
		if response != nil {
			_ = response.Body.Close()
		}
		t.counts.retries.Add(1)
		select {
		case <-request.Context().Done():
			return nil, request.Context().Err()
		case <-time.After(delay):
		}
		request = again
	}
}

// transient tells whether a retry may help: after 408, 429, 5xx, a timeout or a broken connection. net/http itself retries
// where an idle connection broke.
func transient(response *http.Response, err error) bool {
	if err != nil {
		var network net.Error
		return errors.As(err, &network) && network.Timeout() || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrUnexpectedEOF)
	}
	return response.StatusCode == http.StatusRequestTimeout || response.StatusCode == http.StatusTooManyRequests || response.StatusCode >= 500
}

// delayOf is how long to wait before a retry. It varies by a fifth, so that requests that failed together are not sent
// again together.
func delayOf(attempt int, response *http.Response, now time.Time) time.Duration {
	if response != nil {
		if wait, ok := retryAfter(response.Header.Get("Retry-After"), now); ok {
			return wait
		}
	}
	delay := firstDelay << attempt
	return delay*4/5 + rand.N(delay*2/5)
}

// retryAfter reads the header as seconds or as a date.
func retryAfter(header string, now time.Time) (time.Duration, bool) {
	if seconds, err := strconv.ParseUint(header, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, longestWait), true
	}
	date, err := http.ParseTime(header)
	if err != nil {
		return 0, false
	}
	return min(max(0, date.Sub(now)), longestWait), true
}

// rewound gives the request with its body at the start; not ok where the body cannot be read again.
func rewound(request *http.Request) (*http.Request, bool) {
	if request.Body == nil || request.Body == http.NoBody {
		return request, true
	}
	if request.GetBody == nil {
		return nil, false
	}
	body, err := request.GetBody()
	if err != nil {
		return nil, false
	}
	again := request.Clone(request.Context())
	again.Body = body
	return again, true
}
