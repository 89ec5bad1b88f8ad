package sharedcache_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	core "github.com/nirmata/kyverno-notation-venafi/core/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache"
)

// memory is a server in memory, which may hang.
type memory struct {
	mu     sync.Mutex
	hangs  bool
	values map[string][]byte
}

func (m *memory) Get(ctx context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hangs {
		m.mu.Unlock()
		<-ctx.Done()
		m.mu.Lock()
		return nil, ctx.Err()
	}
	return m.values[name], nil
}

func (m *memory) Claim(ctx context.Context, entry, lease string, value []byte, life time.Duration) (found, held []byte, err error) {
	if found, err = m.Get(ctx, entry); err != nil {
		return nil, nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values[lease] == nil {
		m.values[lease] = value
		time.AfterFunc(life, func() { _ = m.Put(context.Background(), "", nil, 0, lease) })
	}
	return found, m.values[lease], nil
}

func (m *memory) Put(_ context.Context, entry string, value []byte, _ time.Duration, lease string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if value != nil {
		m.values[entry] = value
	}
	delete(m.values, lease)
	return nil
}

// look looks, and tells how long that took.
func look(ctx context.Context, r *replica, name string) (settle func(*core.Entry), took time.Duration) {
	began := time.Now()
	settle = r.Look(ctx, r.Budget(), lookupOf(name), func(core.Entry) bool { return true })
	return settle, time.Since(began)
}

// takes has a replica work on images that nobody else asks for, so that it knows how long that takes.
func takes(t *testing.T, r *replica, each time.Duration) {
	for i := range 100 {
		lookup := lookupOf(fmt.Sprint("own-", i))
		settle, _ := look(t.Context(), r, lookup.Repository)
		from := r.Now()
		time.Sleep(each)
		entry, _ := core.NewEntry(task, lookup, nil, &verification.Fact{Digest: lookup.Subject}, from)
		settle(&entry)
	}
}

// within runs a test in virtual time, with two replicas of one server.
func within(t *testing.T, test func(t *testing.T, m *memory, one, two *replica)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{values: map[string][]byte{}}
		test(t, m, newReplica(t, m, nil), newReplica(t, m, nil))
	})
}

// TestAServerThatHangsCosts ten milliseconds, however long verifications take.
func TestAServerThatHangsCosts(t *testing.T) {
	for work, want := range map[time.Duration]time.Duration{
		time.Millisecond: 10 * time.Millisecond, time.Minute: 10 * time.Millisecond,
	} {
		within(t, func(t *testing.T, m *memory, one, _ *replica) {
			takes(t, one, work)
			m.hangs = true
			if _, took := look(t.Context(), one, "app"); took.Round(time.Millisecond) != want {
				t.Errorf("where work takes %s a verification waits %s, want %s", work, took, want)
			}
		})
	}
}

// TestAReplicaThatEndsAtWorkIsWaitedFor for a second, for twice what work takes, for three, or for half of the request's time.
func TestAReplicaThatEndsAtWorkIsWaitedFor(t *testing.T) {
	for sentence, tt := range map[string]struct{ work, request, want time.Duration }{
		"a second":                  {time.Millisecond, time.Minute, time.Second},
		"twice what work takes":     {900 * time.Millisecond, time.Minute, 1800 * time.Millisecond},
		"three seconds":             {8 * time.Second, time.Minute, 3 * time.Second},
		"half of the request's own": {time.Millisecond, time.Second, 500 * time.Millisecond},
	} {
		t.Run(sentence, func(t *testing.T) {
			within(t, func(t *testing.T, _ *memory, one, two *replica) {
				takes(t, two, tt.work)
				look(t.Context(), one, "app") // and is never heard of again
				ctx, cancel := context.WithTimeout(t.Context(), tt.request)
				defer cancel()
				if settle, took := look(ctx, two, "app"); settle == nil || took.Round(10*time.Millisecond) != tt.want {
					t.Errorf("it was waited for for %s, want %s", took, tt.want)
				}
			})
		})
	}
}

// TestWaitsInVainTogetherCountOnce: a machine that has too much to do makes all waits vain for a moment, and must not make all others work for
// half a minute.
func TestWaitsInVainTogetherCountOnce(t *testing.T) {
	within(t, func(t *testing.T, _ *memory, one, two *replica) {
		for round, want := range []time.Duration{time.Second, time.Second, time.Second, 0} {
			var waiting sync.WaitGroup
			for i := range 10 {
				name := fmt.Sprint("app-", round, "-", i)
				look(t.Context(), one, name)
				waiting.Go(func() {
					if _, took := look(t.Context(), two, name); took.Round(10*time.Millisecond) != want {
						t.Errorf("round %d: waited %s, want %s", round, took, want)
					}
				})
			}
			waiting.Wait()
		}
	})
}

// TestCallsThatFailTogetherCountOnce, as when this process had a pause.
func TestCallsThatFailTogetherCountOnce(t *testing.T) {
	within(t, func(t *testing.T, m *memory, one, _ *replica) {
		m.hangs = true
		for round := range 20 {
			if !one.Answers() {
				t.Errorf("the server is left alone after %d rounds", round)
			}
			var looking sync.WaitGroup
			for i := range 10 {
				looking.Go(func() { look(t.Context(), one, fmt.Sprint("app-", round, "-", i)) })
			}
			looking.Wait()
			time.Sleep(time.Millisecond)
		}
		if one.Answers() || one.Count(sharedcache.LeftAlone) != 0 {
			t.Errorf("the server is not left alone after 20 rounds, or was before: %d", one.Count(sharedcache.LeftAlone))
		}
	})
}
