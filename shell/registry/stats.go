package registry

import (
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/tracing"
)

// Stats counts the requests to registries since the client was made, and the reads of now. It names no hosts but those in Limits, since
// there may be any number.
type Stats struct {
	Hosts    int               // whose connections may be kept
	Reading  int               // reads under way
	Waiting  int               // reads that wait for their turn at a registry
	Retries  uint64            // requests that were sent again
	Mirrored uint64            // reads that a mirror answered
	Paused   int               // registries that want no requests now
	Limits   []Limit           // what registries that the options name, and Docker Hub, say is left of their rate limits
	Requests map[string]uint64 // by outcome: ok, missing, unauthorized, limited, failed, unreachable
}

// The outcomes of a request.
const (
	outcomeOK = iota
	outcomeMissing
	outcomeUnauthorized
	outcomeLimited
	outcomeFailed
	outcomeUnreachable
	outcomes // their number
)

var outcomeNames = [outcomes]string{"ok", "missing", "unauthorized", "limited", "failed", "unreachable"}

// counts are those of all hosts of a client.
type counts struct {
	retries  atomic.Uint64
	mirrored atomic.Uint64
	requests [outcomes]atomic.Uint64
}

// counting counts every request that is sent, and tells the registry its trace where that is asked for.
type counting struct {
	next        http.RoundTripper
	counts      *counts
	traceparent bool
}

// RoundTrip is part of http.RoundTripper.
func (t *counting) RoundTrip(request *http.Request) (*http.Response, error) {
	if t.traceparent {
		request = request.Clone(request.Context())
		tracing.Inject(request.Context(), request.Header)
	}
	response, err := t.next.RoundTrip(request)
	t.counts.requests[outcomeOf(response, err)].Add(1)
	return response, err
}

func outcomeOf(response *http.Response, err error) int {
	if err != nil {
		return outcomeUnreachable
	}
	switch status := response.StatusCode; {
	case status < 400:
		return outcomeOK
	case status == http.StatusNotFound:
		return outcomeMissing
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return outcomeUnauthorized
	case status == http.StatusTooManyRequests:
		return outcomeLimited
	}
	return outcomeFailed
}

// Stats gives the counts of this moment.
func (c *Client) Stats() Stats {
	reading, waiting := c.hosts.reads()
	s := Stats{
		Hosts: c.hosts.count(), Reading: reading, Waiting: waiting, Retries: c.counts.retries.Load(), Mirrored: c.counts.mirrored.Load(),
		Requests: make(map[string]uint64, outcomes),
	}
	s.Limits, s.Paused = c.budgets.limits(time.Now(), c.isNamed)
	for i := range c.counts.requests {
		s.Requests[outcomeNames[i]] = c.counts.requests[i].Load()
	}
	return s
}

// isNamed tells whether the operator chose a registry. Of the others, whoever names an image may choose any number.
func (c *Client) isNamed(name string) bool {
	if name == "docker.io" || c.mirrors[name] != nil || slices.Contains(c.options.InsecureHosts, name) {
		return true
	}
	for _, mirrors := range c.mirrors {
		if slices.ContainsFunc(mirrors, func(m mirror) bool { return m.registry == name }) {
			return true
		}
	}
	return false
}
