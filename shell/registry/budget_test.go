package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/budget"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

func resolveWithin(t *testing.T, client *Client, host string, within time.Duration) (took time.Duration, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	began := time.Now()
	_, err = client.Repository(image.Reference{Registry: host, Repository: "acme/app"}).Resolve(ctx, image.Reference{Tag: "v1"})
	return time.Since(began), err
}

// TestARefusalHoldsAllCallersBack has a registry refuse one, and counts what it is asked meanwhile.
func TestARefusalHoldsAllCallersBack(t *testing.T) {
	for what, after := range map[string]func() string{
		"in seconds": func() string { return "2" },
		"by a date":  func() string { return time.Now().Add(2500 * time.Millisecond).UTC().Format(http.TimeFormat) },
	} {
		t.Run(what, func(t *testing.T) {
			s := stocked(t, registrytest.Options{}, nil)
			s.registry.SetFault(registrytest.FailTimes(1, http.StatusTooManyRequests, http.Header{"Retry-After": {after()}}))
			if took, err := resolveWithin(t, s.client, s.registry.Host(), time.Second); err == nil || took > 900*time.Millisecond {
				t.Errorf("%v after %s", err, took)
			}
			if n := len(s.registry.Requests()); n != 1 {
				t.Errorf("%d requests", n)
			}
			began := time.Now()
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					if _, err := resolveWithin(t, s.client, s.registry.Host(), 8*time.Second); err != nil {
						t.Error(err)
					}
				})
			}
			time.Sleep(300 * time.Millisecond)
			if n := len(s.registry.Requests()); n != 1 {
				t.Errorf("%d requests during the pause", n)
			}
			all.Wait()
			if took := time.Since(began); took < 500*time.Millisecond || took > 4*time.Second {
				t.Errorf("they waited %s", took)
			}
		})
	}
}

// TestAnAbsurdPauseStopsNobodyElse, and nobody waits for it in vain.
func TestAnAbsurdPauseStopsNobodyElse(t *testing.T) {
	other := registrytest.New(registrytest.Options{})
	defer other.Close()
	s := stocked(t, registrytest.Options{}, func(o *Options) { o.InsecureHosts = append(o.InsecureHosts, other.Host()) })
	repository, err := signingtest.Repository(other.Host(), "acme/app", other.Client(), true)
	if err == nil {
		_, err = signingtest.PushImage(t.Context(), repository, "v1", signingtest.Image{})
	}
	if err != nil {
		t.Fatal(err)
	}
	s.registry.SetFault(registrytest.Answer(http.StatusTooManyRequests, http.Header{"Retry-After": {"4294967295"}}, ""))
	_, _ = resolveWithin(t, s.client, s.registry.Host(), 5*time.Second)
	s.registry.Reset()
	for range 50 {
		took, err := resolveWithin(t, s.client, s.registry.Host(), 5*time.Second)
		var failed *Error
		if !errors.As(err, &failed) || failed.Code != reason.RegistryUnavailable || took > time.Second { // not the 5 s it has
			t.Fatalf("%v after %s", err, took)
		}
	}
	if n := len(s.registry.Requests()); n != 0 {
		t.Errorf("%d requests to a registry that wants none", n)
	}
	if took, err := resolveWithin(t, s.client, other.Host(), 5*time.Second); err != nil || took > time.Second {
		t.Errorf("another registry: %v after %s", err, took)
	}
	if stats := s.client.Stats(); stats.Paused != 1 {
		t.Errorf("%d are paused", stats.Paused)
	}
}

// TestWhatIsLeftIsTold, and a registry that says that nothing is, while it answers, is not believed for long.
func TestWhatIsLeftIsTold(t *testing.T) {
	s := stocked(t, registrytest.Options{}, nil)
	for _, header := range []http.Header{
		{"Ratelimit-Limit": {"100;w=21600"}, "Ratelimit-Remaining": {"76;w=21600"}},
		{"Ratelimit": {`"default";r=76;t=30`}, "Ratelimit-Policy": {`"default";q=100;w=60`}},
	} {
		s.registry.SetFault(registrytest.AddHeader(header))
		if _, err := resolveWithin(t, s.client, s.registry.Host(), time.Second); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(s.client.Stats().Limits); got != fmt.Sprintf("[{%s 76 100}]", s.registry.Host()) {
			t.Errorf("%v: %s", header, got)
		}
	}
	s.registry.SetFault(registrytest.AddHeader(http.Header{"Ratelimit-Remaining": {"0"}, "Ratelimit-Reset": {"1"}}))
	_, _ = resolveWithin(t, s.client, s.registry.Host(), 4*time.Second) // is answered, and the next one waits
	if took, err := resolveWithin(t, s.client, s.registry.Host(), 4*time.Second); err != nil || took < 800*time.Millisecond || took > 2*time.Second {
		t.Errorf("%v after %s", err, took)
	}
	for range 20 {
		if took, err := resolveWithin(t, s.client, s.registry.Host(), 4*time.Second); err != nil || took > 500*time.Millisecond {
			t.Fatalf("%v after %s", err, took)
		}
	}
}

// wire is a second level that two replicas share.
type wire struct {
	mu    sync.Mutex
	until map[string]time.Time
}

func (w *wire) Tell(registry string, until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until[registry] = until
}

func (w *wire) Told(registry string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.until[registry]
}

func TestReplicasTellEachOther(t *testing.T) {
	between := &wire{until: map[string]time.Time{}}
	s := stocked(t, registrytest.Options{}, func(o *Options) { o.Shared = between })
	other, err := New(Options{MaxReferrers: 10, InsecureHosts: []string{s.registry.Host()}, AllowLoopback: true, Shared: between})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	s.registry.SetFault(registrytest.FailTimes(1, http.StatusTooManyRequests, http.Header{"Retry-After": {"3"}}))
	_, _ = resolveWithin(t, s.client, s.registry.Host(), time.Second)
	s.registry.Reset()
	if took, err := resolveWithin(t, other, s.registry.Host(), time.Second); err == nil || took > 900*time.Millisecond || len(s.registry.Requests()) > 0 {
		t.Errorf("%v after %s and %d requests", err, took, len(s.registry.Requests()))
	}
	if took, err := resolveWithin(t, other, s.registry.Host(), 8*time.Second); err != nil || took < time.Second {
		t.Errorf("%v after %s", err, took)
	}
	between.Tell(s.registry.Host(), time.Now().Add(100*time.Hour)) // whoever has the second level may lie
	if took, err := resolveWithin(t, other, s.registry.Host(), 5*time.Second); err != nil || took > time.Second {
		t.Errorf("a lie after a pause that was none: %v after %s", err, took)
	}
}

// TestBudgetsAreBounded has someone name registry after registry while one is paused.
func TestBudgetsAreBounded(t *testing.T) {
	b := newBudgets(nil)
	now := time.Now()
	b.hear("paused.example", budget.Reply{Sent: now, Refused: true, RetryAfter: time.Hour}, now)
	for i := range 3 * maxBudgets {
		b.wait(fmt.Sprintf("reg%d.example", i), false, now.Add(time.Duration(i)))
	}
	if wait, _ := b.wait("paused.example", false, now); wait == 0 || len(b.known) > maxBudgets {
		t.Errorf("%s, %d known", wait, len(b.known))
	}
}
