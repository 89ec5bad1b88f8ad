package kube

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// watchesDie lets changes go unnoticed by the watches that are open.
func (a *apiServer) watchesDie() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dead = true
}

// fallsBehind lets lists of a collection that ask for any version tell what there is now, whatever comes.
func (a *apiServer) fallsBehind(collection string) {
	now := httptest.NewRecorder()
	a.list(now, collection, "")
	a.mu.Lock()
	defer a.mu.Unlock()
	a.behind[collection] = now.Body.Bytes()
}

// lags answers a list from a cache that is behind, where there is one.
func (a *apiServer) lags(w http.ResponseWriter, r *http.Request) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	behind, ok := a.behind[r.URL.Path]
	if !ok || r.URL.Query().Get("resourceVersion") != "0" {
		return false
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(behind)
	return true
}

// TestRenewSeesWhatADeadWatchDoesNot lists anew on demand.
func TestRenewSeesWhatADeadWatchDoesNot(t *testing.T) {
	api, pem := startAPI(t), root(t)
	api.put(storesPath, "s", storeJSON(t, "acme", pem))
	trust := startTrust(t, api, &record{})
	eventually(t, "loaded", loaded(trust))
	api.watchesDie()
	api.remove(storesPath, "s")
	trust.Renew()
	trust.Renew()
	eventually(t, "store gone", func() bool { _, ok := trust.store("acme"); return !ok })
	if !trust.Connected() {
		t.Error("the old watches' end is taken for an outage")
	}
}

// TestRenewIsNotToldThePast by an API server whose cache is behind: what was taken away does not come back.
func TestRenewIsNotToldThePast(t *testing.T) {
	api, pem := startAPI(t), root(t)
	api.put(storesPath, "s", storeJSON(t, "acme", pem))
	trust := startTrust(t, api, &record{})
	eventually(t, "loaded", loaded(trust))
	api.fallsBehind(storesPath)
	api.watchesDie()
	api.remove(storesPath, "s")
	trust.Renew()
	eventually(t, "store gone", func() bool { _, ok := trust.store("acme"); return !ok })
}

// TestEpoch tells every replica, and once only.
func TestEpoch(t *testing.T) {
	api := startAPI(t)
	api.put(configMapsPath, "epoch", `{"data":{"epoch":"old"}}`)
	var told [2]atomic.Int32
	var epochs [2]*Epoch
	for i := range epochs {
		epochs[i] = NewEpoch(api.client(t), "ours", "epoch", (&record{}).logger(), func() { told[i].Add(1) })
		running(t, epochs[i].Watch)
		eventually(t, "listed", func() bool { return epochs[i].current.answered(epochs[i].link) })
	}
	for range 2 {
		if err := epochs[0].Bump(t.Context(), "new"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range epochs {
		eventually(t, "told", func() bool { return told[i].Load() == 1 })
	}
	if err := epochs[1].Bump(t.Context(), "newer"); err != nil {
		t.Fatal(err)
	}
	for i := range epochs {
		eventually(t, "told again", func() bool { return told[i].Load() == 2 })
	}
}

func TestEpochWithoutItsConfigMap(t *testing.T) {
	api := startAPI(t)
	epoch := NewEpoch(api.client(t), "ours", "epoch", (&record{}).logger(), func() {})
	if err := epoch.Bump(t.Context(), "new"); err == nil || !strings.Contains(err.Error(), "configmaps ours/epoch") {
		t.Errorf("error %v", err)
	}
}
