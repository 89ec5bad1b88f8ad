package function_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/plugintest"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache/redistest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

const sharedSecret = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

// replicas starts services that share outcomes over a server, each with plugins of its own.
func replicas(t *testing.T, address string, n int, change setting) (all []*bench) {
	t.Helper()
	first := prepare(t, registrytest.Options{}, "")
	keys := writeFile(t, "keys", sharedSecret+"\n", 0o600)
	for range n {
		b := *first
		b.pluginDir = t.TempDir()
		if err := plugintest.Install(standin, b.pluginDir, "venafi-csp", ""); err != nil {
			t.Fatal(err)
		}
		b.serve(t, func(s *function.Settings) {
			s.SharedCache, s.SharedCacheKeyFile = "redis://"+address, keys
			s.PluginSandboxPaths = nil
			if change != nil {
				change(s)
			}
		})
		all = append(all, &b)
	}
	return all
}

// push pushes a signed image.
func (b *bench) push(t *testing.T, name string, request *signingtest.SignRequest) string {
	t.Helper()
	if _, err := b.scenario.PushSigned(t.Context(), name, b.scenario.Signer(), request); err != nil {
		t.Fatal(err)
	}
	return b.scenario.Reference(name)
}

// shared reads a metric of what replicas share.
func (b *bench) shared(t *testing.T, result string) int {
	t.Helper()
	return b.metric(t, fmt.Sprintf("shared_cache_total{result=%q}", result))
}

// await waits for something that happens in the background.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come", what)
		}
	}
}

func TestReplicasShareOutcomes(t *testing.T) {
	server, err := redistest.NewHostile()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	wait := func(s *function.Settings) { s.SharedCacheWait = 2 * time.Second }
	all := replicas(t, server.Address, 2, wait)
	image := all[0].push(t, "shared", &signingtest.SignRequest{Plugin: signingtest.Venafi()})
	if answer := all[0].post(t, "/checkimages", pod(image)); answer.status != http.StatusOK {
		t.Fatalf("%d %s", answer.status, answer.text)
	}
	await(t, "what is shared", func() bool { return all[0].shared(t, "written") == 2 })
	all[0].registry.Reset()
	if answer := all[1].post(t, "/checkimages", pod(image)); answer.status != http.StatusOK {
		t.Errorf("%d %s", answer.status, answer.text)
	}
	if requests := all[1].registry.Requests(); len(requests) != 0 || all[1].shared(t, "hit") != 2 || all[1].metric(t, `plugin_calls_total{event="started"}`) != 1 { // for its metadata
		t.Errorf("the registry got %d requests", len(requests))
	}
	for _, name := range server.Names() {
		if value := server.History(name)[0]; strings.Contains(name, "shared\"") || bytes.Contains(value, []byte(all[0].registry.Host())) {
			t.Errorf("the server learns of the image: %s", name)
		}
	}
}

func TestReplicasThatVerifyInOtherWaysShareNothing(t *testing.T) {
	server, err := redistest.NewHostile()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	first := replicas(t, server.Address, 1, func(s *function.Settings) { s.SharedCacheWait = 2 * time.Second })[0]
	image := first.push(t, "stricter", &signingtest.SignRequest{})
	first.post(t, "/checkimages", pod(image))
	await(t, "what is shared", func() bool { return first.shared(t, "written") == 2 })
	keys := writeFile(t, "keys", sharedSecret, 0o600)
	for attempts, want := range map[int]int{30: 2, 7: 0} {
		other := *first
		other.serve(t, func(s *function.Settings) {
			s.SharedCache, s.SharedCacheKeyFile, s.SharedCacheWait, s.PluginSandboxPaths = "redis://"+server.Address, keys, 2*time.Second, nil
			s.MaxSignatureAttempts = attempts
		})
		if answer := other.post(t, "/checkimages", pod(image)); answer.status != http.StatusOK || other.shared(t, "hit") != want {
			t.Errorf("with %d attempts: %d, %d hits", attempts, answer.status, other.shared(t, "hit"))
		}
	}
}

func TestSharingNeedsItsKey(t *testing.T) {
	dir := t.TempDir()
	for sentence, tt := range map[string]struct {
		change setting
		want   string
	}{
		"no key": {func(*function.Settings) {}, "needs a key"},
		"a key that can be guessed": {func(s *function.Settings) {
			s.SharedCacheKeyFile = writeFile(t, "short", "hunter2", 0o600)
		}, "at least 26"},
		"a file that is not there": {func(s *function.Settings) { s.SharedCacheKeyFile = filepath.Join(dir, "none") }, "sharedCacheKeyFile"},
		"a password that is not there": {func(s *function.Settings) {
			s.SharedCacheKeyFile = writeFile(t, "keys", sharedSecret, 0o600)
			s.SharedCachePasswordFile = filepath.Join(dir, "none")
		}, "sharedCachePasswordFile"},
	} {
		settings, _, err := function.LoadSettings("test", []string{"--trustDir", dir, "--sharedCache", "redis://cache.example"}, noEnvironment, nil)
		if err != nil {
			t.Fatal(err)
		}
		tt.change(&settings)
		if _, err := function.New(settings, noEnvironment, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", sentence, err)
		}
	}
	if _, _, err := function.LoadSettings("test", []string{"--sharedCache", "redis://:hunter2@cache.example"}, noEnvironment, nil); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a password on the command line: %v", err)
	}
}

// TestKillingTheSharedCacheFailsNoAdmission kills a real server (kill -9) and starts it again, under load. Images that are kept are
// admitted all the time, those that are new as well, and one that is not signed never.
func TestKillingTheSharedCacheFailsNoAdmission(t *testing.T) {
	if _, err := redistest.Find(); err != nil {
		t.Skip(err)
	}
	server, err := redistest.Start(t.Context(), t.TempDir(), "--save", "", "--appendonly", "no")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	all := replicas(t, server.Address, 2, func(s *function.Settings) { s.TagCacheTTL = 1 })
	var kept []string
	for i := range 20 {
		kept = append(kept, all[0].push(t, fmt.Sprint("kept-", i), &signingtest.SignRequest{}))
	}
	unsigned, _ := all[0].publish(t, "unsigned")
	ctx, stop := context.WithCancel(t.Context())
	var loads sync.WaitGroup
	var answered, wrong atomic.Int64
	for _, b := range all {
		for worker := range 4 {
			loads.Go(func() {
				for i := worker; ctx.Err() == nil; i += 4 {
					image, want := kept[i%len(kept)], http.StatusOK
					if i%7 == 0 {
						image, want = unsigned, http.StatusNotAcceptable
					}
					if answer := b.post(t, "/checkimages", pod(image)); answer.status != want {
						wrong.Add(1)
						t.Errorf("%s: %d %s", image, answer.status, answer.text)
					}
					answered.Add(1)
				}
			})
		}
	}
	for range 3 {
		time.Sleep(time.Second)
		server.Kill()
		time.Sleep(time.Second)
		if err := server.Restart(t.Context()); err != nil {
			t.Error(err)
		}
	}
	hits := all[0].shared(t, "hit") + all[1].shared(t, "hit")
	await(t, "what is shared after the server is back", func() bool { return all[0].shared(t, "hit")+all[1].shared(t, "hit") > hits })
	stop()
	loads.Wait()
	t.Logf("%d answers, %d wrong; %d looks failed, %d were left out", answered.Load(), wrong.Load(), all[0].shared(t, "failed")+all[1].shared(t, "failed"), all[0].shared(t, "left_alone")+all[1].shared(t, "left_alone"))
}
