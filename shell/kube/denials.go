package kube

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jellydator/ttlcache/v3"
	"golang.org/x/time/rate"
	v1 "k8s.io/api/core/v1"
	events "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	eventsclient "k8s.io/client-go/kubernetes/typed/events/v1"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

// Bounds on the Events of denials. A rollout of many replicas that are denied, again and again, is one Event.
const (
	maxQueued     = 256         // denials that wait to be recorded
	maxRemembered = 1000        // Events whose repetitions are counted
	seriesTime    = time.Hour   // for which repetitions count as the same; the API server keeps an Event as long
	patchEvery    = time.Minute // how often an Event is told of its repetitions
	eventsASecond = 5           // that are written
	eventsBurst   = 25
	tenantEvery   = 6 * time.Second // how often a namespace gets a new Event, on the average
	tenantBurst   = 10
	maxTenants    = 1000 // namespaces whose rate is kept
	warnEvery     = time.Minute
)

// denialController names us in the Events of denials.
const denialController = "nirmata.io/kyverno-notation-venafi"

// DenialStats counts denials since the start.
type DenialStats struct {
	Recorded uint64 // as an Event
	Repeated uint64 // as a repetition of one
	Dropped  uint64 // told nobody, since there were too many
	Failed   uint64 // which the API server did not take
}

// Denials records verdicts that deny as Events of Kubernetes. Make it with NewDenials, and run it with Watch.
type Denials struct {
	client   eventsclient.EventsV1Interface
	instance string // the pod
	log      *slog.Logger
	queue    chan core.Notice
	writes   *rate.Limiter
	known    *ttlcache.Cache[string, *series]
	tenants  *ttlcache.Cache[string, *rate.Limiter]

	warned time.Time // when a failure was logged last

	recorded, repeated, dropped, failed atomic.Uint64
}

// series is an Event and its repetitions.
type series struct {
	count   int32
	patched time.Time
}

// NewDenials makes it for the replica that instance names.
func NewDenials(client *kubeclient.Client, instance string, log *slog.Logger) *Denials {
	return &Denials{
		client: client.Events, instance: reason.Clip(instance, 100), log: log,
		queue:  make(chan core.Notice, maxQueued),
		writes: rate.NewLimiter(eventsASecond, eventsBurst),
		known: ttlcache.New(ttlcache.WithTTL[string, *series](seriesTime), ttlcache.WithCapacity[string, *series](maxRemembered),
			ttlcache.WithDisableTouchOnHit[string, *series]()),
		tenants: ttlcache.New(ttlcache.WithTTL[string, *rate.Limiter](tenantBurst*tenantEvery), ttlcache.WithCapacity[string, *rate.Limiter](maxTenants)),
	}
}

// Tell has a denial recorded. It does not wait: where the queue is full, the denial is counted as dropped.
func (d *Denials) Tell(notice core.Notice) {
	select {
	case d.queue <- notice:
	default:
		d.dropped.Add(1)
	}
}

// Stats gives the counts of this moment.
func (d *Denials) Stats() DenialStats {
	return DenialStats{Recorded: d.recorded.Load(), Repeated: d.repeated.Load(), Dropped: d.dropped.Load(), Failed: d.failed.Load()}
}

// Watch records what it is told until ctx ends.
func (d *Denials) Watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case notice := <-d.queue:
			d.record(ctx, notice)
		}
	}
}

// record writes an Event, or counts a repetition of one.
func (d *Denials) record(ctx context.Context, notice core.Notice) {
	name := nameOf(notice, time.Now())
	if known := d.known.Get(notice.Namespace + "/" + name); known != nil {
		d.repeat(ctx, notice.Namespace, name, known.Value())
		return
	}
	tenant, _ := d.tenants.GetOrSet(notice.Namespace, rate.NewLimiter(rate.Every(tenantEvery), tenantBurst))
	if !tenant.Value().Allow() || !d.writes.Allow() {
		d.dropped.Add(1)
		return
	}
	first := &series{count: 1} // whose first repetition is told at once
	err := d.create(ctx, notice, name)
	switch {
	case err == nil:
		d.recorded.Add(1)
	case apierrors.IsAlreadyExists(err): // by another replica, or before this one began
		d.repeat(ctx, notice.Namespace, name, first)
	default:
		d.refused(err, notice.Namespace)
		return
	}
	d.known.Set(notice.Namespace+"/"+name, first, ttlcache.DefaultTTL)
}

// create writes the Event of a denial. It regards an object of its own namespace only.
func (d *Denials) create(ctx context.Context, notice core.Notice, name string) error {
	ctx, cancel := context.WithTimeout(ctx, kubeclient.RequestTimeout)
	defer cancel()
	regarding := v1.ObjectReference{
		APIVersion: notice.Regarding.APIVersion, Kind: notice.Regarding.Kind, Name: notice.Regarding.Name,
		UID: types.UID(notice.Regarding.UID), Namespace: notice.Namespace,
	}
	if notice.Regarding == (core.Owner{}) {
		regarding = v1.ObjectReference{APIVersion: "v1", Kind: "Namespace", Name: notice.Namespace, Namespace: notice.Namespace}
	}
	_, err := d.client.Events(notice.Namespace).Create(ctx, &events.Event{
		ObjectMeta:          metav1.ObjectMeta{Name: name, Namespace: notice.Namespace},
		EventTime:           metav1.NewMicroTime(time.Now().UTC()),
		Type:                v1.EventTypeWarning,
		Reason:              string(notice.Code),
		Action:              "VerifyImages",
		Note:                notice.Note,
		ReportingController: denialController,
		ReportingInstance:   d.instance,
		Regarding:           regarding,
	}, metav1.CreateOptions{FieldManager: kubeclient.FieldManager})
	return err
}

// repeat counts a repetition, and now and then tells the Event of those.
func (d *Denials) repeat(ctx context.Context, namespace, name string, of *series) {
	of.count++
	d.repeated.Add(1)
	now := time.Now()
	if now.Sub(of.patched) < patchEvery || !d.writes.Allow() {
		return
	}
	of.patched = now
	patch, err := json.Marshal(map[string]any{"series": events.EventSeries{Count: of.count, LastObservedTime: metav1.NewMicroTime(now.UTC())}})
	if err != nil {
		d.refused(err, namespace)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, kubeclient.RequestTimeout)
	defer cancel()
	if _, err := d.client.Events(namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: kubeclient.FieldManager}); err != nil {
		if apierrors.IsNotFound(err) { // its time was over, or its namespace is gone
			d.known.Delete(namespace + "/" + name)
		}
		d.refused(err, namespace)
	}
}

func (d *Denials) refused(err error, namespace string) {
	d.failed.Add(1)
	if now := time.Now(); now.Sub(d.warned) >= warnEvery {
		d.warned = now
		d.log.Warn("a denial could not be recorded as an Event", "namespace", namespace, "error", err)
	}
}

// nameOf is the name of a denial's Event: equal ones of one hour have the same, on every replica. The note is not part of it,
// since the names of the pods that it tells of differ.
func nameOf(notice core.Notice, now time.Time) string {
	hour := now.Unix() / int64(seriesTime.Seconds())
	hash := sha256.Sum256([]byte(strings.Join([]string{notice.Regarding.APIVersion, notice.Regarding.Kind, notice.Regarding.Name, notice.Regarding.UID, string(notice.Code), notice.Image, fmt.Sprint(hour)}, "\n")))
	name := notice.Regarding.Name
	if name == "" {
		name = notice.Namespace
	}
	const most = 180 // of 253
	return strings.TrimRight(name[:min(len(name), most)], "-.") + fmt.Sprintf(".%x", hash[:12])
}
