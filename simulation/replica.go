package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
	"github.com/nirmata/kyverno-notation-venafi/shell/kube"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify"
)

// replica is one process of the service: the real parts, wired as the service wires them.
type replica struct {
	world    *World
	id       int
	started  time.Time
	link     *link
	ahead    timeline[time.Duration] // of its clock
	trust    *kube.Trust
	epoch    *kube.Epoch
	gatherer *verify.Gatherer
	events   http.Handler
	shared   *sharedcache.Cache // nil where replicas share nothing
	taken    map[string]bool    // events, by their ids

	life    context.Context
	kill    context.CancelFunc
	watches sync.WaitGroup
}

// The bounds on work, small enough to be met.
const (
	maxVerifications = 4
	maxQueued        = 6
	pluginsEvery     = time.Second
)

// start starts a replica.
func (w *World) start(ahead time.Duration) *replica {
	r := &replica{world: w, id: len(w.replicas), started: time.Now(), link: newLink(w.api, w.draw(5*time.Minute, 60*time.Minute)), taken: map[string]bool{}}
	r.ahead.set(r.started, ahead)
	client := &kubeclient.Client{Namespace: namespace, Dynamic: dynamicClient{link: r.link}, Core: r.link.coreClient()}
	log := slog.New(slog.DiscardHandler)
	r.trust = kube.NewTrust(client, log, func() {})
	r.epoch = kube.NewEpoch(client, namespace, epochName, log, r.trust.Renew)
	r.life, r.kill = context.WithCancel(context.Background())
	var level verify.SharedCache
	if w.shared != nil {
		r.share(w.draw(0, time.Minute))
		level = r.shared
	}
	outcomes := cache.New(cache.Options{Size: w.settings.cacheSize, Timeout: w.settings.timeout, Now: r.clock})
	var err error
	r.gatherer, err = verify.New(nil, nil, outcomes, verify.Options{
		Limits: verification.Limits{
			MaxReferrers: 100, MaxSignatureAttempts: 30, Keep: w.settings.keep, KeepTags: w.settings.keepTags,
		},
		MaxParallel: 4, StaleTags: w.settings.staleTags, MaxVerifications: maxVerifications, MaxQueued: maxQueued, PluginsEvery: pluginsEvery,
		Shared: level,
		Simulated: &verify.Simulated{
			Registry: opened{w},
			Plugins:  func() string { return fmt.Sprint(w.plugin.value(time.Now()).version) },
			Verify: func(ctx context.Context, task verification.Task, lookup verification.Lookup, _ []byte, _ time.Time) verification.Report {
				return w.report(ctx, task, lookup, r.clock())
			},
		},
	})
	if err != nil {
		panic(err)
	}
	r.events = function.NewEvents(anySender{}, outcomes, r.trust, r.trust.Renew, r.epoch.Bump, log)
	r.watches.Go(func() { r.trust.Watch(r.life) })
	r.watches.Go(func() { r.epoch.Watch(r.life) })
	w.replicas = append(w.replicas, r)
	return r
}

// stop ends a replica, as a crash does: callers hear nothing more of it.
func (r *replica) stop() {
	r.kill()
	r.watches.Wait()
	r.gatherer.Close()
	if r.shared != nil {
		r.shared.Close()
	}
}

// clock is the replica's wall clock.
func (r *replica) clock() time.Time { return time.Now().Add(r.ahead.value(time.Now())) }

// anySender lets everybody send events.
type anySender struct{}

// Review is part of function.CallerReview.
func (anySender) Review(context.Context, string) (string, error) { return "sender", nil }

// request is what is asked.
type request struct {
	policy, repository int
	tag                int // -1 where the image is named by digest
	image              int // of a request by digest
	demand             int // index of demands
}

// demands are what requests ask of attestations: how they select, "" for no attestations. The last one asks that any is recent, by a
// condition that reads the clock; the others, how severe they may be.
var demands = [...]string{"", "all", "latest", "any", recent}

// What the conditions of requests let pass.
const (
	recent      = "recent"
	maxSeverity = 5
	maxAge      = 10 * time.Minute
)

// parsed are the requests as the service parsed them.
var parsed = sync.OnceValue(func() map[request]core.Request {
	all := map[request]core.Request{}
	for policy := range policyNames {
		for repository := range repositories {
			for demand := range demands {
				for tag := range tags {
					r := request{policy, repository, tag, 0, demand}
					all[r] = r.parse(repositoryName(repository) + ":" + tagName(tag))
				}
				for image := range images {
					r := request{policy, repository, -1, image, demand}
					all[r] = r.parse(repositoryName(repository) + "@" + imageDigest(repository, image).String())
				}
			}
		}
	}
	return all
})

func (r request) parse(image string) core.Request {
	body := map[string]any{
		"trustPolicy": policyName(r.policy),
		"object": map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "p", "namespace": "n"}, "spec": map[string]any{
			"containers": []any{map[string]any{"name": "c", "image": image}},
		}},
	}
	if demand := demands[r.demand]; demand != "" {
		condition := map[string]any{"key": "{{ severity }}", "operator": "LessThanOrEquals", "value": maxSeverity}
		if demand == recent {
			demand, condition = "any", map[string]any{"key": "{{ time_since('', made, '') }}", "operator": "DurationLessThanOrEquals", "value": maxAge.String()}
		}
		body["attestations"] = []any{map[string]any{"imageReference": "*", "type": []any{map[string]any{
			"name": typeAttestation, "select": demand, "conditions": map[string]any{"all": []any{condition}},
		}}}}
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	parsed, err := core.ParseRequest(text)
	if err != nil {
		panic(err)
	}
	return parsed
}

// asked is a request to a replica, and what it answered.
type asked struct {
	request
	replica    *replica
	begin, end time.Time
	clock      time.Time // of the replica, when it read it
	gone       bool      // the replica died meanwhile
	notReady   bool
	result     core.Result
	final      bool // asked after all faults
}

// ask asks a replica, as a request to it does.
func (w *World) ask(r *replica, what request, final bool) {
	a := &asked{request: what, replica: r, begin: time.Now(), final: final}
	ctx, cancel := context.WithTimeout(r.life, w.settings.timeout)
	defer cancel()
	if snapshot, loaded := r.trust.Snapshot(); !loaded {
		a.notReady = true
	} else if plan, err := core.NewPlan(parsed()[what], snapshot, ""); err != nil {
		a.result = core.Result{Code: reason.RequestInvalid, Reason: err.Error()}
	} else {
		a.clock = r.clock()
		a.result = core.Decide(plan, r.gatherer.Gather(ctx, plan.Tasks, a.clock), a.clock).Results[0]
	}
	a.end = time.Now()
	a.gone = r.life.Err() != nil
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, a)
}

// told is an event that a replica was sent, and whether it took it.
type told struct {
	replica *replica
	event   string // its id
	at, end time.Time
	policy  int // that it is about; -1 for an event that does not say, so that it is about all
	taken   bool
	again   bool // it had taken the same before, so that it did nothing
}

// event is a CloudEvent about a resource, as Knative's ApiServerSource sends it.
type event struct {
	id, kind string
	spec     map[string]any // nil in the mode Reference
	policy   int
}

var errGone = errors.New("connection refused")

// send delivers an event to a replica.
func (w *World) send(r *replica, e event) error {
	body := map[string]any{}
	if e.spec != nil {
		body["spec"] = e.spec
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	q := httptest.NewRequestWithContext(r.life, http.MethodPost, "/events", strings.NewReader(string(text)))
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Ce-Specversion": "1.0", "Ce-Type": "dev.knative.apiserver.resource.update", "Ce-Source": "api", "Ce-Id": e.id,
		"Ce-Kind": e.kind, "Ce-Apiversion": "notation.nirmata.io/v1alpha1", "Ce-Name": "x",
	} {
		q.Header.Set(name, value)
	}
	t := told{replica: r, event: e.id, at: time.Now(), policy: e.policy}
	answer := httptest.NewRecorder()
	r.events.ServeHTTP(answer, q)
	t.end, t.taken = time.Now(), answer.Code == http.StatusAccepted
	if r.life.Err() != nil {
		return errGone
	}
	w.mu.Lock()
	t.again = r.taken[e.id]
	if t.taken {
		r.taken[e.id] = true
	}
	w.told = append(w.told, t)
	w.Counts.Events++
	w.mu.Unlock()
	if !t.taken {
		return fmt.Errorf("status %d", answer.Code)
	}
	return nil
}
