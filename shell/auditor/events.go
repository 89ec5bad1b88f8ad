package auditor

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nirmata/kyverno-notation-venafi/core/auditor"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

const (
	// eventsAtOnce is how many Events are recorded in one namespace at once, and eventEvery the time in which one more may be.
	eventsAtOnce = 200
	eventEvery   = time.Second
	// reportingController names us in Events, and maxInstance is the API server's bound on the name of this process.
	reportingController = "nirmata.io/kyverno-notation-venafi-auditor"
	maxInstance         = 128 // bytes
)

// events records Events on workloads.
type events struct {
	*Auditor
	pace    *Pace // by namespace
	failing *complaint
}

func newEvents(a *Auditor) events {
	return events{a, newPace(func() auditor.Budget { return auditor.NewBurst(eventsAtOnce, eventEvery) }), &complaint{log: a.log, what: "Events cannot be recorded", over: "Events are recorded again"}}
}

// record records the Event of a write, if it has one. It fails where it may be tried again. An Event that was recorded already, by
// a leader that did not come to write the report, is left as it is.
func (e events) record(ctx context.Context, write *auditor.Write) error {
	event := write.Event
	if event == nil {
		return nil
	}
	if e.pace.Ready(write.Namespace) > 0 {
		e.count(e.counts.Events, "dropped")
		return nil
	}
	_ = e.pace.Wait(ctx, write.Namespace) // takes it off the budget
	ctx, cancel := context.WithTimeout(ctx, kubeclient.RequestTimeout)
	defer cancel()
	kind := core.EventTypeNormal
	if event.Warning {
		kind = core.EventTypeWarning
	}
	_, err := e.client.Events.Events(write.Namespace).Create(ctx, &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Name: event.Name, Namespace: write.Namespace},
		EventTime:           metav1.NewMicroTime(time.Now().UTC()),
		Type:                kind,
		Reason:              event.Reason,
		Action:              "Audit",
		Note:                event.Note,
		ReportingController: reportingController,
		ReportingInstance:   e.options.Instance[:min(len(e.options.Instance), maxInstance)],
		Regarding: core.ObjectReference{
			APIVersion: event.On.APIVersion, Kind: event.On.Kind, Namespace: event.On.Namespace, Name: event.On.Name, UID: types.UID(event.On.UID),
		},
	}, metav1.CreateOptions{FieldManager: kubeclient.FieldManager})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if ctx.Err() == nil || err == nil {
		e.failing.tell(err)
	}
	switch {
	case err == nil:
		e.count(e.counts.Events, "recorded")
	case kubeclient.Refused(err), write.Late:
		e.count(e.counts.Events, "failed") // it would be refused again, and the report matters more
	default:
		return fmt.Errorf("event on %s %s: %w", event.On.Kind, event.On.Name, err)
	}
	return nil
}

// complaint logs a failure once, and again after a while, and when it has been over for as long.
type complaint struct {
	log        *slog.Logger
	what, over string

	mu      sync.Mutex
	failing bool
	logged  time.Time // when it was logged last
}

// complainEvery is how often a failure that lasts is logged.
const complainEvery = time.Minute

func (c *complaint) tell(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failing == (err != nil) && !c.failing || time.Since(c.logged) < complainEvery {
		return
	}
	c.failing, c.logged = err != nil, time.Now()
	if err != nil {
		c.log.Error(c.what, "error", err)
		return
	}
	c.log.Info(c.over)
}
