package simulation

import (
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// World is all that a sequence is about: what is true, and who may know it.
type World struct {
	settings settings
	api      *apiServer
	policies history[policy]
	stores   history[store]
	tags     [repositories][tags]timeline[digest.Digest]
	revoked  [signers]timeline[bool]
	plugin   timeline[pluginState]
	shared   *sharedServer // nil where replicas share nothing
	key      timeline[int] // of keyPhases

	mu        sync.Mutex
	latencies random
	artifacts []*artifact
	byDigest  map[digest.Digest]*artifact // by manifest and by blob
	faults    []*fault
	replicas  []*replica // all that ever ran
	running   []*replica // by their place
	asked     []*asked
	told      []told
	menu      []request // that were drawn; most are among the first
	events    int       // that were made
	Counts    Counts

	page       int           // entries of a registry's first page
	ocspPeriod time.Duration // for which an answer on revocation is good

	work sync.WaitGroup
}

// settings of the replicas.
type settings struct {
	replicas  int
	keep      time.Duration // --cacheTTLDurationSeconds
	keepTags  time.Duration // --tagCacheTTLDurationSeconds
	timeout   time.Duration // --requestTimeout
	staleTags bool          // --staleTags
	cacheSize int           // --cacheMaxSize
}

// pluginState is what is installed.
type pluginState struct {
	version int
	refuses bool
}

// kind of a fault.
type kind int

const (
	apiDown        kind = iota // the replica does not reach the API server
	apiDeaf                    // its watches hear nothing any more, and nobody notices for a while
	apiCut                     // its watches end
	apiLag                     // its watches are late
	apiRefused                 // it may not list and watch
	registryDown               // 429 or 503 to everything
	registrySlow               // answers take long
	registryLies               // answers contradict themselves
	registryHides              // signatures are left out
	registryBehind             // lists and tags are as they were some time ago
	pluginDown                 // no plugin process works
	ocspDown                   // revocation cannot be looked up
	burst                      // many ask at once
	sharedDown                 // the server of what replicas share is not reached, or connections to it are cut
	sharedSlow                 // it takes long
	sharedFull                 // it takes no values
	sharedLies                 // it shows anything
	kinds
)

func (k kind) String() string {
	return [...]string{
		"API server away", "deaf watches", "watches end", "late watches", "API server refuses", "registry down", "registry slow",
		"registry contradicts itself", "registry hides signatures", "registry behind", "plugin fails", "OCSP down", "burst",
		"shared cache down", "shared cache slow", "shared cache full", "shared cache lies",
	}[k]
}

const (
	everybody = -1 // the subject of a fault that all replicas have, and of an event that all trust policies are affected by
	noPolicy  = -2 // an event of which it is not looked up whom it affects
)

// fault is something that is broken for a time.
type fault struct {
	kind     kind
	subject  int // replica or repository
	from, to time.Time
	amount   time.Duration
	mend     func() // nil for nothing to do
	mended   bool
}

// Counts are those of a sequence.
type Counts struct {
	Asked, Admitted, Denied, Failed, NotReady, Gone int
	Faults, Events                                  int
	Shared, False                                   int // entries that one replica had from another, and values of its server that none wrote
	Virtual                                         time.Duration
}

// breakFor has a fault for a time; mend is called in its end.
func (w *World) breakFor(k kind, subject int, d, amount time.Duration, mend func()) {
	now := time.Now()
	f := &fault{kind: k, subject: subject, from: now, to: now.Add(d), amount: amount, mend: mend}
	w.mu.Lock()
	w.faults = append(w.faults, f)
	w.Counts.Faults++
	w.mu.Unlock()
	if mend != nil {
		time.AfterFunc(d, func() { w.end(f) })
	}
}

// end ends a fault, now.
func (w *World) end(f *fault) {
	w.mu.Lock()
	if now := time.Now(); f.to.After(now) {
		f.to = now
	}
	mend := f.mend
	if f.mended {
		mend = nil
	}
	f.mended = true
	w.mu.Unlock()
	if mend != nil {
		mend()
	}
}

// active gives a fault of the present moment; nil for none.
func (w *World) active(k kind, subject int) *fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for _, f := range w.faults {
		if f.kind == k && f.subject == subject && !now.Before(f.from) && now.Before(f.to) {
			return f
		}
	}
	return nil
}

// draw draws how long something takes.
func (w *World) draw(least, most time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.latencies.between(least, most)
}

func (w *World) drawn(percent int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.latencies.chance(percent)
}

// artifactsOf gives what was ever attached to an image or attestation, in the order in which it was.
func (w *World) artifactsOf(repository int, subject digest.Digest) (found []*artifact) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.artifacts {
		if a.repository == repository && a.subject == subject {
			found = append(found, a)
		}
	}
	return found
}

func (w *World) artifact(named digest.Digest) *artifact {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.byDigest[named]
}

// attach adds an artifact, which is there from a moment on.
func (w *World) attach(a *artifact, from time.Time) *artifact {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.artifacts)
	a.digest, a.blob, a.made = digest.FromString(fmt.Sprint("manifest ", n)), digest.FromString(fmt.Sprint("blob ", n)), time.Now()
	if a.target == "" {
		a.target = a.subject
	}
	a.there.set(from, true)
	w.artifacts = append(w.artifacts, a)
	w.byDigest[a.digest], w.byDigest[a.blob] = a, a
	return a
}

// setPolicy changes a TrustPolicy; nil deletes it.
func (w *World) setPolicy(object string, p *policy) {
	var content map[string]any
	if p != nil {
		content = map[string]any{"spec": p.spec()}
	}
	w.api.put(&w.api.policies, object, content)
	w.policies.set(time.Now(), object, p)
}

// setStore changes a TrustStore; nil deletes it.
func (w *World) setStore(object string, s *store) {
	var content map[string]any
	if s != nil {
		content = map[string]any{"spec": s.spec()}
	}
	w.api.put(&w.api.stores, object, content)
	w.stores.set(time.Now(), object, s)
}

// newWorld draws a world.
func newWorld(r, latencies, api, sharing random) *World {
	w := &World{
		api: newAPIServer(api), latencies: latencies, byDigest: map[digest.Digest]*artifact{},
		page: pick(r, 1, 2, 3, 100), ocspPeriod: r.span(30*time.Second, time.Hour),
		settings: settings{
			replicas: pick(r, 1, 2, 2, 3), keep: pick(r, time.Minute, 10*time.Minute, time.Hour), keepTags: pick(r, time.Second, 10*time.Second, 30*time.Second),
			timeout: pick(r, 3*time.Second, 8*time.Second), staleTags: r.chance(30), cacheSize: pick(r, 1000, 1000, 6),
		},
	}
	now := time.Now()
	if sharing.chance(60) {
		w.shared = newSharedServer(w, sharing.Uint64())
		w.key.set(now, 1)
	}
	w.policies, w.stores = history[policy]{{now, map[string]policy{}}}, history[store]{{now, map[string]store{}}}
	w.api.put(&w.api.configMaps, epochName, map[string]any{"data": map[string]any{}})
	for i := range policyNames {
		p := drawPolicy(r, i)
		w.setPolicy(policyName(i), &p)
	}
	for i := range storeNames {
		s := drawStore(r, i)
		w.setStore(storeName(i), &s)
	}
	w.plugin.set(now, pluginState{version: 1})
	for repository := range repositories {
		for tag := range tags {
			w.tags[repository][tag].set(now, imageDigest(repository, r.IntN(images)))
		}
		for image := range images {
			of := imageDigest(repository, image)
			if r.chance(75) {
				w.attach(drawSignature(r, repository, of), now)
			}
			for range r.IntN(3) {
				w.attachAttestation(r, repository, of, now)
			}
		}
	}
	return w
}

func drawSignature(r random, repository int, of digest.Digest) *artifact {
	a := &artifact{repository: repository, subject: of, signer: r.IntN(signers), garbage: r.chance(5), plugin: r.chance(15)}
	if r.chance(20) {
		a.expiry = time.Now().Add(r.span(5*time.Second, 2*time.Hour))
	}
	if r.chance(5) {
		a.target = digest.FromString("another image")
	}
	return a
}

// attachAttestation attaches an attestation, and a signature that may come later.
func (w *World) attachAttestation(r random, repository int, of digest.Digest, from time.Time) {
	attestation := w.attach(&artifact{repository: repository, subject: of, attestation: true, severity: pick(r, 1, 9)}, from)
	if r.chance(85) {
		signature := drawSignature(r, repository, attestation.digest)
		signature.plugin = false
		if r.chance(30) {
			from = from.Add(r.span(100*time.Millisecond, time.Minute))
		}
		w.attach(signature, from)
	}
}
