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
	leastTime   = 500 * time.Millisecond // that must be left of the deadline after a delay
	longestWait = time.Hour              // which Retry-After is cut to

	// retryShare is how many retries a request earns, and retryBurst how many are in stock at first and at most: a
	// registry that is down is asked hardly more often than one that is up.
	retryShare = 0.1
	retryBurst = 10
)

// budget bounds the retries of one registry.
type budget struct {
	mu    sync.Mutex
	stock float64
}

func newBudget() *budget { return &budget{stock: retryBurst} }

func (b *budget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stock = min(retryBurst, b.stock+retryShare)
}

func (b *budget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stock < 1 {
		return false
	}
	b.stock--
	return true
}

// retrying asks again on 408, 429 and 5xx and when a connection broke, as far as the budget reaches. It waits as long
// as Retry-After says (RFC 9110, section 10.2.3). When the deadline would pass in the meantime, the registry's own
// answer is what is reported.
type retrying struct {
	next   http.RoundTripper
	budget *budget
	counts *counts
}

// RoundTrip is part of http.RoundTripper.
func (t *retrying) RoundTrip(request *http.Request) (*http.Response, error) {
	t.budget.earn()
	for attempt := 0; ; attempt++ {
		response, err := t.next.RoundTrip(request)
		if attempt == maxRetries || !passing(response, err) || request.Context().Err() != nil {
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
		timer := time.NewTimer(delay)
		select {
		case <-request.Context().Done():
			timer.Stop()
			return nil, request.Context().Err()
		case <-timer.C:
		}
		request = again
	}
}

// passing tells a failure that may be gone the next time. net/http itself asks again where an idle connection broke.
func passing(response *http.Response, err error) bool {
	if err != nil {
		var network net.Error
		return errors.As(err, &network) && network.Timeout() || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrUnexpectedEOF)
	}
	return response.StatusCode == http.StatusRequestTimeout || response.StatusCode == http.StatusTooManyRequests || response.StatusCode >= 500
}

// delayOf is how long to wait: a fifth more or less, so that not all who failed together come back together.
func delayOf(attempt int, response *http.Response, now time.Time) time.Duration {
	if response != nil {
		if wait, ok := retryAfter(response.Header.Get("Retry-After"), now); ok {
			return wait
		}
	}
	delay := firstDelay << attempt
	return delay*4/5 + rand.N(delay*2/5)
}

// retryAfter reads seconds or a date.
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

// rewound gives a request that can be sent again.
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
