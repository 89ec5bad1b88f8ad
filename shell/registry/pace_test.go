package registry_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
)

// metronome is a Pace that counts.
type metronome struct {
	mu     sync.Mutex
	waits  []string
	pauses []time.Duration
	refuse error
}

func (m *metronome) Wait(_ context.Context, registry string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waits = append(m.waits, registry)
	return m.refuse
}

func (m *metronome) Pause(_ string, pause time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pauses = append(m.pauses, pause)
}

// TestPaceIsAskedBeforeEveryRequest, retries and tokens too, and told when a registry wants none.
func TestPaceIsAskedBeforeEveryRequest(t *testing.T) {
	for sentence, tt := range map[string]struct {
		fault  registrytest.Fault
		auth   registrytest.Auth
		pauses []time.Duration
		least  int // requests
	}{
		"all is well":               {nil, registrytest.AuthNone, nil, 1},
		"with tokens":               {nil, registrytest.AuthToken, nil, 2},
		"too many requests":         {registrytest.FailTimes(1, http.StatusTooManyRequests, http.Header{"Retry-After": {"0"}}), registrytest.AuthNone, []time.Duration{0}, 2},
		"too many, for an hour":     {registrytest.Answer(http.StatusTooManyRequests, http.Header{"Retry-After": {"3600"}}, ""), registrytest.AuthNone, []time.Duration{time.Hour}, 1},
		"unavailable for a while":   {registrytest.Answer(http.StatusServiceUnavailable, http.Header{"Retry-After": {"120"}}, ""), registrytest.AuthNone, []time.Duration{2 * time.Minute}, 1},
		"unavailable, says no more": {registrytest.FailTimes(2, http.StatusServiceUnavailable, nil), registrytest.AuthNone, nil, 3},
	} {
		t.Run(sentence, func(t *testing.T) {
			server := registrytest.New(registrytest.Options{Auth: tt.auth})
			defer server.Close()
			server.SetFault(tt.fault)
			pace := &metronome{}
			client, err := registry.New(registry.Options{AllowLoopback: true, InsecureHosts: []string{server.Host()}, Pace: pace, MaxReferrers: 10})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			ref, err := image.Parse(server.Host() + "/acme/app:v1")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			server.Reset()
			_, _ = client.Repository(ref).Resolve(ctx, ref)
			if sent := len(server.Requests()); len(pace.waits) != sent || sent < tt.least {
				t.Errorf("asked %d times before %d requests", len(pace.waits), sent)
			}
			if !slices.Equal(pace.pauses, tt.pauses) {
				t.Errorf("told to pause for %v, want %v", pace.pauses, tt.pauses)
			}
		})
	}
}

func TestPaceRefusesRequests(t *testing.T) {
	server := registrytest.New(registrytest.Options{})
	defer server.Close()
	client, err := registry.New(registry.Options{AllowLoopback: true, InsecureHosts: []string{server.Host()}, Pace: &metronome{refuse: errors.New("not now")}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ref, err := image.Parse(server.Host() + "/acme/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Repository(ref).Resolve(t.Context(), ref)
	var failed *registry.Error
	if !errors.As(err, &failed) || failed.Code != "RegistryUnavailable" || len(server.Requests()) > 0 {
		t.Errorf("%v, after %d requests", err, len(server.Requests()))
	}
}
