package kube

import (
	"strings"
	"testing"
	"time"

	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

const eventsPath = "/apis/events.k8s.io/v1/namespaces/default/events"

// aging is the PEM of a CA that ends so long from now.
func aging(t *testing.T, left time.Duration) []byte {
	t.Helper()
	ca, err := signingtest.NewCA(signingtest.Options{CommonName: "Acme", NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(left)})
	if err != nil {
		t.Fatal(err)
	}
	return ca.PEM()
}

func (a *apiServer) expiring(t *testing.T, path string) string {
	t.Helper()
	for _, condition := range a.statusAt(t, path).Conditions {
		if condition.Type == shelltrust.ConditionExpiring {
			return condition.Message
		}
	}
	return ""
}

func TestAnExpiringCertificateIsAnEvent(t *testing.T) {
	api := startAPI(t)
	api.put(storesPath, "acme", storeJSON(t, "acme", aging(t, 5*24*time.Hour)))
	api.put(storesPath, "fresh", storeJSON(t, "fresh", aging(t, 100*24*time.Hour)))
	running(t, NewStatusWriter(api.client(t), "pod-1", (&record{}).logger()).Run)
	within(t, 5*time.Second, "an event and the status", func() bool {
		return len(api.objectsUnder(eventsPath)) == 1 && strings.Contains(api.expiring(t, storesPath+"/acme"), "within 7 days")
	})
	event := api.objectsUnder(eventsPath)[0]
	regarding, _ := event["regarding"].(map[string]any)
	note, _ := event["note"].(string)
	if regarding["kind"] != "TrustStore" || regarding["name"] != "acme" || event["reason"] != "CertificateExpires" || event["reportingInstance"] != "pod-1" || !strings.Contains(note, "CN=Acme") {
		t.Errorf("event %v", event)
	}

	// Another leader does not tell it again, not even when the event is gone, as it is after an hour.
	for _, path := range []string{"", eventsPath + "/" + event["metadata"].(map[string]any)["name"].(string)} {
		if path != "" {
			api.drop(path)
		}
		writer := NewStatusWriter(api.client(t), "pod-2", (&record{}).logger())
		running(t, writer.Run)
		within(t, 5*time.Second, "it has looked", func() bool { _, _, listed := writer.all(); return listed && len(writer.changed) == 0 })
		time.Sleep(10 * settle)
	}
	if events := api.objectsUnder(eventsPath); len(events) != 0 {
		t.Errorf("told again: %v", events)
	}
}

// TestTwoLeadersTellItOnce, where both look before either has written the status.
func TestTwoLeadersTellItOnce(t *testing.T) {
	api := startAPI(t)
	warning := shelltrust.Warning{Store: "acme", UID: "1", Fingerprint: strings.Repeat("ab", 32), Threshold: "expires within 7 days", Reason: shelltrust.ReasonCertificateExpires}
	for _, instance := range []string{"pod-1", "pod-2"} {
		if err := api.client(t).tell(t.Context(), warning, instance, time.Now()); err != nil {
			t.Errorf("%s: %v", instance, err)
		}
	}
	if n := len(api.objectsUnder(eventsPath)); n != 1 {
		t.Errorf("%d events", n)
	}
	warning.Threshold = "expires within 1 day"
	if err := api.client(t).tell(t.Context(), warning, "pod-1", time.Now()); err != nil {
		t.Error(err)
	}
	if n := len(api.objectsUnder(eventsPath)); n != 2 {
		t.Errorf("%d events", n)
	}
}

// TestAnEventThatIsRefusedDoesNotHoldUpTheStatus, and is tried again.
func TestAnEventThatIsRefusedDoesNotHoldUpTheStatus(t *testing.T) {
	api, log := startAPI(t), &record{}
	api.put(storesPath, "acme", storeJSON(t, "acme", aging(t, time.Hour)))
	api.refusesUnder(eventsPath)
	running(t, NewStatusWriter(api.client(t), "pod-1", log.logger()).Run)
	api.shows(t, 5*time.Second, map[string]string{storesPath + "/acme": shelltrust.ReasonValid})
	within(t, 5*time.Second, "a line", func() bool { return strings.Contains(log.String(), "event on the trust store acme") })
	if said := api.expiring(t, storesPath+"/acme"); said != "" {
		t.Errorf("the status records it: %s", said)
	}
	api.refusesUnder("")
	within(t, 15*time.Second, "the event", func() bool {
		return len(api.objectsUnder(eventsPath)) == 1 && api.expiring(t, storesPath+"/acme") != ""
	})
}

func TestNamesOfEvents(t *testing.T) {
	long := eventName(shelltrust.Warning{Store: strings.Repeat("a", 179) + "." + strings.Repeat("b", 70)})
	if len(long) > 253 || strings.Contains(long, "..") {
		t.Errorf("%d bytes: %s", len(long), long)
	}
	if a, b := eventName(shelltrust.Warning{Store: "a", UID: "1"}), eventName(shelltrust.Warning{Store: "a", UID: "2"}); a == b {
		t.Error("a store that was made anew has the events of the old one")
	}
}
