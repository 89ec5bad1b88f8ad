//go:build e2e_knative

package knative

import (
	"context"
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/cluster"
	function "github.com/nirmata/kyverno-notation-venafi/e2e/func"
)

var native = flag.Bool("native", false, "have func build for this machine's platform only, which saves most of the time")

const funcTime = 30 * time.Minute // for one command of func; a build of three platforms from nothing takes the most

// user runs commands of the documents in a clone, where the cluster's names resolve.
type user struct {
	cluster     *cluster.Cluster
	clone       string
	environment []string
}

// TestFuncDeploys follows what the documents say of func, from a clean clone to pods: the image is built by func, pushed to the cluster's
// registry and pulled by the node, and Knative runs it.
func TestFuncDeploys(t *testing.T) {
	c := attach(t)
	remove(t, c)
	t.Cleanup(func() { remove(t, c) })
	tools := function.Tools(t, "")
	// There is no way to module proxies in the cluster's network, and no certificates but the registry's count.
	environment := append(function.Environment(tools), "GOPROXY=off", "SSL_CERT_FILE="+c.RegistryCA())
	if *native {
		environment = append(environment, function.OnlyNative(tools))
	}
	u := &user{c, function.Clone(t), environment}
	commands := function.Commands(t, cluster.RegistryHost+"/func")
	u.must(t, "kubectl create namespace "+namespace)
	u.must(t, "kubectl -n "+namespace+" create configmap ca-certificates --from-file=ca.crt="+c.RegistryCA()) // "A CA of your own"

	began := time.Now()
	took := []string{}
	for _, what := range []string{"build", "apply", "set image", "deploy"} {
		one := time.Now()
		u.must(t, commands[what])
		took = append(took, time.Since(one).Round(100*time.Millisecond).String()+"  "+commands[what])
	}
	t.Logf("%d commands, ready after %s:\n%s", len(took), time.Since(began).Round(100*time.Millisecond), strings.Join(took, "\n"))

	one := time.Now()
	if answer := u.must(t, "func invoke"); !strings.Contains(answer, "POST /verify") {
		t.Errorf("func invoke: %q", answer)
	}
	t.Logf("%s  func invoke", time.Since(one).Round(100*time.Millisecond))
	image := strings.TrimSpace(u.must(t, "cat .func/built-image"))
	for _, app := range []string{namespace, namespace + "-certmanager"} {
		if ran := kubectl(t, c, "get", "pods", "--namespace="+namespace, "--selector=app.kubernetes.io/name="+app, "-o", `jsonpath={.items[*].spec.containers[?(@.name!="queue-proxy")].image}`); strings.Count(ran, image) != 2 {
			t.Errorf("the pods of %s run %q, want %s in two", app, ran, image)
		}
	}
	trustAndTeams(t, c)
	denies("team-a", "unsigned", unsignedSentence)(t, c)
	runs("run-signed")(t, c)
	nothingIsRefused(t, c)
}

// must runs a line that has to succeed, and gives what it prints.
func (u *user) must(t *testing.T, line string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), funcTime)
	defer cancel()
	cmd := u.cluster.Inside(ctx, u.clone, u.environment, line)
	cmd.WaitDelay = time.Minute
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, said)
	}
	return string(said)
}
