package function

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/jellydator/ttlcache/v3"
	"golang.org/x/sync/semaphore"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
)

// events receives CloudEvents about changes of trust (CloudEvents 1.0.2, HTTP protocol binding, structured and binary
// mode), as Knative's ApiServerSource sends them. An event reaches one replica, and may be lost, duplicated, late or out of
// order. So its content is not trusted: it makes this replica list the trust resources again, and the epoch makes the other
// replicas do so.
type events struct {
	senders  CallerReview // reviews who sends an event; nil refuses all events
	outcomes *cache.Cache
	trust    TrustSource
	renew    func()                                    // has this replica list the trust resources again
	bump     func(ctx context.Context, v string) error // has the other replicas do so, by a new value of the epoch
	seen     *ttlcache.Cache[string, struct{}]         // identities of the events that were applied
	reading  *semaphore.Weighted                       // events that are read
	counted  map[string]*atomic.Uint64                 // by eventOutcomes; the map itself is never written after newEvents
	log      *slog.Logger
}

// What becomes of an event.
const (
	eventTaken     = "taken"     // applied, and the other replicas notified
	eventDuplicate = "duplicate" // was taken before
	eventIgnored   = "ignored"   // is not about trust
	eventRefused   = "refused"   // its sender is not known, or may not send events
	eventMalformed = "malformed" // is no CloudEvent, or larger than maxEvent
	eventFailed    = "failed"    // its body did not arrive, or the API server could not review the sender or notify the other replicas; the sender should send it again
)

var eventOutcomes = [...]string{eventTaken, eventDuplicate, eventIgnored, eventRefused, eventMalformed, eventFailed}

// Bounds on events.
const (
	maxEvent    = 2 << 20         // bytes; the API server stores no object over 1.5 MiB
	maxEvents   = 2               // that are read at once: a hostile one of maxEvent takes 80 times its size in memory
	eventArrive = 2 * time.Second // for a body to arrive, and for its turn to be read
	eventsSeen  = 4096
	seenFor     = 10 * time.Minute
)

// NewEvents makes the receiver of CloudEvents without the rest of the service. renew has this replica list the trust resources
// again, and bump has the others do so.
func NewEvents(senders CallerReview, outcomes *cache.Cache, trust TrustSource, renew func(), bump func(context.Context, string) error, log *slog.Logger) http.Handler {
	return newEvents(senders, outcomes, trust, renew, bump, log)
}

func newEvents(senders CallerReview, outcomes *cache.Cache, trust TrustSource, renew func(), bump func(context.Context, string) error, log *slog.Logger) *events {
	counted := map[string]*atomic.Uint64{}
	for _, outcome := range eventOutcomes {
		counted[outcome] = new(atomic.Uint64)
	}
	return &events{
		senders: senders, outcomes: outcomes, trust: trust, renew: renew, bump: bump, counted: counted, log: log,
		reading: semaphore.NewWeighted(maxEvents),
		seen:    ttlcache.New(ttlcache.WithCapacity[string, struct{}](eventsSeen), ttlcache.WithTTL[string, struct{}](seenFor), ttlcache.WithDisableTouchOnHit[string, struct{}]()),
	}
}

// errNoSenders refuses events without a cluster, where there is no API server to review the sender's token.
var errNoSenders = errors.New("events are taken in a cluster only; trustDir is looked at by itself")

// ServeHTTP answers 202 for an event that was applied, was applied before, or is not about trust. Any other status is an
// error; after a 5xx the sender should send the event again.
func (e *events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	outcome, err := e.receive(w, r)
	if err == nil {
		e.counted[outcome].Add(1)
		w.WriteHeader(http.StatusAccepted)
		return
	}
	status := statusOfEventError(err)
	e.counted[outcomeOfEventStatus(status)].Add(1)
	e.log.Warn("event not taken", "status", status, "error", err) // the sender may not log the answer
	sendText(w, status, err.Error())
}

// eventError is an event that is malformed, so that sending it again is of no use.
type eventError struct{ text string }

// Error is one sentence for a person.
func (e *eventError) Error() string { return e.text }

func statusOfEventError(err error) int {
	var malformed *eventError
	switch {
	case errors.Is(err, errNoSenders):
		return http.StatusForbidden
	case errors.As(err, &malformed):
		return http.StatusBadRequest
	}
	return statusOfError(err)
}

// outcomeOfEventStatus tells what an event that was answered with the status of an error counts as.
func outcomeOfEventStatus(status int) string {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return eventRefused
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		return eventMalformed
	}
	return eventFailed
}

// receive authenticates the sender, reads and applies its event, and gives what became of it, if there is no error.
func (e *events) receive(w http.ResponseWriter, r *http.Request) (outcome string, err error) {
	if e.senders == nil {
		return "", errNoSenders
	}
	if _, err := e.senders.Review(r.Context(), r.Header.Get("Authorization")); err != nil {
		return "", err
	}
	event, err := e.read(w, r)
	if err != nil {
		return "", err
	}
	change, concerns := changeOf(event)
	if !concerns {
		return eventIgnored, nil
	}
	id := identityOf(event)
	if e.seen.Get(id) != nil {
		return eventDuplicate, nil
	}
	return eventTaken, e.apply(r.Context(), id, change)
}

// errEvents is why an event is to be sent again.
var errEvents = errors.New("too many events are read; send the event again")

// read reads an event, a few at a time.
func (e *events) read(w http.ResponseWriter, r *http.Request) (*cloudevents.Event, error) {
	ctx, cancel := context.WithTimeout(r.Context(), eventArrive)
	defer cancel()
	if e.reading.Acquire(ctx, 1) != nil {
		return nil, errEvents
	}
	defer e.reading.Release(1)
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Now().Add(eventArrive)) // some servers cannot set one; they have timeouts of their own
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEvent))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &core.RequestError{Code: reason.RequestTooLarge, Text: fmt.Sprintf("the event is over %d bytes", tooLarge.Limit)}
	case err != nil:
		return nil, fmt.Errorf("the event could not be read; send it again: %w", err)
	}
	_ = connection.SetReadDeadline(time.Time{}) // else the deadline would cancel the request's context
	event, err := eventOf(r.Context(), r.Header, body)
	if err != nil {
		return nil, &eventError{"this is no CloudEvent: " + reason.OneLine(reason.Clip(err.Error(), reason.MaxWords))}
	}
	return event, nil
}

// apply drops the cached outcomes that the change affects, and has every replica list the trust resources again. When the
// epoch cannot be written, the event is not recorded as applied and the error makes its sender send it again.
func (e *events) apply(ctx context.Context, id string, change trust.Change) error {
	snapshot, _ := e.trust.Snapshot()
	e.outcomes.Drop(func(key cache.Key) bool { return key.Trust.Policy != "" && change.Affects(snapshot, key.Trust.Policy) })
	e.renew()
	if err := e.bump(ctx, id); err != nil {
		return fmt.Errorf("the other replicas could not be told; send the event again: %w", err)
	}
	e.seen.Set(id, struct{}{}, ttlcache.DefaultTTL)
	return nil
}

// identityOf is the same for all deliveries of an event (CloudEvents, section "id": unique together with the source).
func identityOf(event *cloudevents.Event) string {
	sum := sha256.Sum256([]byte(event.Source() + "\n" + event.ID()))
	return hex.EncodeToString(sum[:16])
}

// changeOf gives what changed according to an event, and false for an event that is not about trust. Knative's
// ApiServerSource puts the resource into the data, or only its name in the mode Reference.
func changeOf(event *cloudevents.Event) (trust.Change, bool) {
	extension := func(name string) string {
		value, _ := event.Extensions()[name].(string)
		return value
	}
	kind := extension("kind")
	if !strings.HasPrefix(event.Type(), "dev.knative.apiserver.") ||
		!strings.HasPrefix(extension("apiversion"), "notation.nirmata.io/") ||
		kind != "TrustPolicy" && kind != "TrustStore" {
		return trust.Change{}, false
	}
	var resource struct {
		Spec struct {
			TrustPolicyName string `json:"trustPolicyName"`
			TrustStoreName  string `json:"trustStoreName"`
			Type            string `json:"type"`
		} `json:"spec"`
	}
	if json.Unmarshal(event.Data(), &resource) != nil {
		return trust.Change{}, true // the event does not say of what, so that it affects all
	}
	if kind == "TrustPolicy" {
		return trust.Change{Policy: resource.Spec.TrustPolicyName}, true
	}
	return trust.Change{Store: trust.StoreRef{Type: resource.Spec.Type, Name: resource.Spec.TrustStoreName}}, true
}
