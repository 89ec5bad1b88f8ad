package verify_test

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	core "github.com/nirmata/kyverno-notation-venafi/core/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache/redistest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify"
)

// secondLevel is a server, and what one replica has of it.
type secondLevel struct {
	server *redistest.Hostile
	secret string
}

func newSecondLevel(t *testing.T) *secondLevel {
	t.Helper()
	server := must(redistest.NewHostile())
	t.Cleanup(server.Close)
	return &secondLevel{server, strings.Repeat("secret ", 5)}
}

// of gives a replica the second level, with the replica's clock.
func (l *secondLevel) of(t *testing.T, now func() time.Time) *sharedcache.Cache {
	redis := must(sharedcache.OpenRedis(sharedcache.RedisOptions{Server: must(sharedcache.ParseServer("redis://" + l.server.Address))}))
	ring := must(core.NewKeyring([]string{l.secret}, "build"))
	shared := sharedcache.New(sharedcache.Options{Store: redis, Keys: func() core.Keyring { return ring }, Wait: 2 * time.Second, Now: now, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		shared.Close()
		redis.Close()
	})
	return shared
}

// newReplicas makes gatherers that share a second level, each with plugins in a folder of its own.
func (b *bed) newReplicas(l *secondLevel, n int) (all []*keeper, levels []*sharedcache.Cache) {
	for range n {
		var level *sharedcache.Cache
		var k *keeper
		clock := func() time.Time { return k.now() }
		k = b.newKeeper(1000, func(o *verify.Options) {
			level = l.of(b.T, clock)
			o.Shared = level
		})
		all, levels = append(all, k), append(levels, level)
	}
	return all, levels
}

// settled waits until nothing is written any more.
func settled(t *testing.T, levels []*sharedcache.Cache, written uint64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		var sum uint64
		for _, level := range levels {
			sum += level.Count(sharedcache.Written)
		}
		if sum >= written {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d writes, want %d", sum, written)
		}
	}
}

func TestAReplicaHasWhatAnotherWorkedOut(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	l := newSecondLevel(t)
	replicas, levels := b.newReplicas(l, 2)
	x := b.target("shared")
	x.attach(attestation{payload: good})
	demands := demanding(verification.SelectAll, licence)
	var first, second, revised int
	if got := x.decide(replicas[0], "", demands); !got.Verified {
		t.Fatalf("%s: %s", got.Code, got.Reason)
	}
	settled(t, levels, 2)
	second = b.requests(func() {
		if got := x.decide(replicas[1], "", demands); !got.Verified || got.Signer == "" {
			t.Errorf("%s: %s", got.Code, got.Reason)
		}
	})
	first = b.requests(func() { x.decide(b.newKeeper(100, nil), "", demands) })
	if second != 0 || first == 0 {
		t.Errorf("%d requests of the first replica and %d of the second", first, second)
	}
	revised = b.requests(func() { x.decide(replicas[1], "permissive", demands) })
	if revised < first-1 {
		t.Errorf("%d requests under another trust, want at least %d", revised, first-1)
	}
}

func TestADenialIsSharedAsLongAsItIsKept(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	l := newSecondLevel(t)
	replicas, levels := b.newReplicas(l, 2)
	x := b.target("denied")
	demands := demanding(verification.SelectAll, licence) // of which there is none yet
	if got := x.decide(replicas[0], "", demands); got.Code != reason.AttestationMissing {
		t.Fatalf("%s: %s", got.Code, got.Reason)
	}
	settled(t, levels, 2)
	x.attach(attestation{payload: good})
	if got := x.decide(replicas[1], "", demands); got.Code != reason.AttestationMissing {
		t.Errorf("at once: %s: %s", got.Code, got.Reason)
	}
	for _, replica := range replicas {
		replica.ahead.Store(int64(11 * time.Second))
	}
	if got := x.decide(replicas[1], "", demands); !got.Verified {
		t.Errorf("after eleven seconds: %s: %s", got.Code, got.Reason)
	}
}

// TestATagOfAnotherReplicaStandsInAsLongAsThere counts from when that one asked its registry.
func TestATagOfAnotherReplicaStandsInAsLongAsThere(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	l := newSecondLevel(t)
	var clock atomic.Int64
	var levels []*sharedcache.Cache
	var replicas []*keeper
	for range 2 {
		k := b.newKeeper(100, func(o *verify.Options) {
			level := l.of(t, func() time.Time { return time.Now().Add(time.Duration(clock.Load())) })
			o.StaleTags, o.KeepTags, o.Shared = true, 40*time.Minute, level
			levels = append(levels, level)
		})
		replicas = append(replicas, k)
	}
	ahead := func(d time.Duration) {
		clock.Store(int64(d))
		for _, k := range replicas {
			k.ahead.Store(int64(d))
		}
	}
	x := b.target("moved")
	if got := x.decide(replicas[0], "", nil); !got.Verified {
		t.Fatalf("%s: %s", got.Code, got.Reason)
	}
	settled(t, levels, 2)
	ahead(30 * time.Minute)
	if n := b.requests(func() { x.decide(replicas[1], "", nil) }); n != 0 {
		t.Fatalf("the second replica asks the registry %d times", n)
	}
	b.registry.SetFault(registrytest.Only(registrytest.PathContains("/manifests/"+x.plan("strict", nil).Tasks[0].Ref.Tag), registrytest.Down))
	for _, step := range []struct {
		after time.Duration
		want  reason.Code
	}{{59 * time.Minute, reason.Verified}, {61 * time.Minute, reason.RegistryUnavailable}} {
		ahead(step.after)
		for i, k := range replicas {
			if got := x.decide(k, "", nil); got.Code != step.want {
				t.Errorf("replica %d, %s after the registry was asked: %s: %s", i, step.after, got.Code, got.Reason)
			}
		}
	}
}

func TestTransientFailuresAreNotShared(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	replicas, _ := b.newReplicas(newSecondLevel(t), 2)
	x := b.target("failing")
	b.registry.SetFault(registrytest.Only(registrytest.PathContains("/blobs/"), registrytest.FailTimes(100, 500, nil)))
	if got := x.decide(replicas[0], "", nil); got.Code != reason.RegistryUnavailable {
		t.Errorf("%s: %s", got.Code, got.Reason)
	}
	b.registry.SetFault(nil)
	if got := x.decide(replicas[1], "", nil); !got.Verified {
		t.Errorf("%s: %s", got.Code, got.Reason)
	}
}

// TestARolloutCostsTheRegistryWhatOneReplicaCosts has all replicas verify all images at once, each in an order of its own.
func TestARolloutCostsTheRegistryWhatOneReplicaCosts(t *testing.T) {
	const images, replicas = 40, 20
	b := newBed(t, registrytest.Options{}, 10)
	var targets []*target
	for i := range images {
		targets = append(targets, b.target(fmt.Sprint("app-", i)))
	}
	all := func(k *keeper, from int) {
		for i := range targets {
			if got := targets[(from+i)%images].decide(k, "", nil); !got.Verified {
				t.Errorf("%s: %s", got.Code, got.Reason)
			}
		}
	}
	one := b.requests(func() { all(b.newKeeper(1000, nil), 0) })
	fleet, _ := b.newReplicas(newSecondLevel(t), replicas)
	together := b.requests(func() {
		var running sync.WaitGroup
		for i, k := range fleet {
			running.Go(func() { all(k, i*images/replicas) })
		}
		running.Wait()
	})
	t.Logf("%d requests of one replica, %d of %d", one, together, replicas)
	if 10*together > 11*one {
		t.Errorf("%d requests of %d replicas, %d of one", together, replicas, one)
	}
}
