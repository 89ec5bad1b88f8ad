package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	policiesPath = "/apis/notation.nirmata.io/v1alpha1/trustpolicies"
	storesPath   = "/apis/notation.nirmata.io/v1alpha1/truststores"
)

// record is a log that tests read.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func (r *record) logger() *slog.Logger { return slog.New(slog.NewTextHandler(r, nil)) }

// running runs a watch until the test ends.
func running(t *testing.T, watch func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { watch(ctx) })
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
}

// eventually waits for a condition that must hold within a second.
func eventually(t *testing.T, what string, holds func() bool) { within(t, time.Second, what, holds) }

func within(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("within %s it did not come to this: %s", limit, what)
		}
	}
}

func policyJSON(name, store string) string {
	return fmt.Sprintf(`{"spec":{"version":"1.0","trustPolicyName":%q,"trustPolicies":[{"name":"all","registryScopes":["*"],
		"signatureVerification":{"level":"strict"},"trustStores":["ca:%s"],"trustedIdentities":["*"]}]}}`, name, store)
}

func storeJSON(t *testing.T, name string, pem []byte) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{"spec": map[string]any{"trustStoreName": name, "type": "ca", "caBundle": string(pem)}})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func root(t *testing.T) []byte {
	t.Helper()
	ca, err := signingtest.NewCA(signingtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return ca.PEM()
}

func (t *Trust) policy(name string) trust.Policy {
	snapshot, _ := t.Snapshot()
	return snapshot.Policies[name]
}

func (t *Trust) store(name string) (trust.Store, bool) {
	snapshot, _ := t.Snapshot()
	store, ok := snapshot.Stores[trust.StoreRef{Type: "ca", Name: name}]
	return store, ok
}

func startTrust(t *testing.T, api *apiServer, log *record) *Trust {
	t.Helper()
	trust := NewTrust(api.client(t), log.logger(), func() {})
	running(t, trust.Watch)
	return trust
}

func loaded(trust *Trust) func() bool {
	return func() bool { _, ok := trust.Snapshot(); return ok }
}

func TestTrustFollowsTheResources(t *testing.T) {
	api, pem := startAPI(t), root(t)
	api.put(policiesPath, "a", policyJSON("tp-a", "acme"))
	api.put(storesPath, "s", storeJSON(t, "acme", pem))
	trust := startTrust(t, api, &record{})
	eventually(t, "loaded", loaded(trust))
	if p := trust.policy("tp-a"); p.Problem != "" || len(p.Statements) != 1 || p.Statements[0].TrustStores[0] != "ca:acme" {
		t.Errorf("policy: %+v", p)
	}
	if s, _ := trust.store("acme"); s.Problem != "" || len(s.Certificates) != 1 {
		t.Errorf("store: %+v", s)
	}
	eventually(t, "connected", trust.Connected)

	api.put(storesPath, "s", storeJSON(t, "renamed", pem))
	eventually(t, "renamed", func() bool {
		_, old := trust.store("acme")
		_, renamed := trust.store("renamed")
		return !old && renamed
	})
	api.put(policiesPath, "b", policyJSON("tp-a", "renamed"))
	eventually(t, "two claim one name", func() bool { return strings.Contains(trust.policy("tp-a").Problem, "a, b all claim") })
	api.remove(policiesPath, "a")
	eventually(t, "one claims it", func() bool { return trust.policy("tp-a").Problem == "" })
	api.remove(storesPath, "s")
	eventually(t, "store gone", func() bool { _, ok := trust.store("renamed"); return !ok })
}

func TestTrustWithoutResourcesIsLoaded(t *testing.T) {
	trust := startTrust(t, startAPI(t), &record{})
	eventually(t, "loaded", loaded(trust))
}

func TestAResourceThatCannotBeReadBreaksItselfOnly(t *testing.T) {
	api, log := startAPI(t), &record{}
	api.put(policiesPath, "good", policyJSON("good", "acme"))
	api.put(policiesPath, "numbers", `{"spec":{"version":1.0,"trustPolicyName":"numbers","trustPolicies":[]}}`)
	api.put(policiesPath, "newer", strings.Replace(policyJSON("newer", "acme"), `"spec":{`, `"spec":{"unknownYet":{"a":1},`, 1))
	api.put(policiesPath, "empty", `{}`)
	api.put(policiesPath, "text", `{"spec":"text","status":7}`)
	api.put(storesPath, "list", `{"spec":{"trustStoreName":"list","type":"ca","caBundle":["x"]}}`)
	trust := startTrust(t, api, log)
	eventually(t, "loaded", loaded(trust))
	for name, usable := range map[string]bool{"good": true, "numbers": false, "newer": true} {
		if p := trust.policy(name); p.Name != name || (p.Problem == "") != usable {
			t.Errorf("policy %s: %+v", name, p)
		}
	}
	if s, known := trust.store("list"); !known || s.Problem == "" {
		t.Errorf("store: %+v", s)
	}
	api.put(policiesPath, "another", policyJSON("another", "acme"))
	eventually(t, "another", func() bool { return trust.policy("another").Name != "" })
	if n := strings.Count(log.String(), "resource=numbers"); n != 1 {
		t.Errorf("the broken policy is logged %d times; want once\n%s", n, log)
	}
}

func TestTrustOutlivesTheAPIServer(t *testing.T) {
	api, log := startAPI(t), &record{}
	api.put(policiesPath, "a", policyJSON("tp-a", "acme"))
	trust := startTrust(t, api, log)
	eventually(t, "loaded", loaded(trust))
	api.stop()
	within(t, 3*time.Second, "not connected", func() bool { return !trust.Connected() })
	time.Sleep(500 * time.Millisecond) // some tries
	if trust.policy("tp-a").Name == "" {
		t.Error("the trust is gone")
	}
	api.put(policiesPath, "b", policyJSON("tp-b", "acme"))
	api.remove(policiesPath, "a")
	api.start(t)
	within(t, 4*time.Second, "what was missed", func() bool { return trust.policy("tp-b").Name != "" && trust.policy("tp-a").Name == "" })
	within(t, 4*time.Second, "connected", trust.Connected)
	if lost, back := strings.Count(log.String(), "cannot be watched"), strings.Count(log.String(), "watched again"); lost != 1 || back != 1 {
		t.Errorf("%d lines about the loss, %d about the return; want one each\n%s", lost, back, log)
	}
}

func TestTrustIsNotLoadedBeforeBothListsAreThere(t *testing.T) {
	api, log := startAPI(t), &record{}
	api.refuses(http.StatusForbidden)
	trust := startTrust(t, api, log)
	eventually(t, "a line", func() bool { return strings.Contains(log.String(), "cannot be watched") })
	if _, ok := trust.Snapshot(); ok || trust.Connected() {
		t.Error("loaded or connected without an answer")
	}
	api.refuses(0)
	within(t, 4*time.Second, "loaded", loaded(trust))
}

func TestManyResourcesLoadSoon(t *testing.T) {
	api := startAPI(t)
	for i := range 200 {
		name := fmt.Sprintf("n%d", i)
		api.put(policiesPath, name, policyJSON(name, name))
		if i < 8 { // keys take their time to make
			api.put(storesPath, name, storeJSON(t, name, root(t)))
			continue
		}
		api.put(storesPath, name, strings.Replace(storeText(api, fmt.Sprintf("n%d", i%8)), fmt.Sprintf(`"n%d"`, i%8), `"`+name+`"`, 1))
	}
	before := heap()
	start := time.Now()
	log := &record{}
	watched := startTrust(t, api, log)
	within(t, 2*time.Second, "loaded", loaded(watched))
	took := time.Since(start)
	if p, s := watched.policy("n199"), func() trust.Store { s, _ := watched.store("n199"); return s }(); p.Problem != "" || s.Problem != "" || len(s.Certificates) != 1 {
		t.Errorf("%+v %+v", p, s)
	}
	more := heap() - before
	t.Logf("200 policies and 200 stores: %s, %d KiB of heap", took, more>>10)
	if more > 20<<20 {
		t.Errorf("they cost %d bytes", more)
	}
	for i := range 200 { // a burst of changes
		name := fmt.Sprintf("n%d", i)
		api.put(policiesPath, name, policyJSON(name, "other"))
	}
	within(t, 5*time.Second, "all changed", func() bool { return watched.policy("n199").Statements[0].TrustStores[0] == "ca:other" })
	if n := strings.Count(log.String(), "trust loaded"); n > 20 {
		t.Errorf("compiled %d times", n)
	}
}

func storeText(api *apiServer, name string) string {
	text, _ := json.Marshal(map[string]any{"spec": api.objects[storesPath+"/"+name]["spec"]})
	return string(text)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func BenchmarkPublish(b *testing.B) {
	t := NewTrust(&Client{}, slog.New(slog.DiscardHandler), func() {})
	ca, err := signingtest.NewCA(signingtest.Options{})
	if err != nil {
		b.Fatal(err)
	}
	bundle, _ := json.Marshal(string(ca.PEM()))
	var policies, stores []any
	for i := range 200 {
		name := fmt.Sprintf("n%d", i)
		policies = append(policies, object(b, name, policyJSON(name, name)))
		stores = append(stores, object(b, name, fmt.Sprintf(`{"spec":{"trustStoreName":%q,"type":"ca","caBundle":%s}}`, name, bundle)))
	}
	if err := errors.Join(t.policies.Replace(policies, ""), t.stores.Replace(stores, "")); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		t.publish()
	}
}

func object(b *testing.B, name, text string) *unstructured.Unstructured {
	b.Helper()
	resource := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(text), &resource.Object); err != nil {
		b.Fatal(err)
	}
	resource.SetName(name)
	return resource
}
