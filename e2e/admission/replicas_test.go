//go:build e2e

package admission

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

const (
	eventAccount  = "kyverno-notation-venafi-events"
	eventAudience = "kyverno-notation-venafi-events"
)

// fleet starts replicas for one test.
func (fx environment) fleet(t *testing.T, n int, args ...string) []*replica {
	t.Helper()
	replicas := make([]*replica, n)
	for i := range replicas {
		replicas[i] = fx.startFor(t, args...)
	}
	return replicas
}

func (fx environment) startFor(t *testing.T, args ...string) *replica {
	t.Helper()
	r, err := fx.StartReplica(t.Context(), args...)
	if err == nil {
		err = fixture.WaitReady(t.Context(), r)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.End(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// TestEvents posts events about changes of trust to one of three replicas, and expects that all replicas apply the changes,
// even if an event comes twice, late or not at all.
func TestEvents(t *testing.T) {
	fx := shared
	fx.Apply(t, strings.Split(mustRead(t, filepath.Join(fixture.ConfigDir, "events", "direct.yaml")), "---\n")[0])
	replicas, header := fx.fleet(t, 3), fx.Bearer(t)
	token := fx.Token(t, fixture.ServiceNamespace, eventAccount, eventAudience)
	t.Cleanup(func() {
		if err := fx.ApplyTrust(context.Background()); err != nil {
			t.Error(err)
		}
	})
	all := func(verified bool) {
		t.Helper()
		for i, r := range replicas {
			if err := deployment.Eventually(t.Context(), deployment.Patience, func() error {
				if err := fx.statusOf(t.Context(), r, header, "signed", scenariotest.PolicyName); (err == nil) != verified {
					return fmt.Errorf("verified %t, %v", err == nil, err)
				}
				return nil
			}); err != nil {
				t.Errorf("replica %d: %v; want verified %t", i, err, verified)
			}
		}
	}
	const store = `{"kind":"TrustStore","spec":{"trustStoreName":"acme","type":"ca"}}`
	post := func(token, id, change string, want int) {
		t.Helper()
		if status, _, err := replicas[0].Send(t.Context(), token, id, change, "TrustStore", store); err != nil || status != want {
			t.Errorf("event %s: %d, %v; want %d", id, status, err, want)
		}
	}
	epoch := func() string {
		return fx.Kubectl(t, "", "get", "configmap", "kyverno-notation-venafi-epoch", "-n", fixture.ServiceNamespace, "-o", "jsonpath={.data.epoch}")
	}
	for round, lost := range []bool{false, true} {
		all(true)
		before := epoch()
		fx.Kubectl(t, "", "delete", "truststore", "acme")
		if !lost {
			post(token, fmt.Sprint("deleted-", round), "delete", http.StatusAccepted)
			post(token, fmt.Sprint("deleted-", round), "delete", http.StatusAccepted)
		}
		all(false)
		if changed := epoch() != before; changed == lost {
			t.Errorf("events lost: %t, epoch bumped: %t", lost, changed)
		}
		if err := fx.ApplyTrust(t.Context()); err != nil {
			t.Fatal(err)
		}
		all(true)
		post(token, fmt.Sprint("late-", round), "delete", http.StatusAccepted) // tells of what is over
		all(true)
	}
	post(fx.Token(t, fixture.ServiceNamespace, eventAccount), "x", "delete", http.StatusUnauthorized)
	post(strings.TrimPrefix(header, "Bearer "), "x", "delete", http.StatusUnauthorized)
	post(fx.Token(t, bed.KyvernoNamespace, bed.KyvernoServiceAccount, eventAudience), "x", "delete", http.StatusForbidden)
}

func mustRead(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestAChangeDuringARequest removes the trust of a verification while it runs, and expects that its outcome admits no later
// request.
func TestAChangeDuringARequest(t *testing.T) {
	fx := shared
	if _, err := fx.Scenario.PushSigned(t.Context(), "held-up", fx.Scenario.Signer(), &signingtest.SignRequest{}); err != nil {
		t.Fatal(err)
	}
	header, r := fx.Bearer(t), fx.Replicas[0]
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	fx.Registry.SetFault(func(response http.ResponseWriter, request *http.Request, next http.Handler) {
		if strings.Contains(request.URL.Path, "/held-up/blobs/") {
			once.Do(func() { close(reached) })
			<-release
		}
		next.ServeHTTP(response, request)
	})
	t.Cleanup(func() {
		fx.Registry.SetFault(nil)
		if err := fx.ApplyTrust(context.Background()); err != nil {
			t.Error(err)
		}
	})
	inFlight := make(chan error, 1)
	go func() { inFlight <- fx.statusOf(t.Context(), r, header, "held-up", scenariotest.PolicyName) }()
	<-reached
	fx.Kubectl(t, "", "delete", "truststore", "acme")
	if err := deployment.Eventually(t.Context(), deployment.Patience, func() error {
		if fx.statusOf(t.Context(), r, header, "signed", scenariotest.PolicyName) == nil {
			return errors.New("still admitted")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	close(release)
	if err := <-inFlight; err != nil && !strings.Contains(err.Error(), "406") {
		t.Errorf("the request in flight: %v", err)
	}
	for range 3 {
		if err := fx.statusOf(t.Context(), r, header, "held-up", scenariotest.PolicyName); err == nil || !strings.Contains(err.Error(), `trust store "ca:acme" does not exist`) {
			t.Errorf("after the change: %v", err)
		}
	}
}

// balancer is one address for several replicas, like a Service: new connections go to ready replicas.
type balancer struct {
	listener net.Listener
	backends func() []string // addresses of ready replicas
	next     atomic.Int64
}

func newBalancer(t *testing.T, backends func() []string) *balancer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{listener: listener, backends: backends}
	t.Cleanup(func() { _ = listener.Close() })
	go b.accept()
	return b
}

func (b *balancer) accept() {
	for {
		connection, err := b.listener.Accept()
		if err != nil {
			return
		}
		go b.connect(connection)
	}
}

func (b *balancer) connect(from net.Conn) {
	defer from.Close()
	ready := b.backends()
	if len(ready) == 0 {
		return
	}
	to, err := net.Dial("tcp", ready[int(b.next.Add(1))%len(ready)])
	if err != nil {
		return
	}
	defer to.Close()
	go func() {
		_, _ = io.Copy(to, from)
		_ = to.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(from, to)
}

// endpoints is the list of the ready replicas, as the endpoint controller would keep it: a little late.
type endpoints struct {
	mu       sync.Mutex
	replicas []*replica
	ready    []string
}

func (e *endpoints) set(replicas []*replica) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.replicas = replicas
}

func (e *endpoints) list() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ready
}

// probe asks every replica whether it is ready, again and again, until ctx ends.
func (e *endpoints) probe(ctx context.Context) {
	for ; ctx.Err() == nil; time.Sleep(200 * time.Millisecond) {
		e.mu.Lock()
		replicas := e.replicas
		e.mu.Unlock()
		var ready []string
		for _, r := range replicas {
			if text, err := r.Get(ctx, "/health/readiness"); err == nil && strings.HasPrefix(text, "ready") {
				ready = append(ready, strings.TrimPrefix(r.URL, "http://"))
			}
		}
		e.mu.Lock()
		e.ready = ready
		e.mu.Unlock()
	}
}

// TestRollingRestart replaces three replicas one after the other under load, and no call fails.
func TestRollingRestart(t *testing.T) {
	fx := shared
	replicas, header := fx.fleet(t, 3, "--drainDelay", "5s"), fx.Bearer(t)
	e := &endpoints{}
	e.set(replicas)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go e.probe(ctx)
	if err := deployment.Eventually(ctx, deployment.Patience, func() error {
		if len(e.list()) != 3 {
			return errors.New("not all replicas are ready")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	address := &replica{URL: "http://" + newBalancer(t, e.list).listener.Addr().String()}
	var calls, failed atomic.Int64
	var callers sync.WaitGroup
	loading, end := context.WithCancel(ctx)
	for i := range 8 {
		callers.Go(func() {
			for loading.Err() == nil {
				image := []string{"signed", "plugin-signed"}[i%2]
				if err := fx.statusOf(ctx, address, header, image, scenariotest.PolicyName); err != nil {
					failed.Add(1)
					t.Errorf("call %d: %v", calls.Load(), err)
				}
				calls.Add(1)
				http.DefaultClient.CloseIdleConnections() // Kyverno opens a connection per call
			}
		})
	}
	for i := range replicas {
		fresh := fx.startFor(t, "--drainDelay", "5s")
		old := replicas[i]
		replicas = append(append(append([]*replica{}, replicas[:i]...), fresh), replicas[i+1:]...)
		e.set(append([]*replica{old}, replicas...))
		if err := old.End(); err != nil {
			t.Error(err)
		}
		e.set(replicas)
	}
	end()
	callers.Wait()
	t.Logf("%d calls, %d failed", calls.Load(), failed.Load())
	if calls.Load() < 50 {
		t.Errorf("only %d calls were made", calls.Load())
	}
}
