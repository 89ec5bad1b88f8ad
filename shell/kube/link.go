package kube

import (
	"log/slog"
	"maps"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// link knows how the watches of one part get on with the API server, and logs a line when that goes wrong and
// one when it is right again.
type link struct {
	log     *slog.Logger
	subject string // what stays as it is in the meantime

	mu      sync.Mutex
	waiting map[target]struct{}            // watches that had no answer yet
	outages map[target]metav1.StatusReason // watches whose last call failed
}

func newLink(log *slog.Logger, subject string, watches ...target) *link {
	l := &link{log: log, subject: subject, waiting: map[target]struct{}{}, outages: map[target]metav1.StatusReason{}}
	for _, watch := range watches {
		l.waiting[watch] = struct{}{}
	}
	return l
}

// unreachable is the reason of failures that are no answer of the API server.
const unreachable metav1.StatusReason = "Unreachable"

// report takes how a call went.
func (l *link) report(of target, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.recovered(of)
		return
	}
	reason := apierrors.ReasonForError(err)
	if reason == metav1.StatusReasonUnknown {
		reason = unreachable
	}
	if l.outages[of] == reason {
		return
	}
	told := slices.Contains(slices.Collect(maps.Values(l.outages)), reason) // by another watch
	l.outages[of] = reason
	if !told {
		l.log.Warn("the API server cannot be watched; what was known last stays", "subject", l.subject, "watch", of.String(), "error", err)
	}
}

func (l *link) recovered(of target) {
	delete(l.waiting, of)
	if _, failed := l.outages[of]; !failed {
		return
	}
	delete(l.outages, of)
	if len(l.outages) == 0 {
		l.log.Info("the API server is watched again", "subject", l.subject)
	}
}

// connected tells whether the last call of every watch worked.
func (l *link) connected() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) == 0 && len(l.outages) == 0
}

// refused tells whether the API server is there and does not let a watch be.
func (l *link) refused(of target) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	reason, failed := l.outages[of]
	return failed && reason != unreachable
}
