package kube

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

const brokenPEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

// statusAt reads the status of an object as it is stored.
func (a *apiServer) statusAt(t *testing.T, path string) shelltrust.Status {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	var stored struct {
		Status shelltrust.Status `json:"status"`
	}
	text, err := json.Marshal(a.objects[path])
	if err == nil {
		err = json.Unmarshal(text, &stored)
	}
	if err != nil {
		t.Fatal(err)
	}
	return stored.Status
}

// shows waits for the reason of each object, by its path.
func (a *apiServer) shows(t *testing.T, limit time.Duration, reasons map[string]string) {
	t.Helper()
	for path, reason := range reasons {
		within(t, limit, path+" is "+reason, func() bool {
			ready := meta.FindStatusCondition(a.statusAt(t, path).Conditions, shelltrust.ConditionReady)
			return ready != nil && ready.Reason == reason
		})
	}
}

func TestStatusesFollowTheResources(t *testing.T) {
	api, pem := startAPI(t), root(t)
	api.put(storesPath, "good", storeJSON(t, "good", pem))
	api.put(storesPath, "bad", storeJSON(t, "bad", []byte(brokenPEM)))
	api.put(policiesPath, "good", policyJSON("good", "good"))
	api.put(policiesPath, "bad", policyJSON("bad", "bad"))
	running(t, NewStatusWriter(api.client(t), "test", (&record{}).logger()).Run)
	api.shows(t, time.Second, map[string]string{
		storesPath + "/good": shelltrust.ReasonValid, storesPath + "/bad": shelltrust.ReasonInvalid,
		policiesPath + "/good": shelltrust.ReasonValid, policiesPath + "/bad": shelltrust.ReasonTrustStoreMissing,
	})
	if good := api.statusAt(t, storesPath+"/good"); good.NotAfter == nil || good.ObservedGeneration == 0 {
		t.Errorf("the good store: %+v", good)
	}
	time.Sleep(300 * time.Millisecond)
	if n := api.writes(); n != 4 {
		t.Errorf("%d writes; want one for each resource", n)
	}

	// What is broken loses its expiry, and its policy with it.
	api.put(storesPath, "good", storeJSON(t, "good", []byte(brokenPEM)))
	api.shows(t, time.Second, map[string]string{storesPath + "/good": shelltrust.ReasonInvalid, policiesPath + "/good": shelltrust.ReasonTrustStoreMissing})
	for _, path := range []string{storesPath, policiesPath} {
		if s := api.statusAt(t, path+"/good"); s.NotAfter != nil {
			t.Errorf("%s still expires at %s", path, s.NotAfter)
		}
	}
	api.put(storesPath, "bad", storeJSON(t, "bad", pem))
	api.shows(t, time.Second, map[string]string{storesPath + "/bad": shelltrust.ReasonValid, policiesPath + "/bad": shelltrust.ReasonValid})
	time.Sleep(300 * time.Millisecond)
	if n := api.writes(); n != 8 {
		t.Errorf("%d writes; want two for each resource", n)
	}
}

func TestAStatusThatIsRefusedDoesNotHoldUpTheOthers(t *testing.T) {
	api, log, pem := startAPI(t), &record{}, root(t)
	others := map[string]string{}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		api.put(storesPath, name, storeJSON(t, name, pem))
		others[storesPath+"/"+name] = shelltrust.ReasonValid
	}
	delete(others, storesPath+"/c")
	api.denies(storesPath + "/c")
	running(t, NewStatusWriter(api.client(t), "test", log.logger()).Run)
	api.shows(t, time.Second, others)
	eventually(t, "a line", func() bool { return strings.Contains(log.String(), "status of truststores c") })
	api.denies("")
	api.shows(t, 3*firstRetry, map[string]string{storesPath + "/c": shelltrust.ReasonValid})
}

func TestAStatusForAnotherVersionIsNotWritten(t *testing.T) {
	api, log := startAPI(t), &record{}
	api.put(storesPath, "a", storeJSON(t, "a", root(t)))
	writer := NewStatusWriter(api.client(t), "test", log.logger())
	for _, name := range []string{"a", "deleted"} {
		if err := writer.writeOne(t.Context(), statusChange{trustStores(), name, "0", shelltrust.Status{}, shelltrust.Status{ObservedGeneration: 1}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if api.writes() != 0 {
		t.Errorf("%d writes", api.writes())
	}
}
