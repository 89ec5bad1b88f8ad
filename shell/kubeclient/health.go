package kubeclient

import (
	"log/slog"
	"maps"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Health is the health of the watches of one part of the service. It logs one line when the API server cannot be watched any
// longer, and one when it can be again.
type Health struct {
	log     *slog.Logger
	subject string // what keeps its last known state during an outage

	changed func() // is called when a watch fails otherwise than before, or no longer; nil for nobody. A refusal ends what was known then

	mu       sync.Mutex
	waiting  map[Target]struct{} // watches that had no answer yet
	failures map[Target]failure  // watches whose last call failed
}

// failure is that of a watch's last call.
type failure struct {
	reason metav1.StatusReason
	err    error
}

// NewHealth makes the health of some watches, none of which has had an answer yet.
func NewHealth(log *slog.Logger, subject string, watches ...Target) *Health {
	h := &Health{log: log, subject: subject, waiting: map[Target]struct{}{}, failures: map[Target]failure{}}
	for _, watch := range watches {
		h.waiting[watch] = struct{}{}
	}
	return h
}

// unreachable is the reason of failures that are no answer of the API server.
const unreachable metav1.StatusReason = "Unreachable"

// report records the result of a watch's call; a nil error is a success.
func (h *Health) report(of Target, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.recover(of)
		return
	}
	reason := apierrors.ReasonForError(err)
	if reason == metav1.StatusReasonUnknown {
		reason = unreachable
	}
	if h.failures[of].reason == reason {
		return
	}
	logged := slices.ContainsFunc(slices.Collect(maps.Values(h.failures)), func(f failure) bool { return f.reason == reason }) // for another watch
	h.failures[of] = failure{reason, err}
	switch {
	case logged:
	case h.changed != nil && reason == metav1.StatusReasonForbidden:
		h.log.Warn("the API server refuses to be watched", "subject", h.subject, "watch", of.String(), "error", err)
	default:
		h.log.Warn("the API server cannot be watched; what was known last stays", "subject", h.subject, "watch", of.String(), "error", err)
	}
	if h.changed != nil {
		h.changed()
	}
}

func (h *Health) recover(of Target) {
	delete(h.waiting, of)
	if _, failed := h.failures[of]; !failed {
		return
	}
	delete(h.failures, of)
	if len(h.failures) == 0 {
		h.log.Info("the API server is watched again", "subject", h.subject)
	}
	if h.changed != nil {
		h.changed()
	}
}

// Connected reports whether the last call of every watch succeeded.
func (h *Health) Connected() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.waiting) == 0 && len(h.failures) == 0
}

// refused reports whether the API server answered and does not allow a watch.
func (h *Health) refused(of Target) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	failure, failed := h.failures[of]
	return failed && failure.reason != unreachable
}

// failure gives how the last call of a watch failed; false where it did not.
func (h *Health) failure(of Target) (failure, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	failure, failed := h.failures[of]
	return failure, failed
}
