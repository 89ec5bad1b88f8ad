//go:build e2e_knative

package knative

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/cluster"
)

// quicker has Knative scale back within seconds instead of a quarter of an hour.
const quicker = `"autoscaling.knative.dev/scale-down-delay":"0s","autoscaling.knative.dev/window":"10s"`

// callerToken reads the token that certmanager made for callers without an account.
func callerToken(t *testing.T, c *cluster.Cluster) string {
	t.Helper()
	token, err := base64.StdEncoding.DecodeString(kubectl(t, c, "get", "secret", "kyverno-notation-venafi-caller", "--namespace=kyverno-notation-venafi", "--output=jsonpath={.data.token}"))
	if err != nil || len(token) == 0 {
		t.Errorf("%d bytes of token: %v", len(token), err)
	}
	return string(token)
}

// TestScaling sends load through Knative's routing, which scales by it, while admissions come through the Service svc, which
// Knative does not see.
func TestScaling(t *testing.T) {
	c := attach(t)
	if err := c.ImportProduct(t.Context()); err != nil {
		t.Fatal(err)
	}
	install(t, c, "knative")
	rollOut(t, c, quicker)
	ctx, stop := context.WithCancel(t.Context())
	counted, asking := &tally{}, sync.WaitGroup{}
	defer func() {
		stop()
		asking.Wait()
	}()
	admit := func(ctx context.Context) {
		for ctx.Err() == nil {
			out, err := dryRun(t.Context(), c, "team-a", "signed")
			counted.add("signed", out, err)
		}
	}
	asking.Go(func() { admit(ctx) })
	most := 0
	token := callerToken(t, c)
	asking.Go(func() {
		// Nobody has this address, so each request takes as long as it may.
		const body = `{"trustPolicy":"tp-team-b","object":{"kind":"Pod","spec":{"containers":[{"name":"app","image":"10.99.0.250/acme/app:v1"}]}}}`
		out, err := c.Send(t.Context(), body, "--address="+ingress(t, c), "--url=http://"+clusterLocal+"/verify", "--parallel=300", "--duration=40s", "--header=Authorization: Bearer "+token)
		if err != nil {
			t.Errorf("load: %v", err)
		}
		t.Logf("load: %s", strings.ReplaceAll(strings.TrimSpace(out), "\n", "; "))
		stop()
	})
	for ctx.Err() == nil {
		most = max(most, len(replicas(t, c)))
		time.Sleep(time.Second)
	}
	asking.Wait()
	t.Logf("up to %d ready replicas; %d admitted, %d refused", most, counted.admitted, len(counted.refused))
	if most <= 2 {
		t.Errorf("it did not scale out: %d replicas", most)
	}
	again, back := context.WithCancel(t.Context())
	defer back()
	asking.Go(func() { admit(again) })
	awaitReplicas(t, c, "2 as before", func() bool { return len(replicas(t, c)) == 2 })
	back()
	asking.Wait()
	if counted.admitted == 0 || len(counted.refused)+len(counted.unverified) > 0 {
		t.Errorf("%d admitted, refused %v, unverified %v", counted.admitted, counted.refused, counted.unverified)
	}
}

const clusterLocal = namespace + "." + namespace + ".svc.cluster.local"

// ingress is where Knative's routing inside the cluster begins.
func ingress(t *testing.T, c *cluster.Cluster) string {
	return kubectl(t, c, "get", "service/traefik-private", "--namespace=traefik", "-o", "jsonpath={.spec.clusterIP}") + ":80"
}

func awaitReplicas(t *testing.T, c *cluster.Cluster, what string, reached func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !reached(); time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			t.Fatalf("%v are ready, want %s", replicas(t, c), what)
		}
	}
}

// rollOut has Knative make the second revision, by an annotation, and waits until it is the only one.
func rollOut(t *testing.T, c *cluster.Cluster, annotations string) {
	t.Helper()
	kubectl(t, c, "patch", "ksvc/"+namespace, "--namespace="+namespace, "--type=merge",
		`--patch={"spec":{"template":{"metadata":{"annotations":{`+annotations+`}}}}}`)
	awaitReplicas(t, c, "2 of the second revision", func() bool {
		ready := replicas(t, c)
		return len(ready) == 2 && !slices.ContainsFunc(ready, func(name string) bool { return !strings.Contains(name, "-00002-") })
	})
}

// replicas names those that are ready.
func replicas(t *testing.T, c *cluster.Cluster) []string {
	names := []string{}
	out := kubectl(t, c, "get", "pods", "--namespace="+namespace, "--selector=app.kubernetes.io/name="+namespace, "-o",
		`jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status}{.metadata.deletionTimestamp} {end}`)
	for _, pod := range strings.Fields(out) {
		if name, status, _ := strings.Cut(pod, "="); status == "True" {
			names = append(names, name)
		}
	}
	return names
}

// TestFigures prints what the README's table says of the service in a cluster.
func TestFigures(t *testing.T) {
	c := attach(t)
	if err := c.ImportProduct(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, way := range []string{"knative", "plain"} {
		t.Run(way, func(t *testing.T) {
			install(t, c, way)
			starts := []time.Duration{}
			for range 5 {
				starts = append(starts, coldStart(t, c))
			}
			slices.Sort(starts)
			t.Logf("%s: a replica is ready after %s (p50 of 5; %v)", way, starts[len(starts)/2].Round(100*time.Millisecond), starts)
			before, admissions := latency(t, c)
			for range 100 {
				if _, err := dryRun(t.Context(), c, "team-a", "signed"); err != nil {
					t.Fatal(err)
				}
			}
			after, all := latency(t, c)
			if all-admissions < 100 {
				t.Fatalf("the API server counted %v admissions, want 100", all-admissions)
			}
			t.Logf("%s: Kyverno answers the API server in %.1f ms (mean of %.0f)", way, 1000*(after-before)/(all-admissions), all-admissions)
			t.Logf("%s: memory at rest %s", way, memory(t, c))
		})
	}
}

// coldStart deletes a replica and returns the time until two are ready again.
func coldStart(t *testing.T, c *cluster.Cluster) time.Duration {
	awaitReplicas(t, c, "2", func() bool { return len(replicas(t, c)) == 2 })
	old := replicas(t, c)[0]
	began := time.Now()
	kubectl(t, c, "delete", "pod/"+old, "--namespace="+namespace, "--wait=false")
	awaitTime := time.Now().Add(time.Minute)
	for {
		ready := replicas(t, c)
		if len(ready) == 2 && !slices.Contains(ready, old) {
			return time.Since(began)
		}
		if time.Now().After(awaitTime) {
			t.Fatalf("%v are ready", ready)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// latency returns the seconds that the API server waited for Kyverno's mutating webhook, and how often it did.
func latency(t *testing.T, c *cluster.Cluster) (seconds, count float64) {
	for line := range strings.Lines(kubectl(t, c, "get", "--raw=/metrics")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if !strings.Contains(name, `name="mutate.kyverno.svc-fail`) || !strings.Contains(name, `operation="CREATE"`) {
			continue
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		switch {
		case strings.HasPrefix(name, "apiserver_admission_webhook_admission_duration_seconds_sum"):
			seconds += number
		case strings.HasPrefix(name, "apiserver_admission_webhook_admission_duration_seconds_count"):
			count += number
		}
	}
	return seconds, count
}

// memory tells the working set of each container of the replicas, as the kubelet sees it.
func memory(t *testing.T, c *cluster.Cluster) string {
	time.Sleep(30 * time.Second) // to rest, and for the kubelet to look
	summary := struct {
		Pods []struct {
			PodRef     struct{ Name, Namespace string }
			Containers []struct {
				Name   string
				Memory struct{ WorkingSetBytes, RSSBytes int64 }
			}
		}
	}{}
	if err := json.Unmarshal([]byte(kubectl(t, c, "get", "--raw=/api/v1/nodes/node/proxy/stats/summary")), &summary); err != nil {
		t.Fatal(err)
	}
	found := []string{}
	for _, pod := range summary.Pods {
		for _, container := range pod.Containers {
			if pod.PodRef.Namespace == namespace {
				found = append(found, fmt.Sprintf("%s %d MiB (%d MiB anonymous)", container.Name, container.Memory.WorkingSetBytes>>20, container.Memory.RSSBytes>>20))
			}
		}
	}
	slices.Sort(found)
	return strings.Join(found, ", ")
}
