package certmanager

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/shell/issuer"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
)

const (
	copiesPath = "/api/v1/namespaces/kyverno/configmaps"
	copyPath   = copiesPath + "/" + BundleConfigMap
	emptyCopy  = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"` + BundleConfigMap + `","namespace":"kyverno"}}`
)

// copying runs a manager and its copies in the namespace kyverno.
func copying(t *testing.T, api cluster, policy certificates.Policy) *kubetest.Log {
	t.Helper()
	log := &kubetest.Log{}
	manager := NewCertificates(api.Client(t), policy, others(), log.Logger())
	kubetest.Run(t, manager.Run)
	kubetest.Run(t, NewCopies(manager, []string{"kyverno"}, "pod-1").Run)
	kubetest.Within(t, 5*time.Second, "certificates", func() bool { return api.verified("svc.ours.svc") == nil && api.exists(callerPath) })
	return log
}

// TestCopiesDoNotKeepANewInstallationWaiting expects the copy as soon as there is a CA.
func TestCopiesDoNotKeepANewInstallationWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := start(t)
		api.Put(copiesPath, BundleConfigMap, emptyCopy)
		began := time.Now()
		copying(t, api, longLived())
		kubetest.Within(t, copyEvery, "the copy", func() bool { return api.stored(copyPath, "ca.crt") != "" })
		if waited := time.Since(began); waited > 2*time.Second {
			t.Errorf("it took %s", waited)
		}
	})
}

func TestCopiesFollowTheBundle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := start(t)
		log := copying(t, api, longLived())
		time.Sleep(time.Minute)
		if api.exists(copyPath) {
			t.Error("a ConfigMap was made that nobody wanted")
		}
		if n := strings.Count(log.String(), "CA bundle is not copied"); n != 1 {
			t.Errorf("%d lines say so", n)
		}

		same := func() bool { return api.stored(copyPath, "ca.crt") == api.stored(bundlePath, "ca.crt") }
		api.Put(copiesPath, BundleConfigMap, emptyCopy)
		kubetest.Within(t, copyEvery, "the copy", same)
		api.Change(t, copyPath, func(object, metadata map[string]any) {
			metadata["labels"] = map[string]any{"team": "platform"}
			object["data"] = map[string]any{"ca.crt": "garbage", "other": "kept"}
		})
		kubetest.Within(t, copyEvery, "the copy", same)
		if api.stored(copyPath, "other") != "kept" || api.label(copyPath, "team") != "platform" {
			t.Errorf("it is now %v", api.Object(copyPath))
		}

		writes := api.Writes()
		time.Sleep(time.Hour)
		if now := api.Writes(); now != writes {
			t.Errorf("%d writes in an hour without a change", now-writes)
		}
		if n := strings.Count(log.String(), "CA bundle is copied"); n != 1 {
			t.Errorf("%d lines say so", n)
		}
	})
}

// TestCopiesLeaveOutAddedCAs writes a CA that may certify every name to the bundle.
func TestCopiesLeaveOutAddedCAs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := start(t)
		api.Put(copiesPath, BundleConfigMap, emptyCopy)
		copying(t, api, longLived())
		ours := api.stored(bundlePath, "ca.crt")
		added := freeAuthority(t)
		api.Change(t, bundlePath, func(object, _ map[string]any) { object["data"] = map[string]any{"ca.crt": ours + added} })
		time.Sleep(time.Minute)
		if !strings.Contains(api.stored(bundlePath, "ca.crt"), added) {
			t.Fatal("the bundle lacks it, so that this tests nothing")
		}
		if api.stored(copyPath, "ca.crt") != ours {
			t.Error("the copy has it")
		}
	})
}

// freeAuthority is the PEM of a CA under our name, without constraints.
func freeAuthority(t *testing.T) string {
	t.Helper()
	pair, err := issuer.Authority(certificates.Policy{CADuration: 8760 * time.Hour}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	text, _, err := pair.PEM()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestCopiesNeedNoRights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, log := start(t), &kubetest.Log{}
		manager := NewCertificates(api.Client(t), longLived(), others(), log.Logger())
		if _, err := manager.reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
		api.RefuseObject(copyPath, http.StatusForbidden)
		copies := NewCopies(manager, []string{"kyverno"}, "pod-1")
		for range 3 {
			copies.keep(t.Context())
		}
		if text := log.String(); strings.Count(text, "CA bundle is not copied") != 1 || strings.Contains(text, "level=ERROR") {
			t.Errorf("the log is\n%s", text)
		}
		api.RefuseObject(copyPath, http.StatusInternalServerError)
		copies.keep(t.Context())
		if !strings.Contains(log.String(), "CA bundle cannot be copied") {
			t.Errorf("the log is\n%s", log.String())
		}
	})
}

// TestChangesOfTheCAAreAnnounced lives through a change of the CA, and expects an event at each notice, about copies that
// there are.
func TestChangesOfTheCAAreAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := start(t)
		manager := NewCertificates(api.Client(t), longLived(), others(), (&kubetest.Log{}).Logger())
		copies := NewCopies(manager, []string{"kyverno"}, "pod-1")
		const day = 24 * time.Hour
		pass := func(long time.Duration) {
			for end := time.Now().Add(long); ; time.Sleep(min(day/2, time.Until(end))) {
				if _, err := manager.reconcile(t.Context()); err != nil {
					t.Fatal(err)
				}
				if copies.keep(t.Context()); !time.Now().Before(end) {
					return
				}
			}
		}
		pass(190 * day) // the next CA was published after 184
		if events := api.Names(kubetest.EventsPath); len(events) != 0 {
			t.Errorf("events without a copy: %v", events)
		}
		api.Put(copiesPath, BundleConfigMap, emptyCopy)
		var seen []string
		for _, test := range []struct {
			pass   time.Duration
			events int
		}{{time.Hour, 1}, {80 * day, 1}, {10 * day, 2}, {18 * day, 3}, {6 * day, 4}, {20 * day, 4}} {
			pass(test.pass)
			if seen = api.Names(kubetest.EventsPath); len(seen) != test.events {
				t.Errorf("%d events, want %d: %v", len(seen), test.events, seen)
			}
		}
		event := api.Object(kubetest.EventsPath + "/" + seen[slices.IndexFunc(seen, func(name string) bool { return strings.HasSuffix(name, ".published") })])
		regarding, _ := event["regarding"].(map[string]any)
		note, _ := event["note"].(string)
		if regarding["kind"] != "Namespace" || regarding["name"] != "kyverno" || event["reason"] != "CAChange" ||
			!strings.Contains(note, "kubectl -n kyverno rollout restart deployment") || !strings.Contains(note, "2000-10-31") || !strings.Contains(note, "2000-07-03") {
			t.Errorf("event %v", event)
		}
		if text := api.stored(copyPath, "ca.crt"); !strings.Contains(text, api.stored(authorityPath, "tls.crt")) {
			t.Error("the copy lacks the CA that signs")
		}
	})
}
