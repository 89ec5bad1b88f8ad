//go:build e2e_knative

package knative

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/cluster"
)

// tally counts the results of admissions that are requested continuously.
type tally struct {
	mu         sync.Mutex
	admitted   int
	denied     int      // of an unsigned image, with the sentence that says so
	refused    []string // for another reason: never right, though allowed while a part is away
	unverified []string // of an unsigned image that came in, or a signed one by its tag: never allowed
}

// TestDisturbances requests admissions continuously while parts are ended. Nothing unverified may be admitted; while a part is
// replaced in order, nothing signed may be refused either.
func TestDisturbances(t *testing.T) {
	c := attach(t)
	if err := c.ImportProduct(t.Context()); err != nil {
		t.Fatal(err)
	}
	install(t, c, "knative")
	kubectl(t, c, "create", "serviceaccount", sender, "--namespace=team-a")
	kubectl(t, c, "create", "rolebinding", sender, "--namespace=team-a", "--clusterrole=edit", "--serviceaccount=team-a:"+sender)
	service := "--namespace=" + namespace
	for _, disturbance := range []struct {
		sentence string
		run      func(*testing.T, *cluster.Cluster)
		smooth   bool // every answer is the right one
	}{
		{"a new revision rolls out", func(t *testing.T, c *cluster.Cluster) { rollOut(t, c, `"test/revision":"next"`) }, true},
		{"the certmanager's leader is killed", killLeader, true},
		{"both certmanagers are killed", run("delete", "pods", service, "--selector=app.kubernetes.io/name="+namespace+"-certmanager", "--force"), true},
		{"one replica is killed", killReplica, false},
		{"every replica is killed", run("delete", "pods", service, "--selector=app.kubernetes.io/name="+namespace, "--force"), false},
		{"Kyverno is killed", run("delete", "pods", "--namespace=kyverno", "--all", "--force"), false},
		{"the network is cut for 10 s", cutNetwork, false},
	} {
		t.Run(disturbance.sentence, func(t *testing.T) {
			began := time.Now()
			counted := disturb(t, c, disturbance.run)
			all := counted.admitted + counted.denied + len(counted.refused) + len(counted.unverified)
			t.Logf("%d admitted, %d denied, %d refused for another reason; %.0f a second", counted.admitted, counted.denied, len(counted.refused),
				float64(all)/time.Since(began).Seconds())
			if counted.admitted == 0 || counted.denied == 0 {
				t.Error("nothing was admitted, or nothing denied")
			}
			for _, what := range counted.unverified {
				t.Errorf("unverified: %s", what)
			}
			if disturbance.smooth && len(counted.refused) > 0 {
				t.Errorf("refused for another reason %d times, first: %s", len(counted.refused), counted.refused[0])
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
	ready := replicas(t, c)
	if len(ready) == 0 {
		t.Fatal("no replica is ready")
	}
	kubectl(t, c, "delete", "pod/"+ready[0], "--namespace="+namespace, "--force")
}

// cutNetwork also checks that the network is cut: requests are denied meanwhile.
func cutNetwork(t *testing.T, c *cluster.Cluster) {
	if err := c.Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Mend(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	began := time.Now()
	if out, err := dryRun(t.Context(), c, "team-a", "signed"); err == nil {
		t.Errorf("the network is not cut: %s", out)
	}
	time.Sleep(time.Until(began.Add(cutTime)))
}

const cutTime = 10 * time.Second

const (
	sender   = "sender"        // account that may make pods
	loadTime = 5 * time.Second // of one run of the load generator; its answers are counted at its end
)

// rightly is what the answer for each image holds.
var rightly = map[string]string{"signed": `"image":"` + cluster.RegistryHost + "/acme/signed@sha256:", "unsigned": unsignedSentence}

// load requests pods of an image continuously and in parallel, at a far higher rate than kubectl can, and counts the results.
func load(ctx context.Context, t *testing.T, c *cluster.Cluster, token, image string, counted *tally) {
	body := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"asked-"},"spec":{"containers":[{"name":"app","image":%q}]}}`, reference(image))
	for ctx.Err() == nil {
		out, err := c.SendToAPIServer(t.Context(), token, "/api/v1/namespaces/team-a/pods?dryRun=All", body, "--parallel=4", "--duration="+loadTime.String(), "--expect="+rightly[image])
		if err != nil {
			t.Errorf("load: %v", err)
		}
		for line := range strings.Lines(out) {
			outcome, times, _ := strings.Cut(strings.TrimSpace(line), " ")
			n, err := strconv.Atoi(times)
			if err != nil {
				t.Errorf("load: %q", line)
			}
			counted.addMany(image, outcome, n)
		}
	}
}

// disturb sends load for some time, causes a disturbance, and sends load until all requests succeed again.
func disturb(t *testing.T, c *cluster.Cluster, disturbance func(*testing.T, *cluster.Cluster)) *tally {
	t.Helper()
	const before, after = 2 * time.Second, 15 * time.Second
	token := strings.TrimSpace(kubectl(t, c, "create", "token", sender, "--namespace=team-a"))
	ctx, stop := context.WithCancel(t.Context())
	counted, asking := &tally{}, sync.WaitGroup{}
	ended := func() {
		stop()
		asking.Wait()
	}
	defer ended() // also where the disturbance fails
	for image := range rightly {
		asking.Go(func() { load(ctx, t, c, token, image, counted) })
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
	ended()
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

// addMany counts answers of the API server to who makes pods: as the load generator calls them, which adds an exclamation mark
// to the status where an answer holds what it should.
func (c *tally) addMany(image, outcome string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case outcome == "201!" && image == "signed":
		c.admitted += n
	case strings.HasPrefix(outcome, "201"):
		c.unverified = append(c.unverified, fmt.Sprintf("%s, %d times", image, n))
	case strings.HasSuffix(outcome, "!") && image == "unsigned":
		c.denied += n
	default:
		c.refused = append(c.refused, slices.Repeat([]string{image + " with " + outcome}, n)...)
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
	case image == "unsigned" && strings.Contains(err.Error(), unsignedSentence):
		c.denied++
	default:
		c.refused = append(c.refused, err.Error())
	}
}
