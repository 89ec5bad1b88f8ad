package verify_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/condition"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
	"github.com/nirmata/kyverno-notation-venafi/shell/egress"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin"
	shellregistry "github.com/nirmata/kyverno-notation-venafi/shell/registry"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// keeper is a gatherer that keeps outcomes, with the clock of its cache moved at will.
type keeper struct {
	*verify.Gatherer
	outcomes *cache.Cache
	ahead    atomic.Int64 // nanoseconds
	config   atomic.Pointer[map[string]string]

	began, joined chan struct{} // an element for each verification of an image that begins, and for each caller that waits for one
}

func (b *bed) newKeeper(size int, change func(*verify.Options)) *keeper {
	b.Helper()
	k := &keeper{began: make(chan struct{}, 1000), joined: make(chan struct{}, 1000)}
	k.config.Store(&map[string]string{})
	client := must(shellregistry.New(shellregistry.Options{AllowLoopback: true, InsecureHosts: []string{b.registry.Host()}, MaxReferrers: 10}))
	plugins := plugin.NewManager(plugin.Options{Dir: b.TempDir(), Config: func() map[string]string { return *k.config.Load() }, Timeout: time.Second})
	tell := func(signal chan<- struct{}) func(cache.Key) {
		return func(key cache.Key) {
			if key.Kind != verification.Conclude {
				return
			}
			select {
			case signal <- struct{}{}:
			default: // nobody counts so many
			}
		}
	}
	k.outcomes = cache.New(cache.Options{Size: size, Timeout: time.Minute, Now: k.now, Began: tell(k.began), Joined: tell(k.joined)})
	options := verify.Options{
		Egress: egress.Rule{AllowLoopback: true}, MaxParallel: 16, MaxVerifications: 16, MaxQueued: 1000,
		Limits: verification.Limits{MaxReferrers: 10, MaxSignatureAttempts: 30, Keep: time.Hour, KeepTags: 10 * time.Second},
	}
	if change != nil {
		change(&options)
	}
	k.Gatherer = must(verify.New(client, plugins, k.outcomes, options))
	b.Cleanup(k.Close)
	return k
}

// Gather gathers at the time of the moved clock.
func (k *keeper) Gather(ctx context.Context, tasks []verification.Task, _ time.Time) []verification.Fact {
	return k.Gatherer.Gather(ctx, tasks, k.now())
}

func (k *keeper) now() time.Time { return time.Now().Add(time.Duration(k.ahead.Load())) }

// requests counts what the registry is asked by a function.
func (b *bed) requests(do func()) int {
	b.registry.Reset()
	do()
	return len(b.registry.Requests())
}

func TestGatherAsksTheRegistryOnlyForWhatIsNotCached(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	x := b.target("kept")
	x.attach(attestation{payload: good})
	clocked := verification.AttestationType{Name: sbomType, Select: verification.SelectAll, Conditions: condition.Conditions{All: []condition.Condition{
		{Key: []byte(`"{{ time_since('', '2001-01-01T00:00:00Z', '') }}"`), Operator: "DurationGreaterThan", Value: []byte(`"1h"`)},
	}}}
	demands := []verification.AttestationType{demanding(verification.SelectAll, licence)[0], clocked}
	k := b.newKeeper(100, nil)
	admit := func() {
		t.Helper()
		if got := x.decide(k, "", demands); !got.Verified {
			t.Fatalf("%s: %s", got.Code, got.Reason)
		}
	}
	cold := b.requests(admit)
	if warm := b.requests(admit); warm != 0 || cold == 0 {
		t.Errorf("%d requests cold and %d warm; want none warm", cold, warm)
	}
	k.ahead.Store(int64(11 * time.Second))
	if moved := b.requests(admit); moved != 1 {
		t.Errorf("%d requests when the tag may have moved; want 1", moved)
	}
	k.config.Store(&map[string]string{"config": "another"})
	if changed := b.requests(admit); changed < cold-2 {
		t.Errorf("%d requests when the plugins' configuration changed; want about %d", changed, cold)
	}
	k.ahead.Store(int64(2 * time.Hour))
	if expired := b.requests(admit); expired != cold {
		t.Errorf("%d requests when outcomes expired; want %d", expired, cold)
	}
}

func TestGatherDoesNotCacheTransientFailures(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	k := b.newKeeper(100, nil)
	x := b.target("transient")
	for sentence, part := range map[string]string{"the tag": "/manifests/v1", "the list of signatures": "/referrers/", "a signature": "/blobs/"} {
		k.outcomes.Flush()
		b.registry.SetFault(registrytest.Only(registrytest.PathContains(part), registrytest.FailTimes(100, http.StatusInternalServerError, nil)))
		if got := x.decide(k, "", nil); got.Code != reason.RegistryUnavailable {
			t.Errorf("%s cannot be had: %s, %s", sentence, got.Code, got.Reason)
		}
		b.registry.SetFault(nil)
		if got := x.decide(k, "", nil); !got.Verified {
			t.Errorf("%s can be had again: %s, %s", sentence, got.Code, got.Reason)
		}
	}
}

func TestDenialsExpireSoon(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	k := b.newKeeper(100, nil)
	x := &target{bed: b, name: "later", image: must(b.scenario.PushSigned(t.Context(), "later", b.foreign, &signingtest.SignRequest{}))}
	deny := func(want reason.Code) {
		t.Helper()
		if got := x.decide(k, "", nil); got.Code != want {
			t.Errorf("%s, %s; want %s", got.Code, got.Reason, want)
		}
	}
	deny(reason.SignatureUntrusted)
	if err := b.scenario.Sign(t.Context(), "later", x.image, b.scenario.Signer(), signingtest.SignRequest{}); err != nil {
		t.Fatal(err)
	}
	deny(reason.SignatureUntrusted)
	k.ahead.Store(int64(11 * time.Second))
	deny(reason.Verified)
}

// young asks that the latest scan is of today.
func young() []verification.AttestationType {
	return []verification.AttestationType{{Name: sbomType, Select: verification.SelectLatest, Conditions: condition.Conditions{All: []condition.Condition{
		{Key: []byte(`"{{ time_since('', at, '') }}"`), Operator: "DurationLessThan", Value: []byte(`"24h"`)},
	}}}}
}

func scannedAt(at time.Time) string { return fmt.Sprintf(`{"at": %q}`, at.Format(time.RFC3339)) }

func TestDenialsByAttestationsExpireSoon(t *testing.T) {
	tests := map[string]struct {
		attach  func(*target)
		demands []verification.AttestationType
		want    reason.Code
		mend    func(*target)
	}{
		"a condition": {
			func(x *target) { x.attach(attestation{payload: bad, signedAt: yesterday}) }, demanding(verification.SelectLatest, licence), reason.ConditionUnmet,
			func(x *target) { x.attach(attestation{payload: good}) },
		},
		"a condition on the clock": {
			func(x *target) {
				x.attach(attestation{payload: scannedAt(yesterday.Add(-time.Hour)), signedAt: yesterday})
			}, young(), reason.ConditionUnmet,
			func(x *target) { x.attach(attestation{payload: scannedAt(today)}) },
		},
		"too many": {
			func(x *target) {
				for i := range 11 {
					x.attach(attestation{payload: good, annotations: map[string]string{"number": fmt.Sprint(i)}})
				}
			}, demanding(verification.SelectAll, licence), reason.TooManyReferrers,
			func(x *target) {
				few := x.attached[:2]
				x.registry.SetFault(x.relist(func(list []ocispec.Descriptor) []ocispec.Descriptor {
					return lo.Filter(list, func(d ocispec.Descriptor, _ int) bool {
						return d.ArtifactType != sbomType || lo.ContainsBy(few, func(a ocispec.Descriptor) bool { return a.Digest == d.Digest })
					})
				}))
			},
		},
	}
	b := newBed(t, registrytest.Options{}, 10)
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			defer b.registry.SetFault(nil)
			k, x := b.newKeeper(100, nil), b.target("mended-"+strings.ReplaceAll(sentence, " ", "-"))
			test.attach(x)
			if got := x.decide(k, "", test.demands); got.Code != test.want {
				t.Fatalf("%s: %s; want %s", got.Code, got.Reason, test.want)
			}
			test.mend(x)
			if got := x.decide(k, "", test.demands); got.Code != test.want {
				t.Errorf("at once: %s, %s; want %s", got.Code, got.Reason, test.want)
			}
			k.ahead.Store(int64(11 * time.Second))
			if got := x.decide(k, "", test.demands); !got.Verified {
				t.Errorf("after eleven seconds: %s, %s", got.Code, got.Reason)
			}
		})
	}
}

func TestRescanCountsWhenTheCachedScanHasAged(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	k, x := b.newKeeper(100, nil), b.target("aged")
	x.attach(attestation{payload: scannedAt(time.Now().Add(-24*time.Hour + time.Minute)), signedAt: yesterday})
	ask := func(when string, want reason.Code, listed int) {
		t.Helper()
		b.registry.Reset()
		if got := x.decide(k, "", young()); got.Code != want {
			t.Errorf("%s: %s, %s; want %s", when, got.Code, got.Reason, want)
		}
		lists := lo.CountBy(b.registry.Requests(), func(r registrytest.Request) bool {
			return strings.HasSuffix(r.Path, "/referrers/"+x.image.Digest.String())
		})
		if lists != listed {
			t.Errorf("%s: referrers were listed %d times; want %d", when, lists, listed)
		}
	}
	ask("at first", reason.Verified, 1)
	ask("again", reason.Verified, 0)
	k.ahead.Store(int64(2 * time.Minute))
	ask("when it has aged", reason.ConditionUnmet, 1)
	ask("at once after that", reason.ConditionUnmet, 0)
	x.attach(attestation{payload: scannedAt(today)})
	k.ahead.Store(int64(3 * time.Minute))
	ask("after a rescan", reason.Verified, 1)
}

// TestConcurrentRequestsShareWhatTheyEvaluate has requests wait for one document, which each then evaluates for its own time: that costs
// the registry what one costs, and each of them no more than a request for what is kept.
func TestConcurrentRequestsShareWhatTheyEvaluate(t *testing.T) {
	const waiters = 20
	b := newBed(t, registrytest.Options{}, 10)
	x := b.target("shared")
	document := fmt.Sprintf(`{"at": %q, "filler": [%s1]}`, today.Format(time.RFC3339), strings.Repeat("1234567,", 512<<10))
	x.attach(attestation{payload: document})
	ask := func(waiters int) (requests int, allocated, kept uint64) {
		k := b.newKeeper(100, nil)
		hold, arrived, release := held(registrytest.PathContains("/blobs/" + digest.FromString(document).String()))
		b.registry.SetFault(hold)
		b.registry.Reset()
		var before, after, again runtime.MemStats
		runtime.ReadMemStats(&before)
		var running sync.WaitGroup
		for range waiters {
			running.Go(func() {
				if got := x.decide(k, "", young()); !got.Verified {
					t.Errorf("%s: %s", got.Code, got.Reason)
				}
			})
		}
		<-arrived
		for range waiters - 1 {
			<-k.joined
		}
		release()
		running.Wait()
		runtime.ReadMemStats(&after)
		requests = len(b.registry.Requests())
		x.decide(k, "", young())
		runtime.ReadMemStats(&again)
		return requests, after.TotalAlloc - before.TotalAlloc, again.TotalAlloc - after.TotalAlloc
	}
	requests, one, kept := ask(1)
	of, many, _ := ask(waiters)
	if of > requests {
		t.Errorf("%d waiters made %d requests, one made %d", waiters, of, requests)
	}
	if many > one+waiters*kept*3/2 {
		t.Errorf("%d waiters took %d bytes, one took %d, and one for what is kept %d", waiters, many, one, kept)
	}
}

func TestUnknownRevocationIsNotCached(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	responder := must(signingtest.NewRevocationServer(b.scenario.Trusted))
	defer responder.Close()
	signer := must(b.scenario.Trusted.Issue(signingtest.LeafOptions{CommonName: "Checked", OCSPURL: responder.OCSPURL()}))
	checked := &target{bed: b, name: "checked", image: must(b.scenario.PushSigned(t.Context(), "checked", signer, &signingtest.SignRequest{}))}
	attested := b.target("attested")
	attested.attach(attestation{payload: good, signer: signer})
	for _, x := range []*target{checked, attested} {
		k := b.newKeeper(100, nil)
		var demands []verification.AttestationType
		if x == attested {
			demands = demanding(verification.SelectAll, licence)
		}
		for _, step := range []struct{ down, warns bool }{{true, true}, {false, false}, {true, false}} { // the second answer is kept
			responder.SetDown(step.down)
			if got := x.decide(k, "permissive", demands); !got.Verified || step.warns != (len(got.Warnings) > 0) {
				t.Errorf("%s, down is %t: %s, warnings %q", x.name, step.down, got.Code, got.Warnings)
			}
		}
	}
}

func TestStaleTagsStandInForAFailedRegistry(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	x := b.target("down")
	pinned := func(k *keeper) core.Result {
		plan := x.plan("strict", nil)
		ref := must(image.Parse(plan.Tasks[0].Ref.Pinned(x.image.Digest.String())))
		plan.Tasks[0].Ref, plan.Images[0].Image.Ref = ref, ref
		return core.Decide(plan, k.Gather(t.Context(), plan.Tasks, time.Now()), time.Now()).Results[0]
	}
	strict, stale := b.newKeeper(100, nil), b.newKeeper(100, func(o *verify.Options) { o.StaleTags = true })
	for _, k := range []*keeper{strict, stale} {
		for _, got := range []core.Result{x.decide(k, "", nil), pinned(k)} {
			if !got.Verified {
				t.Fatalf("%s: %s", got.Code, got.Reason)
			}
		}
		k.ahead.Store(int64(time.Minute))
	}
	b.registry.SetFault(registrytest.Down)
	if got := pinned(strict); !got.Verified {
		t.Errorf("a digest that was verified: %s, %s", got.Code, got.Reason)
	}
	if got := x.decide(strict, "", nil); got.Code != reason.RegistryUnavailable {
		t.Errorf("a tag: %s, %s", got.Code, got.Reason)
	}
	if got := x.decide(stale, "", nil); !got.Verified || !strings.Contains(strings.Join(got.Warnings, " "), "resolved") {
		t.Errorf("a tag that may be stale: %s, %s, warnings %q", got.Code, got.Reason, got.Warnings)
	}
	stale.ahead.Store(int64(2 * time.Hour))
	if got := x.decide(stale, "", nil); got.Code != reason.RegistryUnavailable {
		t.Errorf("a tag that is too old: %s, %s", got.Code, got.Reason)
	}
	b.registry.SetFault(registrytest.Only(registrytest.PathContains("/manifests/"), registrytest.FailTimes(100, http.StatusNotFound, nil)))
	stale.ahead.Store(int64(time.Minute))
	if got := x.decide(stale, "", nil); got.Code != reason.ImageNotFound {
		t.Errorf("a tag that was removed: %s, %s", got.Code, got.Reason)
	}
}

// TestDoubtsAboutATagAreNotShared asks for an image by a tag that may be stale and, meanwhile and after that, by its digest.
func TestDoubtsAboutATagAreNotShared(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	x := b.target("doubted")
	k := b.newKeeper(100, func(o *verify.Options) { o.StaleTags = true })
	tag := x.plan("strict", nil).Tasks[0]
	digest := tag
	digest.Ref = must(image.Parse(tag.Ref.Pinned(x.image.Digest.String())))
	fact := func(task verification.Task) verification.Fact {
		return k.Gather(t.Context(), []verification.Task{task}, k.now())[0]
	}
	fact(tag)
	k.outcomes.Drop(func(key cache.Key) bool { return key.Kind != verification.LastKnown })

	hold, arrived, release := held(registrytest.PathContains("/blobs/"))
	b.registry.SetFault(registrytest.Chain(hold, registrytest.Only(registrytest.PathContains("/manifests/"+tag.Ref.Tag), registrytest.Down)))
	var running sync.WaitGroup
	running.Go(func() {
		if got := fact(tag); !got.Signature.Verified || len(got.Warnings) == 0 {
			t.Errorf("the tag: %+v", got)
		}
	})
	<-arrived
	running.Go(func() {
		if got := fact(digest); !got.Signature.Verified || len(got.Warnings) > 0 {
			t.Errorf("the digest meanwhile: %+v", got)
		}
	})
	<-k.joined
	release()
	running.Wait()
	if got := fact(digest); !got.Signature.Verified || len(got.Warnings) > 0 {
		t.Errorf("the digest after that: %+v", got)
	}
	if got := fact(tag); !got.Signature.Verified || len(got.Warnings) == 0 {
		t.Errorf("the tag after that: %+v", got)
	}
}

func TestRevocationListsBoundFreshness(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	for _, protocol := range []string{"OCSP", "CRL"} {
		t.Run(protocol, func(t *testing.T) {
			responder := must(signingtest.NewRevocationServer(b.scenario.Trusted))
			defer responder.Close()
			responder.SetNextUpdate(10 * time.Minute)
			options := signingtest.LeafOptions{CommonName: "Checked " + protocol}
			if protocol == "OCSP" {
				options.OCSPURL = responder.OCSPURL()
			} else {
				options.CRLURL = responder.CRLURL()
			}
			name := "revocable-" + strings.ToLower(protocol)
			x := &target{bed: b, name: name, image: must(b.scenario.PushSigned(t.Context(), name, must(b.scenario.Trusted.Issue(options)), &signingtest.SignRequest{}))}
			plan := x.plan("strict", nil)
			got := b.gatherer.Gather(t.Context(), plan.Tasks, time.Now())[0].Signature
			if !got.Verified || got.FreshUntil.IsZero() || got.FreshUntil.After(time.Now().Add(10*time.Minute)) {
				t.Errorf("fresh until %s: %+v", got.FreshUntil, got)
			}
		})
	}
}

// world is trust that changes, and images that one of the two signers may have signed.
type world struct {
	*bed
	targets []*target
	demands [][]verification.AttestationType
	// What trust is now: which of the two CAs the store holds, the level, and the signer demanded.
	ca    int
	level int
	names int
}

func (w *world) snapshot() trust.Snapshot {
	cas := [][]*x509.Certificate{{w.scenario.Trusted.Certificate}, {w.scenario.Foreign.Certificate}, nil}
	levels := []string{"strict", "permissive", "audit"}
	identities := [][]string{{"*"}, {"x509.subject: C=US, ST=WA, O=Nobody"}}
	store := trust.StoreRef{Type: "ca", Name: "acme"}
	snapshot := trust.Snapshot{
		Policies: map[string]trust.Policy{"demo": {Name: "demo", Statements: []trust.Statement{{
			Name: "everything", RegistryScopes: []string{"*"}, Level: levels[w.level], TrustStores: []string{store.String()}, TrustedIdentities: identities[w.names],
		}}}},
		Stores: map[trust.StoreRef]trust.Store{},
	}
	if certificates := cas[w.ca]; certificates != nil {
		snapshot.Stores[store] = trust.Store{Ref: store, Certificates: certificates}
	}
	return snapshot
}

func (w *world) ask(from gatherer, index, demand int, pinned bool) core.Result {
	x := w.targets[index]
	reference := w.scenario.Reference(x.name)
	if pinned {
		reference = strings.TrimSuffix(reference, ":v1") + "@" + x.image.Digest.String()
	}
	snapshot := w.snapshot()
	plan := must(core.NewPlan(core.Request{
		Images:       []core.Image{{Kind: "container", Name: "c0", Written: reference, Ref: must(image.Parse(reference))}},
		Attestations: []core.AttestationRule{{ImageReference: "*", Types: w.demands[demand]}},
	}, snapshot, "demo"))
	return core.Decide(plan, from.Gather(w.Context(), plan.Tasks, time.Now()), time.Now()).Results[0]
}

func TestCachedOutcomesEqualUncachedOnes(t *testing.T) {
	w := &world{bed: newBed(t, registrytest.Options{}, 10)}
	w.demands = [][]verification.AttestationType{nil, demanding(verification.SelectAll, licence), demanding(verification.SelectAny, "")}
	for i, signer := range []*signingtest.Signer{w.scenario.Signer(), w.foreign} {
		name := fmt.Sprintf("walk-%d", i)
		x := &target{bed: w.bed, name: name, image: must(w.scenario.PushSigned(t.Context(), name, signer, &signingtest.SignRequest{}))}
		x.attach(attestation{payload: []string{good, bad}[i]})
		w.targets = append(w.targets, x)
	}
	steps := 1500
	if testing.Short() {
		steps = 150
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	k := w.newKeeper(4, nil)
	answers := map[bool]int{}
	for step := range steps {
		switch random.IntN(6) {
		case 0:
			w.ca, w.level, w.names = random.IntN(3), random.IntN(3), random.IntN(2)
		case 1:
			k.ahead.Store(random.Int64N(int64(3*time.Hour)) - int64(time.Hour))
		case 2:
			if random.IntN(4) == 0 {
				k.outcomes.Flush()
			}
		}
		image, demand, pinned := random.IntN(len(w.targets)), random.IntN(len(w.demands)), random.IntN(2) == 0
		warm, cold := w.ask(k, image, demand, pinned), w.ask(w.gatherer, image, demand, pinned)
		answers[warm.Verified]++
		if warm.Verified != cold.Verified || warm.Code != cold.Code || warm.Reason != cold.Reason {
			t.Fatalf("seed %d, step %d: %s, %s; a cold verification says %s, %s", seed, step, warm.Code, warm.Reason, cold.Code, cold.Reason)
		}
	}
	hits := k.outcomes.Stats().Hits
	if answers[true] == 0 || answers[false] == 0 || hits[verification.Conclude] == 0 || hits[verification.Signature] == 0 {
		t.Errorf("the walk saw too little: answers %v, hits %v", answers, hits)
	}
}

// processorTime is what this process has used so far, which other programs on the machine change less than the time that passed.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// TestEvaluationEndsWithItsRequest cancels the request soon after the document was served: the evaluation, which takes
// long, must end, and its outcome must not be cached.
func TestEvaluationEndsWithItsRequest(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	k := b.newKeeper(100, func(o *verify.Options) { o.MaxVerifications = 1 })
	x, next := b.target("long"), b.target("next")
	payload := `{"list": [` + strings.Repeat(`"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",`, 300_000) + `"b"]}`
	x.attach(attestation{payload: payload})
	patterns := `["` + strings.Repeat(`*a*a*a*a*b","`, 1000) + `b"]`
	demands := []verification.AttestationType{{Name: sbomType, Select: verification.SelectAll, Conditions: condition.Conditions{All: []condition.Condition{
		{Key: []byte(`"{{ list }}"`), Operator: "AllNotIn", Value: []byte(patterns)},
	}}}}
	began, used := time.Now(), processorTime(t)
	if got := x.decide(k, "", demands); got.Code != reason.ConditionInvalid || !strings.Contains(got.Reason, "takes more work") {
		t.Fatalf("%s: %.300s", got.Code, got.Reason)
	}
	took, whole := time.Since(began), processorTime(t)-used
	k.outcomes.Flush()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	blob := "/blobs/" + digest.FromString(payload).String()
	b.registry.SetFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(w, r)
		if strings.HasSuffix(r.URL.Path, blob) {
			time.AfterFunc(took/20, leave)
		}
	})
	plan := x.plan("", demands)
	facts := k.Gather(ctx, plan.Tasks, time.Now())
	left := processorTime(t)
	next.decide(k, "", nil) // when the only seat is free
	if more := processorTime(t) - left; more > whole/2 {
		t.Errorf("the evaluation went on for %s of the %s of processor time that it takes", more, whole)
	}
	if got := core.Decide(plan, facts, time.Now()).Results[0]; got.Code != reason.Timeout {
		t.Errorf("%s: %.300s", got.Code, got.Reason)
	}
	b.registry.SetFault(nil)
	began = time.Now()
	if again := b.requests(func() { x.decide(k, "", demands) }); again == 0 {
		t.Error("an outcome that was cut off was kept")
	}
	// A denial, and what a tag stands for, are kept for ten seconds: on a machine this busy they may be gone.
	if again := b.requests(func() { x.decide(k, "", demands) }); again != 0 && time.Since(began) < 8*time.Second {
		t.Errorf("%d requests for an outcome that is kept", again)
	}
}

// TestCallersThatGiveUpFailNoOthers has two requests wait for the same facts, and the first one give up.
func TestCallersThatGiveUpFailNoOthers(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	x, busy := b.target("wanted-by-two"), b.target("busy")
	k := b.newKeeper(100, func(o *verify.Options) { o.MaxVerifications = 1 })
	hold, arrived, release := held(registrytest.PathContains("/busy/blobs/"))
	defer release()
	b.registry.SetFault(hold)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { busy.decide(k, "", nil) })
	<-arrived
	<-k.began
	plan := x.plan("", nil)
	ctx, giveUp := context.WithCancel(t.Context())
	first, second := make(chan []verification.Fact, 1), make(chan core.Result, 1)
	running.Go(func() { first <- k.Gather(ctx, plan.Tasks, time.Now()) })
	<-k.began // and goes no further, since another has the only seat
	running.Go(func() { second <- x.decide(k, "", nil) })
	<-k.joined
	giveUp()
	if got := core.Decide(plan, <-first, time.Now()).Results[0]; got.Code != reason.Timeout {
		t.Errorf("the first: %s, %s", got.Code, got.Reason)
	}
	release()
	if got := <-second; !got.Verified {
		t.Errorf("the second: %s, %s", got.Code, got.Reason)
	}
}

// TestUntrustedSignaturesEvictNoOutcomes verifies an image with more untrusted signatures than the cache has room for.
func TestUntrustedSignaturesEvictNoOutcomes(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	x := b.target("kept-beside-strangers")
	stranger := &target{bed: b, name: "of-strangers", image: must(b.scenario.PushSigned(t.Context(), "of-strangers", b.foreign, &signingtest.SignRequest{}))}
	for range 9 {
		if err := b.scenario.Sign(t.Context(), stranger.name, stranger.image, b.foreign, signingtest.SignRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	k := b.newKeeper(8, nil)
	if got := x.decide(k, "", nil); !got.Verified {
		t.Fatalf("%s: %s", got.Code, got.Reason)
	}
	if got := stranger.decide(k, "", nil); got.Code != reason.SignatureUntrusted {
		t.Fatalf("%s: %s", got.Code, got.Reason)
	}
	if again := b.requests(func() { x.decide(k, "", nil) }); again != 0 {
		t.Errorf("%d requests for what was kept", again)
	}
}

// TestSignaturesAreCachedFromTheirVerification holds that the time for which a signature is cached begins when it is
// verified, and not when another task uses it.
func TestSignaturesAreCachedFromTheirVerification(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	x := b.target("demanded-twice")
	x.attach(attestation{payload: good})
	k := b.newKeeper(100, nil)
	admit := func(demands []verification.AttestationType) int {
		return b.requests(func() {
			if got := x.decide(k, "", demands); !got.Verified {
				t.Errorf("%s: %s", got.Code, got.Reason)
			}
		})
	}
	admit(nil)
	k.ahead.Store(int64(50 * time.Minute))
	admit(demanding(verification.SelectAll, licence))
	k.ahead.Store(int64(70 * time.Minute))
	if n := admit(demanding(verification.SelectAll, licence)); n < 4 {
		t.Errorf("%d requests 70 minutes after the image's signature was verified, which is kept for 60", n)
	}
}

// TestPanicsReleaseTheirBudget has verifications panic while they evaluate documents, more of them than may stay in memory,
// and expects that the next document can still stay.
func TestPanicsReleaseTheirBudget(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	x := b.target("panics")
	x.attach(attestation{payload: fmt.Sprintf(`{"at": %q, "filler": %q}`, today.Format(time.RFC3339), strings.Repeat("x", 1<<20-100))})
	var asked, panics atomic.Int32
	client := must(shellregistry.New(shellregistry.Options{AllowLoopback: true, InsecureHosts: []string{b.registry.Host()}, MaxReferrers: 10}))
	outcomes := cache.New(cache.Options{Size: 100, Timeout: 8 * time.Second})
	plugins := plugin.NewManager(plugin.Options{Dir: t.TempDir(), Timeout: time.Second, Config: func() map[string]string {
		if asked.Add(1) == 3 && panics.Load() > 0 { // for the revision of the plugins, for the image, and for the attestation
			panics.Add(1)
			panic("out of order")
		}
		return nil
	}})
	gatherer := must(verify.New(client, plugins, outcomes, verify.Options{
		MaxParallel: 16, MaxVerifications: 16, MaxQueued: 10,
		Limits: verification.Limits{MaxReferrers: 10, MaxSignatureAttempts: 30, Keep: time.Hour, KeepTags: 10 * time.Second},
	}))
	t.Cleanup(gatherer.Close)
	panics.Store(1)
	for range 100 {
		asked.Store(0)
		outcomes.Flush()
		if got := x.decide(gatherer, "", young()); got.Code != reason.NotGathered {
			t.Fatalf("%s: %s", got.Code, got.Reason)
		}
	}
	if panics.Swap(0) != 101 {
		t.Fatal("it did not panic each time")
	}
	outcomes.Flush()
	x.decide(gatherer, "", young())
	if n := b.requests(func() { x.decide(gatherer, "", young()) }); n != 0 {
		t.Errorf("%d requests for what would be kept if there was room", n)
	}
}
