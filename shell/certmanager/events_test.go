package certmanager

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// aging is the PEM of a CA that ends so long from now.
func aging(t *testing.T, left time.Duration) []byte {
	t.Helper()
	ca, err := signingtest.NewCA(signingtest.Options{CommonName: "Acme", NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(left)})
	if err != nil {
		t.Fatal(err)
	}
	return ca.PEM()
}

func expiring(t *testing.T, api *kubetest.Server, path string) string {
	t.Helper()
	for _, condition := range statusAt(t, api, path).Conditions {
		if condition.Type == shelltrust.ConditionExpiring {
			return condition.Message
		}
	}
	return ""
}

func TestExpiringCertificatesAreRecordedAsEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := kubetest.Start(t)
		api.Put(kubetest.StoresPath, "acme", kubetest.StoreJSON("acme", aging(t, 5*24*time.Hour)))
		api.Put(kubetest.StoresPath, "fresh", kubetest.StoreJSON("fresh", aging(t, 100*24*time.Hour)))
		kubetest.Run(t, NewStatusWriter(api.Client(t), "pod-1", (&kubetest.Log{}).Logger()).Run)
		kubetest.Within(t, 5*time.Second, "an event and the status", func() bool {
			return len(api.Names(kubetest.EventsPath)) == 1 && strings.Contains(expiring(t, api, kubetest.StoresPath+"/acme"), "within 7 days")
		})
		event := api.Object(kubetest.EventsPath + "/" + api.Names(kubetest.EventsPath)[0])
		regarding, _ := event["regarding"].(map[string]any)
		note, _ := event["note"].(string)
		if regarding["kind"] != "TrustStore" || regarding["name"] != "acme" || event["reason"] != "CertificateExpires" || event["reportingInstance"] != "pod-1" || !strings.Contains(note, "CN=Acme") {
			t.Errorf("event %v", event)
		}

		// Another leader does not record it again, not even when the event is gone, as it is after an hour.
		for _, path := range []string{"", kubetest.EventsPath + "/" + event["metadata"].(map[string]any)["name"].(string)} {
			if path != "" {
				api.Remove(path)
			}
			kubetest.Run(t, NewStatusWriter(api.Client(t), "pod-2", (&kubetest.Log{}).Logger()).Run)
			time.Sleep(time.Hour)
		}
		if events := api.Names(kubetest.EventsPath); len(events) != 0 {
			t.Errorf("recorded again: %v", events)
		}
	})
}

// TestConcurrentLeadersRecordAWarningOnce has both leaders read the resource before either has written its status.
func TestConcurrentLeadersRecordAWarningOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := kubetest.Start(t)
		warning := shelltrust.Warning{Store: "acme", UID: "1", Fingerprint: strings.Repeat("ab", 32), Threshold: "expires within 7 days", Reason: shelltrust.ReasonCertificateExpires}
		for _, instance := range []string{"pod-1", "pod-2"} {
			if err := recordEvent(t.Context(), api.Client(t), warning, instance, time.Now()); err != nil {
				t.Errorf("%s: %v", instance, err)
			}
		}
		if n := len(api.Names(kubetest.EventsPath)); n != 1 {
			t.Errorf("%d events", n)
		}
		warning.Threshold = "expires within 1 day"
		if err := recordEvent(t.Context(), api.Client(t), warning, "pod-1", time.Now()); err != nil {
			t.Error(err)
		}
		if n := len(api.Names(kubetest.EventsPath)); n != 2 {
			t.Errorf("%d events", n)
		}
	})
}

// TestRefusedEventsDoNotHoldUpTheStatus refuses an event, and expects the status at once and the event later.
func TestRefusedEventsDoNotHoldUpTheStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, log := kubetest.Start(t), &kubetest.Log{}
		api.Put(kubetest.StoresPath, "acme", kubetest.StoreJSON("acme", aging(t, time.Hour)))
		api.RefuseCreate(kubetest.EventsPath)
		kubetest.Run(t, NewStatusWriter(api.Client(t), "pod-1", log.Logger()).Run)
		shows(t, api, 5*time.Second, map[string]string{kubetest.StoresPath + "/acme": shelltrust.ReasonValid})
		kubetest.Within(t, 5*time.Second, "a line", func() bool { return strings.Contains(log.String(), "event on the trust store acme") })
		if said := expiring(t, api, kubetest.StoresPath+"/acme"); said != "" {
			t.Errorf("the status records it: %s", said)
		}
		api.RefuseCreate("")
		kubetest.Within(t, 15*time.Second, "the event", func() bool {
			return len(api.Names(kubetest.EventsPath)) == 1 && expiring(t, api, kubetest.StoresPath+"/acme") != ""
		})
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
