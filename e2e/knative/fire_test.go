//go:build e2e_knative

package knative

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/cluster"
)

// tally counts what became of admissions that were asked for all the time.
type tally struct {
	mu         sync.Mutex
	admitted   int
	refused    []string // of a signed image: never right, though allowed while a part is away
	unverified []string // of an unsigned image that came in, or a signed one by its tag: never allowed
}

// TestDisturbances asks for admissions all the time while parts end. Nothing comes in unverified; where a part is
// replaced in order, nothing signed is refused either.
func TestDisturbances(t *testing.T) {
	c := attach(t)
	if err := c.ImportProduct(t.Context()); err != nil {
		t.Fatal(err)
	}
	install(t, c, "knative")
	service := "--namespace=" + namespace
	for _, disturbance := range []struct {
		sentence string
		run      func(*testing.T, *cluster.Cluster)
		smooth   bool // refuses nothing signed
	}{
		{"a new revision rolls out", run("patch", "ksvc/"+namespace, service, "--type=merge",
			`--patch={"spec":{"template":{"metadata":{"annotations":{"test/revision":"next"}}}}}`), true},
		{"the certmanager's leader is killed", killLeader, true},
		{"both certmanagers are killed", run("delete", "pods", service, "--selector=app.kubernetes.io/name="+namespace+"-certmanager", "--force"), true},
		{"one replica is killed", killReplica, false},
		{"every replica is killed", run("delete", "pods", service, "--selector=app.kubernetes.io/name="+namespace, "--force"), false},
		{"Kyverno is killed", run("delete", "pods", "--namespace=kyverno", "--all", "--force"), false},
		{"the network is cut for 10 s", cutNetwork, false},
	} {
		t.Run(disturbance.sentence, func(t *testing.T) {
			counted := disturb(t, c, disturbance.run)
			t.Logf("%d admitted, %d refused", counted.admitted, len(counted.refused))
			if counted.admitted == 0 {
				t.Error("nothing was admitted")
			}
			for _, what := range counted.unverified {
				t.Errorf("unverified: %s", what)
			}
			if disturbance.smooth && len(counted.refused) > 0 {
				t.Errorf("a signed image was refused %d times, first: %s", len(counted.refused), counted.refused[0])
			}
		})
	}
}

func run(args ...string) func(*testing.T, *cluster.Cluster) {
	return func(t *testing.T, c *cluster.Cluster) { kubectl(t, c, args...) }
}

func killLeader(t *testing.T, c *cluster.Cluster) {
	holder := kubectl(t, c, "get", "lease/"+namespace+"-certmanager", "--namespace="+namespace, "-o", "jsonpath={.spec.holderIdentity}")
	killed := false
	for _, pod := range strings.Fields(kubectl(t, c, "get", "pods", "--namespace="+namespace, "-o", "name")) {
		if strings.HasPrefix(holder, strings.TrimPrefix(pod, "pod/")) {
			kubectl(t, c, "delete", pod, "--namespace="+namespace, "--force")
			killed = true
		}
	}
	if !killed {
		t.Fatalf("no pod is the leader %s", holder)
	}
}

func killReplica(t *testing.T, c *cluster.Cluster) {
	pods := strings.Fields(kubectl(t, c, "get", "pods", "--namespace="+namespace, "--selector=app.kubernetes.io/name="+namespace, "-o", "name"))
	kubectl(t, c, "delete", pods[0], "--namespace="+namespace, "--force")
}

// cutNetwork also shows that it is cut: what is asked meanwhile is denied.
func cutNetwork(t *testing.T, c *cluster.Cluster) {
	if err := c.Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if out, err := dryRun(t.Context(), c, "team-a", "signed"); err == nil && time.Since(began) < cutTime {
		t.Errorf("the network is not cut: %s", out)
	}
	time.Sleep(time.Until(began.Add(cutTime)))
	if err := c.Mend(t.Context()); err != nil {
		t.Fatal(err)
	}
}

const cutTime = 10 * time.Second

// disturb asks for some time, disturbs, and asks on until all is well again.
func disturb(t *testing.T, c *cluster.Cluster, disturbance func(*testing.T, *cluster.Cluster)) *tally {
	t.Helper()
	const before, after = 2 * time.Second, 15 * time.Second
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	counted, asking := &tally{}, sync.WaitGroup{}
	for _, image := range []string{"signed", "unsigned"} {
		asking.Go(func() {
			for ctx.Err() == nil {
				out, err := dryRun(t.Context(), c, "team-a", image)
				counted.add(image, out, err)
			}
		})
	}
	time.Sleep(before)
	disturbance(t, c)
	time.Sleep(after)
	stop()
	asking.Wait()
	for deadline := time.Now().Add(policyTime); ; time.Sleep(time.Second) {
		out, err := dryRun(t.Context(), c, "team-a", "signed")
		counted.add("signed", out, err)
		if err == nil {
			return counted
		}
		if time.Now().After(deadline) {
			t.Fatalf("admission did not come back: %v", err)
		}
	}
}

func (c *tally) add(image, out string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pinned := strings.Contains(out, "@sha256:")
	switch {
	case err == nil && (image == "unsigned" || !pinned):
		c.unverified = append(c.unverified, image+" as "+out)
	case err == nil:
		c.admitted++
	case image == "signed":
		c.refused = append(c.refused, err.Error())
	}
}
