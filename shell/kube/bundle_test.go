package kube

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
)

// bundlesPath is the collection of ConfigMaps that tests name in caBundleFrom.
const bundlesPath = "/api/v1/namespaces/security/configmaps"

// naming is a TrustStore of a name whose certificates are a ConfigMap's.
func naming(store, configMap string) string {
	return fmt.Sprintf(`{"spec":{"trustStoreName":%q,"type":"ca","caBundleFrom":{"configMap":{"namespace":"security","name":%q,"key":"ca.crt"}}}}`, store, configMap)
}

func configMapOf(pem ...[]byte) string {
	var all []byte
	for _, one := range pem {
		all = append(all, one...)
	}
	text, _ := json.Marshal(map[string]any{"data": map[string]string{"ca.crt": string(all)}})
	return string(text)
}

// stands tells whether a store has so many certificates, or the problem that is given instead.
func (t *Trust) stands(name string, certificates int, problem string) func() bool {
	return func() bool {
		store, ok := t.store(name)
		return ok && len(store.Certificates) == certificates && (store.Problem == "") == (problem == "") && strings.Contains(store.Problem, problem)
	}
}

func TestTrustFollowsTheBundlesThatStoresName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, one, two := kubetest.Start(t), root(t), root(t)
		api.Put(kubetest.PoliciesPath, "a", kubetest.PolicyJSON("tp-a", "acme"))
		api.Put(kubetest.StoresPath, "s", naming("acme", "acme"))
		api.Put(kubetest.StoresPath, "o", kubetest.StoreJSON("other", one))
		api.Put(bundlesPath, "acme", configMapOf(one))
		trust := startTrust(t, api, &kubetest.Log{})
		kubetest.Within(t, time.Second, "loaded", loaded(trust))
		if !trust.stands("acme", 1, "")() { // in the first snapshot already
			store, _ := trust.store("acme")
			t.Fatalf("the store is %+v", store)
		}
		revision := func() string {
			snapshot, _ := trust.Snapshot()
			return snapshot.Revision(snapshot.Policies["tp-a"], 0)
		}
		before := revision()
		for _, change := range []struct {
			what         string
			do           func()
			certificates int
			problem      string
		}{
			{"rotated, old and new", func() { api.Put(bundlesPath, "acme", configMapOf(one, two)) }, 2, ""},
			{"the key is gone", func() { api.Put(bundlesPath, "acme", `{"data":{"root.crt":"x"}}`) }, 0, `ConfigMap security/acme has no key "ca.crt"`},
			{"no certificate", func() { api.Put(bundlesPath, "acme", configMapOf([]byte("none"))) }, 0, "is not PEM"},
			{"deleted", func() { api.Remove(bundlesPath + "/acme") }, 0, "ConfigMap security/acme does not exist"},
			{"there again", func() { api.Put(bundlesPath, "acme", configMapOf(two)) }, 1, ""},
			{"another is named that does not exist", func() { api.Put(kubetest.StoresPath, "s", naming("acme", "next")) }, 0, "ConfigMap security/next does not exist"},
			{"it is made", func() { api.Put(bundlesPath, "next", configMapOf(one, two)) }, 2, ""},
		} {
			change.do()
			kubetest.Within(t, time.Second, change.what, trust.stands("acme", change.certificates, change.problem))
			if now := revision(); now == before {
				t.Errorf("%s: the revision is that before", change.what)
			}
			before = revision()
			if !trust.stands("other", 1, "")() {
				t.Errorf("%s: the other store is affected", change.what)
			}
		}
		asked := len(api.Requests())
		api.Put(bundlesPath, "acme", configMapOf(one)) // which nobody names any longer
		time.Sleep(time.Minute)
		if revision() != before || len(api.Requests()) > asked+20 {
			t.Errorf("a bundle that is not named is followed, or much is asked: %q", api.Requests()[asked:])
		}
	})
}

func TestABundleIsAskedForByItsNameOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := kubetest.Start(t)
		api.Put(kubetest.StoresPath, "s", naming("acme", "acme"))
		api.Put(bundlesPath, "tenants-own", configMapOf(root(t)))
		trust := startTrust(t, api, &kubetest.Log{})
		kubetest.Within(t, 5*time.Second, "loaded", loaded(trust))
		if !trust.stands("acme", 0, "does not exist")() {
			t.Error("another object counts")
		}
		asked := 0
		for _, request := range api.Requests() {
			if path, selector, _ := strings.Cut(request, "?"); strings.HasPrefix(path, "/api/v1/") {
				asked++
				if path != bundlesPath || selector != "metadata.name=acme" {
					t.Errorf("asked for %s", request)
				}
			}
		}
		if asked == 0 {
			t.Error("nothing was asked for")
		}
	})
}

func TestARefusedBundleIsItsStoresProblem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, pem := kubetest.Start(t), root(t)
		api.Put(kubetest.StoresPath, "s", naming("acme", "acme"))
		api.Put(kubetest.StoresPath, "o", kubetest.StoreJSON("other", pem))
		api.Put(bundlesPath, "acme", configMapOf(pem))
		api.RefuseObject(bundlesPath, http.StatusForbidden)
		log := &kubetest.Log{}
		trust := startTrust(t, api, log)
		kubetest.Within(t, 5*time.Second, "loaded", loaded(trust))
		kubetest.Within(t, time.Second, "refused", trust.stands("acme", 0, "ConfigMap security/acme may not be read by this service, which needs list and watch on it"))
		if !trust.stands("other", 1, "")() || !trust.Connected() {
			t.Errorf("another store is affected, or the API server counts as away: %t", trust.Connected())
		}
		api.RefuseObject("", 0)
		kubetest.Within(t, 4*time.Second, "granted", trust.stands("acme", 1, ""))
		api.RefuseObject(bundlesPath, http.StatusForbidden)
		trust.Renew()
		kubetest.Within(t, 4*time.Second, "taken away", trust.stands("acme", 0, "may not be read"))
		if strings.Contains(log.String(), "what was known last stays") {
			t.Errorf("a refusal is logged as an outage:\n%s", log)
		}
	})
}

func TestABundleOutlivesTheAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, one, two := kubetest.Start(t), root(t), root(t)
		api.Put(kubetest.StoresPath, "s", naming("acme", "acme"))
		api.Put(bundlesPath, "acme", configMapOf(one))
		trust := startTrust(t, api, &kubetest.Log{})
		kubetest.Within(t, time.Second, "loaded", loaded(trust))
		api.Stop()
		time.Sleep(time.Minute)
		if !trust.stands("acme", 1, "")() || trust.Connected() {
			t.Error("the bundle is gone, or the API server counts as there")
		}
		api.Put(bundlesPath, "acme", configMapOf(one, two))
		api.Restart()
		kubetest.Within(t, 5*time.Second, "what was missed", trust.stands("acme", 2, ""))
		kubetest.Within(t, 5*time.Second, "connected", trust.Connected)
	})
}

// TestRenewReadsBundles: over a connection that broke unnoticed a change of a bundle is seen when the resources are listed anew.
func TestRenewReadsBundles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, one, two := kubetest.Start(t), root(t), root(t)
		api.Put(kubetest.StoresPath, "s", naming("acme", "acme"))
		api.Put(bundlesPath, "acme", configMapOf(one))
		trust := startTrust(t, api, &kubetest.Log{})
		kubetest.Within(t, time.Second, "loaded", loaded(trust))
		time.Sleep(time.Second)
		api.MuteWatches()
		api.Put(bundlesPath, "acme", configMapOf(one, two))
		time.Sleep(time.Second)
		if !trust.stands("acme", 1, "")() {
			t.Error("a watch that sees nothing saw it")
		}
		trust.Renew()
		kubetest.Within(t, 2*time.Second, "renewed", trust.stands("acme", 2, ""))
	})
}

// TestABundleWithoutAnAnswerHoldsNothingUp: the other stores are known soon, and a store's trust is taken away meanwhile.
func TestABundleWithoutAnAnswerHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, pem := kubetest.Start(t), root(t)
		api.Put(kubetest.StoresPath, "s", naming("acme", "acme"))
		api.Put(kubetest.StoresPath, "o", kubetest.StoreJSON("other", pem))
		api.RefuseObject(bundlesPath, http.StatusInternalServerError)
		trust := startTrust(t, api, &kubetest.Log{})
		kubetest.Within(t, 5*time.Second, "loaded", loaded(trust))
		if !trust.stands("other", 1, "")() || !trust.stands("acme", 0, "could not be read")() {
			t.Error("the stores are not as they should be")
		}
		api.Remove(kubetest.StoresPath + "/o")
		kubetest.Within(t, time.Second, "taken away", func() bool { _, ok := trust.store("other"); return !ok })
	})
}

func TestMoreBundlesThanAreReadAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, pem := kubetest.Start(t), root(t)
		for i := range 203 {
			name := fmt.Sprintf("b%03d", i)
			api.Put(kubetest.StoresPath, name, naming(name, name))
			api.Put(bundlesPath, name, configMapOf(pem))
		}
		trust := startTrust(t, api, &kubetest.Log{})
		kubetest.Within(t, 10*time.Second, "loaded", loaded(trust))
		kubetest.Within(t, 10*time.Second, "the last of those that are read", trust.stands("b199", 1, ""))
		if !trust.stands("b200", 0, "more than 200 bundles")() {
			store, _ := trust.store("b200")
			t.Errorf("one more is %+v", store)
		}
	})
}
