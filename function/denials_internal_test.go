package function

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/nirmata/kyverno-notation-venafi/shell/kube"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
)

// TestDenialsOfAdmissionsBecomeEvents, and nothing else does.
func TestDenialsOfAdmissionsBecomeEvents(t *testing.T) {
	const events = "/apis/events.k8s.io/v1/namespaces/team-a/events"
	pod := func(metadata string) string {
		return `{"trustPolicy":"absent","object":{"kind":"Pod","metadata":{` + metadata + `"namespace":"team-a","generateName":"web-"},"spec":{"containers":[{"name":"c","image":"ghcr.io/acme/app:v1"}]}}}`
	}
	const owned = `"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web","uid":"u","controller":true}],`
	const elsewhere = `"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web","namespace":"kube-system","uid":"u","controller":true}],`
	tests := map[string]struct {
		body       string
		background bool
		regards    string // "" for no Event
	}{
		"a pod of a ReplicaSet":                         {pod(owned), false, "ReplicaSet web in team-a"},
		"a pod that nobody controls":                    {pod(""), false, "Namespace team-a in team-a"},
		"an owner that says it is in another namespace": {pod(elsewhere), false, "ReplicaSet web in team-a"},
		"a background scan":                             {pod(owned), true, ""},
		"a request that is not understood":              {strings.Replace(pod(owned), "containers", "containrs", 1), false, ""},
		"images without their object":                   {`{"trustPolicy":"absent","images":{"containers":{"c":{"registry":"ghcr.io","path":"acme/app","name":"app","tag":"v1","reference":"ghcr.io/acme/app:v1","referenceWithTag":"ghcr.io/acme/app:v1","jsonPointer":"/spec/containers/0/image"}}}}`, false, ""},
	}
	for sentence, test := range tests {
		for _, path := range []string{pathCheck, pathVerify} {
			t.Run(sentence+" at "+path, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					settings, _, err := LoadSettings("test", []string{"--trustDir", t.TempDir()}, func(string) (string, bool) { return "", false }, nil)
					if err != nil {
						t.Fatal(err)
					}
					f, err := New(settings, os.LookupEnv, slog.New(slog.DiscardHandler))
					if err != nil {
						t.Fatal(err)
					}
					defer f.Stop()
					api := kubetest.Start(t)
					f.denials = kube.NewDenials(api.Client(t), "pod", slog.New(slog.DiscardHandler))
					kubetest.Run(t, f.denials.Watch)
					got, request := arrival(path, strings.NewReader(test.body))
					if test.background {
						request.Header.Set("Priority", "u=7")
					}
					f.Handler().ServeHTTP(got, request)
					synctest.Wait()
					var regards string
					for _, name := range api.Names(events) {
						event := api.Object(events + "/" + name)
						regarding, _ := event["regarding"].(map[string]any)
						regards += regarding["kind"].(string) + " " + regarding["name"].(string) + " in " + regarding["namespace"].(string)
						note, _ := event["note"].(string)
						if id := got.Header().Get(headerDecision); event["reason"] != "TrustPolicyNotFound" || !strings.Contains(note, "(decision "+id+")") || !strings.HasPrefix(note, "Pod web-*: ") {
							t.Errorf("event %v of the decision %s", event, id)
						}
					}
					if regards != test.regards {
						t.Errorf("the Event regards %q, want %q", regards, test.regards)
					}
				})
			})
		}
	}
}
