package certmanager

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

const brokenPEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

func TestMain(m *testing.M) { kubetest.Main(m) }

func root(t *testing.T) []byte {
	t.Helper()
	ca, err := signingtest.NewCA(signingtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return ca.PEM()
}

// statusAt reads the status of an object as it is stored.
func statusAt(t *testing.T, api *kubetest.Server, path string) shelltrust.Status {
	t.Helper()
	var stored struct {
		Status shelltrust.Status `json:"status"`
	}
	text, err := json.Marshal(api.Object(path))
	if err == nil {
		err = json.Unmarshal(text, &stored)
	}
	if err != nil {
		t.Fatal(err)
	}
	return stored.Status
}

// shows waits for the reason of each object, by its path.
func shows(t *testing.T, api *kubetest.Server, limit time.Duration, reasons map[string]string) {
	t.Helper()
	for path, reason := range reasons {
		kubetest.Within(t, limit, path+" is "+reason, func() bool {
			ready := meta.FindStatusCondition(statusAt(t, api, path).Conditions, shelltrust.ConditionReady)
			return ready != nil && ready.Reason == reason
		})
	}
}

func TestStatusesFollowTheResources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, pem := kubetest.Start(t), root(t)
		api.Put(kubetest.StoresPath, "good", kubetest.StoreJSON("good", pem))
		api.Put(kubetest.StoresPath, "bad", kubetest.StoreJSON("bad", []byte(brokenPEM)))
		api.Put(kubetest.PoliciesPath, "good", kubetest.PolicyJSON("good", "good"))
		api.Put(kubetest.PoliciesPath, "bad", kubetest.PolicyJSON("bad", "bad"))
		kubetest.Run(t, NewStatusWriter(api.Client(t), "test", (&kubetest.Log{}).Logger()).Run)
		shows(t, api, time.Second, map[string]string{
			kubetest.StoresPath + "/good": shelltrust.ReasonValid, kubetest.StoresPath + "/bad": shelltrust.ReasonInvalid,
			kubetest.PoliciesPath + "/good": shelltrust.ReasonValid, kubetest.PoliciesPath + "/bad": shelltrust.ReasonTrustStoreMissing,
		})
		if good := statusAt(t, api, kubetest.StoresPath+"/good"); good.NotAfter == nil || good.ObservedGeneration == 0 {
			t.Errorf("the good store: %+v", good)
		}
		time.Sleep(time.Hour)
		if n := api.Writes(); n != 4 {
			t.Errorf("%d writes; want one for each resource", n)
		}

		// What is broken loses its expiry, and its policy with it.
		api.Put(kubetest.StoresPath, "good", kubetest.StoreJSON("good", []byte(brokenPEM)))
		shows(t, api, time.Second, map[string]string{kubetest.StoresPath + "/good": shelltrust.ReasonInvalid, kubetest.PoliciesPath + "/good": shelltrust.ReasonTrustStoreMissing})
		for _, path := range []string{kubetest.StoresPath, kubetest.PoliciesPath} {
			if s := statusAt(t, api, path+"/good"); s.NotAfter != nil {
				t.Errorf("%s still expires at %s", path, s.NotAfter)
			}
		}
		api.Put(kubetest.StoresPath, "bad", kubetest.StoreJSON("bad", pem))
		shows(t, api, time.Second, map[string]string{kubetest.StoresPath + "/bad": shelltrust.ReasonValid, kubetest.PoliciesPath + "/bad": shelltrust.ReasonValid})
		time.Sleep(time.Hour)
		if n := api.Writes(); n != 8 {
			t.Errorf("%d writes; want two for each resource", n)
		}
	})
}

func TestRefusedStatusesDoNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, log, pem := kubetest.Start(t), &kubetest.Log{}, root(t)
		others := map[string]string{}
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			api.Put(kubetest.StoresPath, name, kubetest.StoreJSON(name, pem))
			others[kubetest.StoresPath+"/"+name] = shelltrust.ReasonValid
		}
		delete(others, kubetest.StoresPath+"/c")
		api.RefuseStatus(kubetest.StoresPath + "/c")
		kubetest.Run(t, NewStatusWriter(api.Client(t), "test", log.Logger()).Run)
		shows(t, api, time.Second, others)
		kubetest.Within(t, time.Second, "a line", func() bool { return strings.Contains(log.String(), "status of truststores c") })
		api.RefuseStatus("")
		shows(t, api, 3*firstStatusRetry, map[string]string{kubetest.StoresPath + "/c": shelltrust.ReasonValid})
	})
}

func TestStatusesOfAnotherVersionAreNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, log := kubetest.Start(t), &kubetest.Log{}
		api.Put(kubetest.StoresPath, "a", kubetest.StoreJSON("a", root(t)))
		writer := NewStatusWriter(api.Client(t), "test", log.Logger())
		for _, name := range []string{"a", "deleted"} {
			if err := writer.writeOne(t.Context(), statusChange{kubeclient.TrustStores(), name, "0", shelltrust.Status{}, shelltrust.Status{ObservedGeneration: 1}}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if api.Writes() != 0 {
			t.Errorf("%d writes", api.Writes())
		}
	})
}
