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

	mu       sync.Mutex
	waiting  map[Target]struct{}            // watches that had no answer yet
	failures map[Target]metav1.StatusReason // watches whose last call failed
}

// NewHealth makes the health of some watches, none of which has had an answer yet.
func NewHealth(log *slog.Logger, subject string, watches ...Target) *Health {
	h := &Health{log: log, subject: subject, waiting: map[Target]struct{}{}, failures: map[Target]metav1.StatusReason{}}
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
	if h.failures[of] == reason {
		return
	}
	logged := slices.Contains(slices.Collect(maps.Values(h.failures)), reason) // for another watch
	h.failures[of] = reason
	if !logged {
		h.log.Warn("the API server cannot be watched; what was known last stays", "subject", h.subject, "watch", of.String(), "error", err)
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
	reason, failed := h.failures[of]
	return failed && reason != unreachable
}
