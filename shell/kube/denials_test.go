package kube

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
)

// eventsIn is the path of a namespace's Events.
func eventsIn(namespace string) string {
	return "/apis/events.k8s.io/v1/namespaces/" + namespace + "/events"
}

func denial(namespace string, owner int) core.Notice {
	return core.Notice{
		Namespace: namespace, Code: reason.NoSignature, Image: "ghcr.io/acme/app:v1", Note: "Pod x: denied",
		Regarding: core.Owner{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: fmt.Sprintf("web-%d", owner), UID: "u"},
	}
}

func TestDenialsAreRecordedAsEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := kubetest.Start(t)
		denials := NewDenials(api.Client(t), "pod-1", (&kubetest.Log{}).Logger())
		kubetest.Run(t, denials.Watch)
		denials.Tell(denial("team-a", 1))
		unowned := denial("team-b", 1)
		unowned.Regarding = core.Owner{}
		denials.Tell(unowned)
		synctest.Wait()
		for namespace, kind := range map[string]string{"team-a": "ReplicaSet web-1", "team-b": "Namespace team-b"} {
			names := api.Names(eventsIn(namespace))
			if len(names) != 1 {
				t.Fatalf("%s has the events %v", namespace, names)
			}
			event := api.Object(eventsIn(namespace) + "/" + names[0])
			regarding, _ := event["regarding"].(map[string]any)
			if fmt.Sprint(regarding["kind"], " ", regarding["name"]) != kind || regarding["namespace"] != namespace ||
				event["reason"] != "NoSignature" || event["note"] != "Pod x: denied" || event["type"] != "Warning" || event["reportingInstance"] != "pod-1" {
				t.Errorf("event %v", event)
			}
		}
		if stats := denials.Stats(); stats != (DenialStats{Recorded: 2}) {
			t.Errorf("stats %+v", stats)
		}
	})
}

// TestRepetitionsAreOneEvent, of two replicas, and of one that began anew.
func TestRepetitionsAreOneEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := kubetest.Start(t)
		var replicas [2]*Denials
		for i := range replicas {
			replicas[i] = NewDenials(api.Client(t), "pod", (&kubetest.Log{}).Logger())
			kubetest.Run(t, replicas[i].Watch)
		}
		for n := range 300 {
			again := denial("team-a", 1)
			again.Note = fmt.Sprintf("Pod x-%d: denied", n)
			replicas[n%2].Tell(again)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		names := api.Names(eventsIn("team-a"))
		if len(names) != 1 {
			t.Fatalf("events %v", names)
		}
		series, _ := api.Object(eventsIn("team-a") + "/" + names[0])["series"].(map[string]any)
		count, _ := series["count"].(float64)
		if count < 100 || series["lastObservedTime"] == nil {
			t.Errorf("series %v", series)
		}
		if writes := api.Writes(); writes > 15 { // each replica patches once a minute
			t.Errorf("%d writes", writes)
		}
		if a, b := replicas[0].Stats(), replicas[1].Stats(); a.Recorded+b.Recorded != 1 || a.Repeated+b.Repeated != 299 || a.Failed+b.Failed != 0 {
			t.Errorf("stats %+v, %+v", a, b)
		}
		time.Sleep(time.Hour)
		replicas[0].Tell(denial("team-a", 1))
		synctest.Wait()
		if names := api.Names(eventsIn("team-a")); len(names) != 2 {
			t.Errorf("after an hour there are %v", names)
		}
	})
}

func TestDenialsAreBounded(t *testing.T) {
	t.Run("one namespace leaves room for others", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			api := kubetest.Start(t)
			denials := NewDenials(api.Client(t), "pod", (&kubetest.Log{}).Logger())
			kubetest.Run(t, denials.Watch)
			for n := range 200 {
				denials.Tell(denial("noisy", n))
			}
			synctest.Wait()
			denials.Tell(denial("quiet", 1))
			synctest.Wait()
			if noisy, quiet := len(api.Names(eventsIn("noisy"))), len(api.Names(eventsIn("quiet"))); noisy != tenantBurst || quiet != 1 {
				t.Errorf("noisy has %d events, quiet %d", noisy, quiet)
			}
			if stats := denials.Stats(); stats != (DenialStats{Recorded: tenantBurst + 1, Dropped: 200 - tenantBurst}) {
				t.Errorf("stats %+v", stats)
			}
		})
	})
	t.Run("many namespaces", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			api := kubetest.Start(t)
			denials := NewDenials(api.Client(t), "pod", (&kubetest.Log{}).Logger())
			kubetest.Run(t, denials.Watch)
			for n := range 200 {
				denials.Tell(denial(fmt.Sprintf("team-%d", n), 1))
			}
			synctest.Wait()
			if api.Writes() != eventsBurst {
				t.Errorf("%d events", api.Writes())
			}
		})
	})
	t.Run("nobody waits, although nothing is recorded", func(t *testing.T) {
		denials := NewDenials(kubetest.Start(t).Client(t), "pod", (&kubetest.Log{}).Logger())
		for n := range 1000 {
			denials.Tell(denial("team-a", n))
		}
		if stats := denials.Stats(); stats != (DenialStats{Dropped: 1000 - maxQueued}) {
			t.Errorf("stats %+v", stats)
		}
	})
	t.Run("an API server that refuses is told of once a minute", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			api, log := kubetest.Start(t), &kubetest.Log{}
			denials := NewDenials(api.Client(t), "pod", log.Logger())
			kubetest.Run(t, denials.Watch)
			api.Refuse(403)
			for n := range 5 {
				denials.Tell(denial("team-a", n))
			}
			synctest.Wait()
			if stats := denials.Stats(); stats != (DenialStats{Failed: 5}) || strings.Count(log.String(), "could not be recorded") != 1 {
				t.Errorf("stats %+v\n%s", stats, log.String())
			}
		})
	})
}
