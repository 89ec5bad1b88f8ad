package kube

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

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

func startTrust(t *testing.T, api *kubetest.Server, log *kubetest.Log) *Trust {
	t.Helper()
	trust := NewTrust(api.Client(t), log.Logger(), func() {})
	kubetest.Run(t, trust.Watch)
	return trust
}

func loaded(trust *Trust) func() bool {
	return func() bool { _, ok := trust.Snapshot(); return ok }
}

func TestTrustFollowsTheResources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, pem := kubetest.Start(t), root(t)
		api.Put(kubetest.PoliciesPath, "a", kubetest.PolicyJSON("tp-a", "acme"))
		api.Put(kubetest.StoresPath, "s", kubetest.StoreJSON("acme", pem))
		trust := startTrust(t, api, &kubetest.Log{})
		kubetest.Within(t, time.Second, "loaded", loaded(trust))
		if p := trust.policy("tp-a"); p.Problem != "" || len(p.Statements) != 1 || p.Statements[0].TrustStores[0] != "ca:acme" {
			t.Errorf("policy: %+v", p)
		}
		if s, _ := trust.store("acme"); s.Problem != "" || len(s.Certificates) != 1 {
			t.Errorf("store: %+v", s)
		}
		kubetest.Within(t, time.Second, "connected", trust.Connected)

		api.Put(kubetest.StoresPath, "s", kubetest.StoreJSON("renamed", pem))
		kubetest.Within(t, time.Second, "renamed", func() bool {
			_, old := trust.store("acme")
			_, renamed := trust.store("renamed")
			return !old && renamed
		})
		api.Put(kubetest.PoliciesPath, "b", kubetest.PolicyJSON("tp-a", "renamed"))
		kubetest.Within(t, time.Second, "two claim one name", func() bool { return strings.Contains(trust.policy("tp-a").Problem, "a, b all claim") })
		api.Remove(kubetest.PoliciesPath + "/" + "a")
		kubetest.Within(t, time.Second, "one claims it", func() bool { return trust.policy("tp-a").Problem == "" })
		api.Remove(kubetest.StoresPath + "/" + "s")
		kubetest.Within(t, time.Second, "store gone", func() bool { _, ok := trust.store("renamed"); return !ok })
	})
}

func TestTrustWithoutResourcesIsLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trust := startTrust(t, kubetest.Start(t), &kubetest.Log{})
		kubetest.Within(t, time.Second, "loaded", loaded(trust))
	})
}

func TestUnreadableResourcesBreakOnlyThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, log := kubetest.Start(t), &kubetest.Log{}
		api.Put(kubetest.PoliciesPath, "good", kubetest.PolicyJSON("good", "acme"))
		api.Put(kubetest.PoliciesPath, "numbers", `{"spec":{"version":1.0,"trustPolicyName":"numbers","trustPolicies":[]}}`)
		api.Put(kubetest.PoliciesPath, "newer", strings.Replace(kubetest.PolicyJSON("newer", "acme"), `"spec":{`, `"spec":{"unknownYet":{"a":1},`, 1))
		api.Put(kubetest.PoliciesPath, "empty", `{}`)
		api.Put(kubetest.PoliciesPath, "text", `{"spec":"text","status":7}`)
		api.Put(kubetest.StoresPath, "list", `{"spec":{"trustStoreName":"list","type":"ca","caBundle":["x"]}}`)
		trust := startTrust(t, api, log)
		kubetest.Within(t, time.Second, "loaded", loaded(trust))
		for name, usable := range map[string]bool{"good": true, "numbers": false, "newer": true} {
			if p := trust.policy(name); p.Name != name || (p.Problem == "") != usable {
				t.Errorf("policy %s: %+v", name, p)
			}
		}
		if s, known := trust.store("list"); !known || s.Problem == "" {
			t.Errorf("store: %+v", s)
		}
		api.Put(kubetest.PoliciesPath, "another", kubetest.PolicyJSON("another", "acme"))
		kubetest.Within(t, time.Second, "another", func() bool { return trust.policy("another").Name != "" })
		if n := strings.Count(log.String(), "resource=numbers"); n != 1 {
			t.Errorf("the broken policy is logged %d times; want once\n%s", n, log)
		}
	})
}

func TestTrustOutlivesTheAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, log := kubetest.Start(t), &kubetest.Log{}
		api.Put(kubetest.PoliciesPath, "a", kubetest.PolicyJSON("tp-a", "acme"))
		trust := startTrust(t, api, log)
		kubetest.Within(t, time.Second, "loaded", loaded(trust))
		api.Stop()
		kubetest.Within(t, 3*time.Second, "not connected", func() bool { return !trust.Connected() })
		time.Sleep(time.Minute) // some tries
		if trust.policy("tp-a").Name == "" {
			t.Error("the trust is gone")
		}
		api.Put(kubetest.PoliciesPath, "b", kubetest.PolicyJSON("tp-b", "acme"))
		api.Remove(kubetest.PoliciesPath + "/" + "a")
		api.Restart()
		kubetest.Within(t, 4*time.Second, "what was missed", func() bool { return trust.policy("tp-b").Name != "" && trust.policy("tp-a").Name == "" })
		kubetest.Within(t, 4*time.Second, "connected", trust.Connected)
		if lost, back := strings.Count(log.String(), "cannot be watched"), strings.Count(log.String(), "watched again"); lost != 1 || back != 1 {
			t.Errorf("%d lines about the loss, %d about the return; want one each\n%s", lost, back, log)
		}
	})
}

func TestTrustIsNotLoadedBeforeBothListsAreThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, log := kubetest.Start(t), &kubetest.Log{}
		api.Refuse(http.StatusForbidden)
		trust := startTrust(t, api, log)
		kubetest.Within(t, time.Second, "a line", func() bool { return strings.Contains(log.String(), "cannot be watched") })
		if _, ok := trust.Snapshot(); ok || trust.Connected() {
			t.Error("loaded or connected without an answer")
		}
		api.Refuse(0)
		kubetest.Within(t, 4*time.Second, "loaded", loaded(trust))
	})
}

func TestManyResourcesLoadSoon(t *testing.T) {
	api := kubetest.Start(t)
	var bundles [8][]byte // keys take their time to make
	for i := range bundles {
		bundles[i] = root(t)
	}
	for i := range 200 {
		name := fmt.Sprintf("n%d", i)
		api.Put(kubetest.PoliciesPath, name, kubetest.PolicyJSON(name, name))
		api.Put(kubetest.StoresPath, name, kubetest.StoreJSON(name, bundles[i%8]))
	}
	before := heap()
	start := time.Now()
	compiled := make(chan struct{}, 1000)
	watched := NewTrust(api.Client(t), (&kubetest.Log{}).Logger(), func() { compiled <- struct{}{} })
	kubetest.Run(t, watched.Watch)
	<-compiled
	took := time.Since(start)
	if took > 5*time.Second { // under the race detector too
		t.Errorf("loaded after %s", took)
	}
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
		api.Put(kubetest.PoliciesPath, name, kubetest.PolicyJSON(name, "other"))
	}
	times := 0
	for ; watched.policy("n199").Statements[0].TrustStores[0] != "ca:other"; times++ {
		<-compiled
	}
	if times > 20 {
		t.Errorf("compiled %d times", times)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func BenchmarkPublish(b *testing.B) {
	api := kubetest.Start(b)
	ca, err := signingtest.NewCA(signingtest.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 200 {
		name := fmt.Sprintf("n%d", i)
		api.Put(kubetest.PoliciesPath, name, kubetest.PolicyJSON(name, name))
		api.Put(kubetest.StoresPath, name, kubetest.StoreJSON(name, ca.PEM()))
	}
	published := make(chan struct{}, 1)
	t := NewTrust(api.Client(b), slog.New(slog.DiscardHandler), func() {
		select {
		case published <- struct{}{}:
		default:
		}
	})
	kubetest.Run(b, t.Watch)
	<-published
	for b.Loop() {
		t.publish()
	}
}
