package verify

import (
	"context"
	"crypto/x509"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/condition"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	core "github.com/nirmata/kyverno-notation-venafi/core/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry"
	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

const scanType = "scan"

var (
	scannedImage = digest.FromString("image")
	scan         = digest.FromString("scan")
)

// scanRegistry has one image with a signature and a signed scan, which says when it was made.
type scanRegistry struct {
	scannedAt time.Time
	release   chan struct{} // closed when scans are served; nil for always
	scans     int           // that were read
}

func (r *scanRegistry) Repository(image.Reference) Repository { return r }
func (*scanRegistry) Close()                                  {}

func (*scanRegistry) Resolve(context.Context, image.Reference) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: scannedImage, Size: 1}, nil
}

func (*scanRegistry) Describe(_ context.Context, named digest.Digest) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: named, Size: 1}, nil
}

func signatureOf(subject digest.Digest) digest.Digest {
	return digest.FromString("signature of " + subject.String())
}

func (*scanRegistry) Referrers(_ context.Context, of digest.Digest, artifactType string) (found []ocispec.Descriptor, truncated bool, err error) {
	for kind, named := range map[string]digest.Digest{verification.TypeSignature: signatureOf(of), scanType: scan} {
		if (artifactType == "" || artifactType == kind) && (kind != scanType || of == scannedImage) {
			found = append(found, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: named, Size: 1, ArtifactType: kind})
		}
	}
	return found, false, nil
}

func (r *scanRegistry) Manifest(_ context.Context, named digest.Digest) (ocispec.Manifest, ocispec.Descriptor, error) {
	kind, subject := verification.TypeSignature, scannedImage
	layer := ocispec.Descriptor{MediaType: "application/jose+json", Digest: named, Size: 1}
	switch named {
	case scan:
		kind, layer = scanType, ocispec.Descriptor{MediaType: "application/json", Digest: named, Size: scanSize}
	case signatureOf(scan):
		subject = scan
	}
	manifest := ocispec.Manifest{
		ArtifactType: kind, Subject: &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: subject, Size: 1}, Layers: []ocispec.Descriptor{layer},
	}
	return manifest, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: named, Size: 1}, nil
}

func (*scanRegistry) Index(context.Context, digest.Digest, int) (registry.Index, error) {
	return registry.Index{}, nil
}

const scanSize = int64(len(`{"at": "2000-01-01T00:00:00Z"}`))

func (r *scanRegistry) document() []byte {
	return fmt.Appendf(nil, `{"at": %q}`, r.scannedAt.UTC().Format(time.RFC3339))
}

func (r *scanRegistry) Blob(ctx context.Context, descriptor ocispec.Descriptor, _ int64) ([]byte, error) {
	if descriptor.Digest != scan {
		return []byte("envelope"), nil
	}
	r.scans++
	if r.release != nil {
		select {
		case <-r.release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return r.document(), nil
}

// clocked is a gatherer beside a registry with a scan, and the task to admit its image while the scan is younger than a day.
type clocked struct {
	*Gatherer
	registry *scanRegistry
	task     verification.Task
}

// chainOf makes the chain of a signer.
func chainOf(t *testing.T) []*x509.Certificate {
	t.Helper()
	ca, err := signingtest.NewCA(signingtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ca.Issue(signingtest.LeafOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return signer.Chain
}

func newClocked(t *testing.T, chain []*x509.Certificate, change func(*Options)) *clocked {
	t.Helper()
	c := &clocked{registry: &scanRegistry{scannedAt: time.Now(), release: make(chan struct{})}}
	store := trust.StoreRef{Type: trust.StoreCA, Name: "acme"}
	c.task = verification.Task{
		Ref: image.Reference{Registry: "reg.example", Repository: "app", Digest: scannedImage.String()}, Policy: "tp", Revision: "1",
		Statement: trust.Statement{Name: "all", Level: "strict", TrustStores: []string{"ca:acme"}, TrustedIdentities: []string{"*"}},
		Stores:    trust.Stores{store: trust.Store{Certificates: chain}},
		Attestations: []verification.AttestationType{{Name: scanType, Select: verification.SelectAll, Conditions: condition.Conditions{All: []condition.Condition{
			{Key: []byte(`"{{ time_since('', at, '') }}"`), Operator: "DurationLessThan", Value: []byte(`"24h"`)},
		}}}},
	}
	options := Options{
		Limits:      verification.Limits{MaxReferrers: 10, MaxSignatureAttempts: 3, Keep: time.Hour},
		MaxParallel: 4, MaxVerifications: 4, MaxQueued: 10,
		Simulated: &Simulated{
			Registry: c.registry, Plugins: func() string { return "" },
			Verify: func(_ context.Context, _ verification.Task, lookup verification.Lookup, _ []byte, _ time.Time) verification.Report {
				return verification.Report{
					Target: verification.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: lookup.Artifact, Size: 1},
					Scheme: trust.SchemeX509, Chain: chain, Checks: []verification.CheckReport{{Name: verification.CheckAuthenticity}},
					Enforced: map[string]bool{verification.CheckAuthenticity: true},
				}
			},
		},
	}
	if change != nil {
		change(&options)
	}
	var err error
	if c.Gatherer, err = New(nil, nil, cache.New(cache.Options{Size: 100, Timeout: time.Minute}), options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// answered is what a request got.
type answered struct {
	finding *reason.Finding // nil where the image is admitted
	course  Course
}

// ask sends a request at a time, which records its decision under an id.
func (c *clocked) ask(ctx context.Context, now time.Time, id string) <-chan answered {
	got := make(chan answered, 1)
	go func() {
		recording := &Recording{Decision: id}
		facts := c.GatherRecorded(ctx, []verification.Task{c.task}, now, recording)
		got <- answered{verification.Check(c.task, facts[0], now), recording.Tasks[0]}
	}()
	synctest.Wait()
	return got
}

func (a answered) want(t *testing.T, code reason.Code, how record.How, from string) {
	t.Helper()
	got := reason.Verified
	if a.finding != nil {
		got = a.finding.Code
	}
	if got != code || a.course.How != how || a.course.From != from {
		t.Errorf("%s, %s %q, want %s, %s %q: %v", got, a.course.How, a.course.From, code, how, from, a.finding)
	}
}

// TestFactsThatAreSharedHoldForTheTimeOfEachRequest has requests at different times wait for the same facts, of which a condition reads
// the clock.
func TestFactsThatAreSharedHoldForTheTimeOfEachRequest(t *testing.T) {
	const today, later = time.Hour, 48 * time.Hour // after the scan
	codes := map[time.Duration]reason.Code{today: reason.Verified, later: reason.ConditionUnmet}
	tests := map[string]struct {
		first, second time.Duration
		room          int64 // for documents that can be evaluated again, bytes
		how           record.How
		scans         int // that are read
	}{
		"the second later, evaluated again":            {today, later, retainedAtOnce, record.Shared, 1},
		"the second earlier, evaluated again":          {later, today, retainedAtOnce, record.Shared, 1},
		"the second later, which cannot be repeated":   {today, later, 0, record.WorkedOut, 2},
		"the second earlier, which cannot be repeated": {later, today, 0, record.WorkedOut, 2},
		"no room for the second to keep the documents": {today, later, scanSize, record.WorkedOut, 2},
		"both at one time":                             {today, today, retainedAtOnce, record.Shared, 1},
		"both at one time, which cannot be repeated":   {today, today, 0, record.Shared, 1},
	}
	chain := chainOf(t)
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClocked(t, chain, nil)
				if !c.documents.retained.TryAcquire(retainedAtOnce - test.room) {
					t.Fatal("somebody else has some of the room")
				}
				first := c.ask(t.Context(), c.registry.scannedAt.Add(test.first), "first")
				second := c.ask(t.Context(), c.registry.scannedAt.Add(test.second), "second")
				close(c.registry.release)
				from := ""
				if test.how == record.Shared {
					from = "first"
				}
				(<-first).want(t, codes[test.first], record.WorkedOut, "")
				(<-second).want(t, codes[test.second], test.how, from)
				if c.registry.scans != test.scans {
					t.Errorf("the scan was read %d times, want %d", c.registry.scans, test.scans)
				}
				if !c.documents.retained.TryAcquire(test.room) {
					t.Error("some of the room for documents was not given back")
				}
			})
		})
	}
}

// TestFactsOfOneRequestAloneEndWithIt has the registry be slow, so that a request which cannot share the facts for another time runs out
// of its own.
func TestFactsOfOneRequestAloneEndWithIt(t *testing.T) {
	chain := chainOf(t)
	synctest.Test(t, func(t *testing.T) {
		c := newClocked(t, chain, nil)
		c.documents.retained.TryAcquire(retainedAtOnce)
		first := c.ask(t.Context(), c.registry.scannedAt, "first")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		second := c.ask(ctx, c.registry.scannedAt.Add(time.Hour), "second")
		release := c.registry.release
		c.registry.release = make(chan struct{}) // for what is read from here on, which nobody closes
		close(release)
		(<-first).want(t, reason.Verified, record.WorkedOut, "")
		(<-second).want(t, reason.Timeout, record.WorkedOut, "")
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %s of the second that it had", took)
		}
		if c.Turns().InUse != 0 {
			t.Error("a seat is still in use")
		}
	})
}

// TestBackgroundFactsOfOneRequestAloneWaitForASpareSeat so that they come behind those of admissions there too.
func TestBackgroundFactsOfOneRequestAloneWaitForASpareSeat(t *testing.T) {
	chain := chainOf(t)
	synctest.Test(t, func(t *testing.T) {
		c := newClocked(t, chain, func(o *Options) { o.MaxVerifications = 2 })
		c.documents.retained.TryAcquire(retainedAtOnce)
		now := c.registry.scannedAt
		first := c.ask(t.Context(), now, "first")
		scan := make(chan verification.Fact, 1)
		go func() {
			scan <- c.GatherInBackground(t.Context(), []verification.Task{c.task}, now.Add(time.Hour), nil)[0]
		}()
		synctest.Wait()
		for _, tenant := range []string{"b", "c"} { // one takes the other seat, and one waits for that of the first
			go func() { _ = c.queue.Acquire(t.Context(), tenant, "") }()
			synctest.Wait()
		}
		close(c.registry.release)
		(<-first).want(t, reason.Verified, record.WorkedOut, "")
		synctest.Wait()
		if len(scan) > 0 || c.Turns().InUse != 2 {
			t.Errorf("the scan had a seat while none was to spare; %d are in use", c.Turns().InUse)
		}
		c.queue.Release("b", "")
		c.queue.Release("c", "")
		if fact := <-scan; verification.Check(c.task, fact, now.Add(time.Hour)) != nil {
			t.Errorf("%+v", fact)
		}
	})
}

// replicasMemory is a second level in which everything is found that was shared.
type replicasMemory struct {
	entries map[verification.Lookup]core.Entry
}

func (*replicasMemory) Now() time.Time              { return time.Now() }
func (*replicasMemory) Budget() *sharedcache.Budget { return nil }

func (m *replicasMemory) Look(_ context.Context, _ *sharedcache.Budget, lookup verification.Lookup, accept func(core.Entry) bool) func(*core.Entry) {
	if entry, ok := m.entries[lookup]; ok && accept(entry) {
		return nil
	}
	return func(entry *core.Entry) {
		if entry != nil {
			m.entries[lookup] = *entry
		}
	}
}

// TestReplicasShareNoFactsThatDependOnTheTime neither gives nor takes them: another replica may have another time, and has not the
// evidence from which they could be evaluated again.
func TestReplicasShareNoFactsThatDependOnTheTime(t *testing.T) {
	chain := chainOf(t)
	synctest.Test(t, func(t *testing.T) {
		memory := &replicasMemory{entries: map[verification.Lookup]core.Entry{}}
		replica := func() *clocked {
			c := newClocked(t, chain, func(o *Options) { o.Shared = memory })
			close(c.registry.release)
			return c
		}
		first := replica()
		now := first.registry.scannedAt.Add(time.Hour)
		facts := first.Gather(t.Context(), []verification.Task{first.task}, now)
		if verification.Check(first.task, facts[0], now) != nil || len(memory.entries) != 0 {
			t.Errorf("%d entries are shared of %+v", len(memory.entries), facts[0])
		}
		key, _ := verification.Key(first.task, verification.Answer{})
		memory.entries[key] = core.Entry{Fact: &facts[0], Decision: "first", From: time.Now(), Until: time.Now().Add(time.Hour)}
		second := replica()
		(<-second.ask(t.Context(), now.Add(47*time.Hour), "second")).want(t, reason.ConditionUnmet, record.WorkedOut, "")
		(<-second.ask(t.Context(), now, "third")).want(t, reason.Verified, record.Kept, "second")
		facts[0].Attestations[0].Candidates[0].Evaluation.TimeDependent = false // so that nothing but that was in the way
		(<-replica().ask(t.Context(), now, "fourth")).want(t, reason.Verified, record.Kept, "first")
	})
}

// TestPluginsAreLookedUpAnewWhateverTimeARequestIsFor lets a request be for a time to come.
func TestPluginsAreLookedUpAnewWhateverTimeARequestIsFor(t *testing.T) {
	revision := "1"
	g := &Gatherer{options: Options{PluginsEvery: time.Second}, revision: func() string { return revision }}
	now := time.Now()
	g.pluginsRevision(now.Add(24 * time.Hour))
	revision = "2"
	if got := g.pluginsRevision(now); got != "2" {
		t.Errorf("revision %s", got)
	}
	revision = "3"
	if got := g.pluginsRevision(now.Add(999 * time.Millisecond)); got != "2" {
		t.Errorf("revision %s within the second", got)
	}
}
