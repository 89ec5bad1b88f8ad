package registry

import (
	"context"
	"net/http"
	"time"
)

// Pace bounds the requests to a registry in time. Requests to its token endpoint and to where it redirects count as requests to it.
type Pace interface {
	// Wait waits until a request may be sent. It fails where that would be after the end of ctx.
	Wait(ctx context.Context, registry string) error
	// Pause keeps requests to the registry back, as it asks by status 429 or 503; 0 where it does not say for how long.
	Pause(registry string, pause time.Duration)
}

// paced waits before every request, retries and redirects too.
type paced struct {
	next     http.RoundTripper
	pace     Pace
	registry string
}

// RoundTrip is part of http.RoundTripper.
func (t *paced) RoundTrip(request *http.Request) (*http.Response, error) {
	if err := t.pace.Wait(request.Context(), t.registry); err != nil {
		return nil, err
	}
	response, err := t.next.RoundTrip(request)
	if err != nil {
		return response, err
	}
	pause, said := retryAfter(response.Header.Get("Retry-After"), time.Now())
	if response.StatusCode == http.StatusTooManyRequests || response.StatusCode == http.StatusServiceUnavailable && said {
		t.pace.Pause(t.registry, pause)
	}
	return response, nil
}
