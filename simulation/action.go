package simulation

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
)

// action is one step of a sequence. What it does follows from its kind and its own seed, so that a sequence can be shortened
// without changing the actions that stay.
type action struct {
	kind string
	seed uint64
}

// String is for a person who repeats a sequence.
func (a action) String() string { return fmt.Sprintf("%s %d", a.kind, a.seed%1000) }

// deed is what an action does, and how often it is drawn.
type deed struct {
	weight int
	do     func(w *World, r random)
}

// deeds are all kinds of actions.
var deeds = map[string]deed{
	"wait":    {70, func(_ *World, r random) { time.Sleep(r.span(5*time.Millisecond, 15*time.Minute)) }},
	"ask":     {100, func(w *World, r random) { w.askAny(r, w.draws(r)) }},
	"ask all": {25, (*World).askAll},
	"burst":   {2, (*World).burst},
	"policy":  {14, (*World).changePolicy},
	"store":   {14, (*World).changeStore},
	"tag":     {16, (*World).moveTag},
	"sign":    {12, (*World).sign},
	"attest":  {12, (*World).attest},
	"remove":  {10, (*World).remove},
	"revoke":  {6, (*World).revoke},
	"plugin":  {3, (*World).changePlugin},
	"clock":   {4, (*World).jump},
	"crash": {4, func(w *World, r random) {
		w.replace(r.IntN(len(w.running)), r, r.span(10*time.Millisecond, time.Minute))
	}},
	"rollout":         {1, (*World).rollout},
	"compact":         {4, func(w *World, _ random) { w.api.compact() }},
	"fault":           {30, (*World).fault},
	"late trust":      {6, (*World).changeWhileAsked},
	"signed in haste": {6, (*World).signAfterDenial},
	"silent change":   {8, (*World).changeSilently},
	"new plugin":      {3, (*World).replacePlugin},
	"new replica":     {4, (*World).askNewReplica},
	"others":          {12, (*World).askOthers},
	"death at work":   {3, (*World).dieAtWork},
	"held seats":      {0, (*World).holdSeats}, // for a test of its own
	"shared fault":    {12, (*World).sharedFault},
	"shared key":      {4, (*World).replaceKey},
}

// kindsOfActions are their names, each as often as it is to be drawn.
var kindsOfActions = func() (all []string) {
	for _, name := range slices.Sorted(maps.Keys(deeds)) {
		all = append(all, slices.Repeat([]string{name}, deeds[name].weight)...)
	}
	return all
}()

// drawActions draws a sequence.
func drawActions(r random) []action {
	all := make([]action, 8+r.IntN(24))
	for i := range all {
		all[i] = action{pick(r, kindsOfActions...), r.Uint64()}
	}
	return all
}

// draws draws a request. Most of a sequence are about few images, so that they meet in the caches.
func (w *World) draws(r random) request {
	if len(w.menu) < 3 || r.chance(10) {
		q := request{policy: r.IntN(policyNames), repository: r.IntN(repositories), tag: r.IntN(tags), demand: pick(r, 0, 0, 0, 1, 1, 2, 3, 4)}
		if r.chance(30) {
			q.tag, q.image = -1, r.IntN(images)
		}
		w.menu = append(w.menu, q)
		return q
	}
	return w.menu[r.IntN(3)]
}

// drawImage draws an image of those that are asked about.
func (w *World) drawImage(r random) (repository int, of digest.Digest) { return w.digestOf(w.draws(r)) }

// digestOf gives the digest that a request names now; "" for none.
func (w *World) digestOf(q request) (repository int, of digest.Digest) {
	if q.tag < 0 {
		return q.repository, imageDigest(q.repository, q.image)
	}
	return q.repository, w.tags[q.repository][q.tag].value(time.Now())
}

// askAny asks one replica, and does not wait for the answer.
func (w *World) askAny(r random, what request) {
	replica := w.running[r.IntN(len(w.running))]
	w.work.Go(func() { w.ask(replica, what, false) })
}

func (w *World) askAll(r random) {
	what := w.draws(r)
	for _, replica := range w.running {
		w.work.Go(func() { w.ask(replica, what, false) })
	}
}

func (w *World) burst(r random) {
	replica := w.running[r.IntN(len(w.running))]
	w.breakFor(burst, replica.id, time.Second, 0, nil)
	for range 12 {
		q := request{policy: r.IntN(policyNames), repository: r.IntN(repositories), tag: -1, image: r.IntN(images), demand: r.IntN(len(demands))}
		w.work.Go(func() { w.ask(replica, q, false) })
	}
}

// sign attaches a signature, mostly one that a policy trusts.
func (w *World) sign(r random) {
	repository, of := w.drawImage(r)
	if of != "" {
		w.attach(drawSignature(r, repository, of), time.Now())
	}
}

func (w *World) attest(r random) {
	if repository, of := w.drawImage(r); of != "" {
		w.attachAttestation(r, repository, of, time.Now())
	}
}

// remove deletes an artifact.
func (w *World) remove(r random) {
	if a := w.artifacts[r.IntN(max(1, len(w.artifacts)))]; a.there.value(time.Now()) {
		a.there.set(time.Now(), false)
	}
}

func (w *World) moveTag(r random) {
	q := w.draws(r)
	tag, of := max(q.tag, 0), imageDigest(q.repository, r.IntN(images))
	if r.chance(8) {
		of = ""
	}
	w.tags[q.repository][tag].set(time.Now(), of)
}

func (w *World) revoke(r random) {
	signer := r.IntN(signers)
	w.revoked[signer].set(time.Now(), !w.revoked[signer].value(time.Now()))
}

func (w *World) changePlugin(r random) {
	now := w.plugin.value(time.Now())
	w.plugin.set(time.Now(), pluginState{now.version + 1, r.chance(50)})
}

func (w *World) jump(r random) {
	replica := w.running[r.IntN(len(w.running))]
	by := pick[time.Duration](r, -1, 1) * r.span(10*time.Millisecond, 3*time.Hour)
	if r.chance(30) {
		by = -replica.ahead.value(time.Now())
	}
	replica.ahead.set(time.Now(), replica.ahead.value(time.Now())+by)
}

// changePolicy changes, deletes or restores a policy, or has a second resource claim its name. An event tells of it, perhaps.
func (w *World) changePolicy(r random) {
	name := r.IntN(policyNames)
	p := drawPolicy(r, name)
	switch object := policyName(name); {
	case r.chance(15):
		w.setPolicy(object, nil)
	case r.chance(8):
		w.setPolicy(object+"-second", &p)
	case r.chance(30):
		w.setPolicy(object+"-second", nil)
		fallthrough
	default:
		w.setPolicy(object, &p)
	}
	w.tell(r, "TrustPolicy", name, p.spec())
}

func (w *World) changeStore(r random) {
	name := r.IntN(storeNames)
	s := drawStore(r, name)
	switch object := storeName(name); {
	case r.chance(15):
		w.setStore(object, nil)
	case r.chance(8):
		w.setStore(object+"-second", &s)
	case r.chance(30):
		w.setStore(object+"-second", nil)
		fallthrough
	default:
		w.setStore(object, &s)
	}
	w.tell(r, "TrustStore", everybody, s.spec())
}

// tell has an event tell of a change: not at all, once, twice, or late.
func (w *World) tell(r random, kind string, policy int, spec map[string]any) {
	if r.chance(40) {
		return
	}
	w.events++
	e := event{id: strconv.Itoa(w.events), kind: kind, spec: spec, policy: policy}
	if kind == "TrustStore" {
		e.policy = noPolicy
	}
	if r.chance(50) {
		e.spec, e.policy = nil, everybody
	}
	delay := r.between(0, 50*time.Millisecond)
	if r.chance(30) {
		delay = r.span(100*time.Millisecond, 2*time.Minute)
	}
	for range pick(r, 1, 1, 2) {
		place := r.IntN(len(w.running))
		late := delay
		w.work.Go(func() { w.deliver(place, e, late) })
		delay += r.between(0, 5*time.Second)
	}
}

// deliver sends an event, and again as Knative Eventing does where it is not taken.
func (w *World) deliver(place int, e event, delay time.Duration) {
	time.Sleep(delay)
	pause := 50 * time.Millisecond
	for range 5 {
		w.mu.Lock()
		replica := w.running[place]
		w.mu.Unlock()
		if w.send(replica, e) == nil {
			return
		}
		time.Sleep(pause)
		pause *= 2
	}
}

// changeWhileAsked changes trust and what is attached while a request is under way, tells of it, and asks again.
func (w *World) changeWhileAsked(r random) {
	what, replica := w.draws(r), w.running[r.IntN(len(w.running))]
	if r.chance(40) {
		w.satisfy(r, what, false)
		time.Sleep(Bounds.Denial)
	}
	w.work.Go(func() { w.ask(replica, what, false) })
	time.Sleep(r.span(10*time.Millisecond, 600*time.Millisecond))
	switch r.IntN(4) {
	case 0:
		w.attest(r)
	case 1:
		w.sign(r)
	case 2:
		w.removeFrom(what)
	case 3:
		w.unsign(what)
	}
	w.events++
	e, place := event{id: strconv.Itoa(w.events), kind: "TrustPolicy", policy: everybody}, slices.Index(w.running, replica)
	w.work.Go(func() { w.deliver(place, e, 0) })
	time.Sleep(r.span(time.Millisecond, 2*time.Second))
	w.work.Go(func() { w.ask(replica, what, false) })
}

// changeSilently changes trust while a replica's watches hear nothing or are late, tells some replica of it, and asks the first one.
func (w *World) changeSilently(r random) {
	replica, other := w.running[r.IntN(len(w.running))], r.IntN(len(w.running))
	l := replica.link
	if r.chance(60) {
		noticed := r.between(10*time.Second, Bounds.Unnoticed)
		w.deafen(replica, noticed, false)
	} else {
		lag := r.between(10*time.Second, time.Minute)
		l.set(func() { l.lag = lag })
		w.breakFor(apiLag, replica.id, lag, lag, func() { l.set(func() { l.lag = 0 }) })
	}
	what := w.draws(r)
	if r.chance(50) {
		w.satisfy(r, what, false)
		time.Sleep(Bounds.Denial)
		w.ask(replica, what, false)
	}
	if r.chance(60) {
		w.setPolicy(policyName(what.policy), nil)
	} else {
		p := drawPolicy(r, what.policy)
		w.setPolicy(policyName(what.policy), &p)
	}
	if r.chance(30) {
		w.api.compact() // so that what changed is listed, and not heard of
	}
	w.events++
	e := event{id: strconv.Itoa(w.events), kind: "TrustPolicy", policy: everybody}
	w.work.Go(func() { w.deliver(other, e, 0) })
	time.Sleep(r.between(1200*time.Millisecond, 5*time.Second))
	w.work.Go(func() { w.ask(replica, what, false) })
}

// satisfy has an image be signed by everybody, or only with the plugin, with an attestation that meets all demands.
func (w *World) satisfy(r random, what request, plugin bool) {
	repository, of := w.digestOf(what)
	if of == "" {
		return
	}
	w.removeFrom(what)
	signed := []digest.Digest{of}
	if demands[what.demand] != "" {
		signed = append(signed, w.attach(&artifact{repository: repository, subject: of, attestation: true, severity: 1}, time.Now()).digest)
	}
	for _, subject := range signed {
		for signer := range signers {
			w.attach(&artifact{repository: repository, subject: subject, signer: signer, plugin: plugin}, time.Now())
		}
	}
}

// unsign deletes an image's signatures, and leaves its attestations.
func (w *World) unsign(what request) {
	repository, of := w.digestOf(what)
	for _, a := range w.artifactsOf(repository, of) {
		if !a.attestation && a.there.value(time.Now()) {
			a.there.set(time.Now(), false)
		}
	}
}

// removeFrom deletes what is attached to an image.
func (w *World) removeFrom(what request) {
	_, of := w.digestOf(what)
	for _, a := range w.artifactsOf(what.repository, of) {
		if a.there.value(time.Now()) {
			a.there.set(time.Now(), false)
		}
	}
}

// signAfterDenial asks about an image, attaches what it may lack, and asks again when a denial is no longer kept.
func (w *World) signAfterDenial(r random) {
	what, replica := w.draws(r), w.running[r.IntN(len(w.running))]
	w.work.Go(func() { w.ask(replica, what, false) })
	time.Sleep(r.between(time.Second, 3*time.Second))
	w.sign(r)
	time.Sleep(r.span(time.Second, 40*time.Second))
	w.work.Go(func() { w.ask(replica, what, false) })
}

// replace ends a replica, and starts another one in its place after a time.
func (w *World) replace(place int, r random, after time.Duration) {
	w.running[place].stop()
	time.Sleep(after)
	started := w.start(drawAhead(r))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running[place] = started
}

func (w *World) rollout(r random) {
	for place := range w.running {
		w.replace(place, r, r.between(10*time.Millisecond, 3*time.Second))
	}
}

// drawAhead draws how far a clock is ahead.
func drawAhead(r random) time.Duration {
	if r.chance(70) {
		return r.between(-100*time.Millisecond, 100*time.Millisecond)
	}
	return pick[time.Duration](r, -1, 1) * r.span(time.Second, 2*time.Hour)
}

// fault breaks something for a while.
func (w *World) fault(r random) {
	replica, repository, d := w.running[r.IntN(len(w.running))], r.IntN(repositories), r.span(100*time.Millisecond, 10*time.Minute)
	l := replica.link
	switch k := kind(r.IntN(int(burst))); k {
	case apiDown:
		w.partition(r, replica, d)
	case apiDeaf:
		noticed := r.span(time.Second, Bounds.Unnoticed)
		w.deafen(replica, noticed, r.chance(30))
	case apiCut:
		l.cut()
		w.breakFor(k, replica.id, 0, 0, nil)
	case apiLag:
		lag := r.span(100*time.Millisecond, 30*time.Second)
		l.set(func() { l.lag = lag })
		w.breakFor(k, replica.id, d, lag, func() { l.set(func() { l.lag = 0 }) })
	case apiRefused:
		l.set(func() { l.refused++ })
		l.cut()
		w.breakFor(k, replica.id, d, 0, func() { l.set(func() { l.refused-- }) })
	case registrySlow:
		w.breakFor(k, repository, d, r.span(50*time.Millisecond, 20*time.Second), nil)
	case registryBehind:
		w.breakFor(k, repository, d, r.span(100*time.Millisecond, time.Minute), nil)
	case pluginDown, ocspDown:
		w.breakFor(k, 0, d, 0, nil)
	default:
		w.breakFor(k, repository, d, 0, nil)
	}
}

// sharedFault breaks what replicas share for a while, or has its server forget.
func (w *World) sharedFault(r random) {
	d, of := r.span(100*time.Millisecond, 10*time.Minute), everybody
	if w.shared == nil {
		return
	}
	switch k := pick(r, sharedDown, sharedSlow, sharedFull, sharedLies, sharedLies, kinds); k {
	case kinds:
		w.shared.forget(r)
	case sharedDown:
		if r.chance(50) {
			of = w.running[r.IntN(len(w.running))].id
		}
		w.breakFor(k, of, d, 0, nil)
	default:
		w.breakFor(k, 0, d, r.span(time.Millisecond, 2*time.Second), nil)
	}
}

// replacePlugin replaces the plugin that an image's only signature needs, while an outcome is kept, and asks again.
func (w *World) replacePlugin(r random) {
	what, replica := w.draws(r), w.running[r.IntN(len(w.running))]
	w.satisfy(r, what, true)
	time.Sleep(r.between(Bounds.Denial, 2*Bounds.Denial)) // a denial of before is over
	w.work.Go(func() { w.ask(replica, what, false) })
	time.Sleep(r.between(time.Second, 2*time.Second))
	w.plugin.set(time.Now(), pluginState{w.plugin.value(time.Now()).version + 1, !w.plugin.value(time.Now()).refuses})
	time.Sleep(r.between(pluginsEvery, 4*time.Second))
	w.work.Go(func() { w.ask(replica, what, false) })
}

// askNewReplica changes trust and starts a replica, which it asks at once.
func (w *World) askNewReplica(r random) {
	what, place := w.draws(r), r.IntN(len(w.running))
	if r.chance(50) {
		w.satisfy(r, what, false)
	}
	if r.chance(60) {
		w.setPolicy(policyName(what.policy), nil)
	} else {
		p := drawPolicy(r, what.policy)
		w.setPolicy(policyName(what.policy), &p)
	}
	w.replace(place, r, r.span(time.Millisecond, time.Second))
	replica := w.running[place]
	for range 6 {
		time.Sleep(r.between(time.Millisecond, 12*time.Millisecond))
		w.work.Go(func() { w.ask(replica, what, false) })
	}
}

// holdSeats asks for as many images of a registry that does not answer as a trust policy has seats, and for one of another registry.
func (w *World) holdSeats(r random) {
	what, replica := w.draws(r), w.running[r.IntN(len(w.running))]
	w.breakFor(registrySlow, what.repository, 2*w.settings.timeout, time.Hour, nil)
	for image := range maxVerifications * 3 / 4 {
		held := request{policy: what.policy, repository: what.repository, tag: -1, image: image}
		w.work.Go(func() { w.ask(replica, held, false) })
	}
	time.Sleep(r.between(time.Millisecond, 20*time.Millisecond))
	other := request{policy: what.policy, repository: (what.repository + 1) % repositories, tag: -1, image: r.IntN(images)}
	w.work.Go(func() { w.ask(replica, other, false) })
	time.Sleep(2 * w.settings.timeout)
}

// deafen has a replica's watches hear nothing more, that of the epoch with all. The fault tells whether it does.
func (w *World) deafen(of *replica, noticed time.Duration, all bool) {
	of.link.deafen(noticed, all)
	var epochToo time.Duration
	if all {
		epochToo = noticed
	}
	w.breakFor(apiDeaf, of.id, noticed, epochToo, nil)
}

// partition keeps one replica, or all, from the API server. Connections end at once, or go silent until that is noticed.
func (w *World) partition(r random, of *replica, d time.Duration) {
	if r.chance(30) {
		set := func(by int) func() { return func() { w.api.mu.Lock(); w.api.down += by; w.api.mu.Unlock() } }
		set(1)()
		for _, replica := range w.running {
			replica.link.cut()
		}
		w.breakFor(apiDown, everybody, d, 0, set(-1))
		return
	}
	l := of.link
	l.set(func() { l.down++ })
	if r.chance(50) {
		l.cut()
	} else {
		w.deafen(of, r.span(time.Second, Bounds.Unnoticed), true)
	}
	w.breakFor(apiDown, of.id, d, 0, func() { l.set(func() { l.down-- }) })
}
