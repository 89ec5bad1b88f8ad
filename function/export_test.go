package function

import (
	"context"
	"crypto/tls"
	"net/http"
	"strconv"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/shell/kube"
)

// Inspected is closed when the service has read the metadata of its plugins, for tests that wait until it is ready.
func (f *Function) Inspected() <-chan struct{} { return f.inspected }

// AwaitRecords waits until the decisions so far are recorded.
func (f *Function) AwaitRecords() { f.decisions.recorder.Settle() }

// TLSConfig is a new copy of what the service serves with.
func (f *Function) TLSConfig() *tls.Config { return f.serving.config() }

// ForStrangers is the handler of a service that knows no caller.
func (f *Function) ForStrangers() http.Handler {
	return (&Function{settings: f.settings, log: f.log, callers: strangers{}, events: f.events, limiter: f.limiter, metrics: f.metrics}).Handler()
}

type strangers struct{}

// Review is part of CallerReview.
func (strangers) Review(context.Context, string) (string, error) { return "", kube.ErrUnauthenticated }

// ErrorStatuses are those of requests without a verdict.
func ErrorStatuses() (statuses []string) {
	for _, err := range []error{
		&core.RequestError{Code: reason.RequestTooLarge}, &core.RequestError{}, kube.ErrUnauthenticated, kube.ErrForbidden, errOverloaded,
	} {
		statuses = append(statuses, strconv.Itoa(statusOfError(err)))
	}
	return statuses
}

// VerdictStatuses are those of /checkimages, by the class of the verdict.
func VerdictStatuses() (statuses []string) {
	for _, info := range reason.Codes() {
		statuses = append(statuses, strconv.Itoa(statusOfClass(info.Code.Class())))
	}
	return statuses
}

// SetBodyTimeout sets within what time a body must arrive, before the first request.
func (f *Function) SetBodyTimeout(timeout time.Duration) { f.limiter.bodyTimeout = timeout }
