package kube

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
)

// TestRenewSeesWhatABrokenWatchDoesNot.
func TestRenewSeesWhatABrokenWatchDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, pem := kubetest.Start(t), root(t)
		api.Put(kubetest.StoresPath, "s", kubetest.StoreJSON("acme", pem))
		trust := startTrust(t, api, &kubetest.Log{})
		kubetest.Within(t, time.Second, "loaded", loaded(trust))
		api.MuteWatches()
		api.Remove(kubetest.StoresPath + "/" + "s")
		trust.Renew()
		trust.Renew()
		kubetest.Within(t, time.Second, "store gone", func() bool { _, ok := trust.store("acme"); return !ok })
		if !trust.Connected() {
			t.Error("the old watches' end is taken for an outage")
		}
	})
}

// TestRenewDoesNotListAnOldVersion from an API server whose cache lags behind: what was deleted does not come back.
func TestRenewDoesNotListAnOldVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, pem := kubetest.Start(t), root(t)
		api.Put(kubetest.StoresPath, "s", kubetest.StoreJSON("acme", pem))
		trust := startTrust(t, api, &kubetest.Log{})
		kubetest.Within(t, time.Second, "loaded", loaded(trust))
		api.FallBehind(kubetest.StoresPath)
		api.MuteWatches()
		api.Remove(kubetest.StoresPath + "/" + "s")
		trust.Renew()
		kubetest.Within(t, time.Second, "store gone", func() bool { _, ok := trust.store("acme"); return !ok })
	})
}

// TestEpoch notifies every replica once.
func TestEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := kubetest.Start(t)
		api.Put(kubetest.ConfigMapsPath, "epoch", `{"data":{"epoch":"old"}}`)
		var notified [2]atomic.Int32
		var epochs [2]*Epoch
		for i := range epochs {
			epochs[i] = NewEpoch(api.Client(t), "ours", "epoch", (&kubetest.Log{}).Logger(), func() { notified[i].Add(1) })
			kubetest.Run(t, epochs[i].Watch)
			kubetest.Within(t, time.Second, "listed", func() bool { return epochs[i].current.Answered(epochs[i].health) })
		}
		for range 2 {
			if err := epochs[0].Bump(t.Context(), "new"); err != nil {
				t.Fatal(err)
			}
		}
		for i := range epochs {
			kubetest.Within(t, time.Second, "notified", func() bool { return notified[i].Load() == 1 })
		}
		if err := epochs[1].Bump(t.Context(), "newer"); err != nil {
			t.Fatal(err)
		}
		for i := range epochs {
			kubetest.Within(t, time.Second, "notified again", func() bool { return notified[i].Load() == 2 })
		}
	})
}

func TestEpochWithoutItsConfigMap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := kubetest.Start(t)
		epoch := NewEpoch(api.Client(t), "ours", "epoch", (&kubetest.Log{}).Logger(), func() {})
		if err := epoch.Bump(t.Context(), "new"); err == nil || !strings.Contains(err.Error(), "configmaps ours/epoch") {
			t.Errorf("error %v", err)
		}
	})
}
