//go:build e2e

package admission

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// statusOf asks one replica about a scenario's image.
func (fx environment) statusOf(ctx context.Context, r *replica, authorization, image, policy string) error {
	status, text, err := r.Check(ctx, authorization, deployment.PodRequest(fx.Reference(image), policy))
	switch {
	case err != nil:
		return err
	case status != http.StatusOK:
		return fmt.Errorf("%d %s", status, text)
	}
	return nil
}

// TestCallers holds that both paths accept Kyverno's service accounts and the callers' token, and no other token.
func TestCallers(t *testing.T) {
	fx := shared
	fx.Apply(t, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: stranger, namespace: default}\n")
	tests := map[string]struct {
		authorization string
		want          int
		says          string
	}{
		"Kyverno's own token":         {fx.Bearer(t), 200, ""},
		"the callers' token":          {"Bearer " + fx.CallerToken(t), 200, ""},
		"the callers' token, cut":     {"Bearer " + fx.CallerToken(t)[:25], 401, fixture.CallerSecret},
		"no token":                    {"", 401, "send a bearer token; in a CEL policy, give http.Post the headers"},
		"a token that is none":        {"Bearer nonsense", 401, fixture.CallerSecret},
		"a header that is malformed":  {"Bearer", 401, "Bearer <token>"},
		"another scheme":              {"Basic dXNlcjpzZWNyZXQ=", 401, "Bearer <token>"},
		"a token for the API server":  {"Bearer " + fx.Token(t, bed.KyvernoNamespace, bed.KyvernoServiceAccount), 401, "audience"},
		"a token of a stranger":       {"Bearer " + fx.Token(t, "default", "stranger", bed.KyvernoAudience), 403, "name it in --allowedUsers"},
		"a token with a changed byte": {fx.Bearer(t)[:60] + "x" + fx.Bearer(t)[61:], 401, ""},
	}
	for sentence, test := range tests {
		for _, path := range []string{"/checkimages", "/verify"} {
			t.Run(sentence+" at "+path, func(t *testing.T) {
				for i, r := range fx.Replicas {
					status, text, err := r.Post(t.Context(), path, test.authorization, deployment.PodRequest(fx.Reference("signed"), scenariotest.PolicyName))
					if err != nil || status != test.want || !strings.Contains(text, test.says) {
						t.Errorf("replica %d: %d %s, %v; want %d, %s", i, status, text, err, test.want, test.says)
					}
					if token := strings.TrimPrefix(test.authorization, "Bearer "); len(token) > 20 {
						if log := r.Logged(); log == "" || strings.Contains(log, token) {
							t.Errorf("replica %d logs nothing, or the token", i)
						}
					}
				}
			})
		}
	}
}

// TestTheCallersTokenIsReplaced while the one before is still valid, and then is not. It may be deleted; certmanager makes
// another one.
func TestTheCallersTokenIsReplaced(t *testing.T) {
	fx := shared
	body := deployment.PodRequest(fx.Reference("signed"), scenariotest.PolicyName)
	answers := func(token string, want int) {
		t.Helper()
		err := deployment.Eventually(t.Context(), deployment.Patience, func() error {
			for i, r := range fx.Replicas {
				if status, text, err := r.Post(t.Context(), "/verify", "Bearer "+token, body); err != nil || status != want {
					return fmt.Errorf("replica %d: %d %s, %w; want %d", i, status, text, err, want)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	patch := func(data string) {
		t.Helper()
		fx.Kubectl(t, "", "patch", "secret", fixture.CallerSecret, "-n", fixture.ServiceNamespace, "--type=merge", "-p", `{"stringData":`+data+`}`)
	}
	first, second := fx.CallerToken(t), strings.Repeat("0123456789", 4)
	patch(fmt.Sprintf(`{"token":%q,"previous":%q}`, second, first))
	answers(second, 200)
	answers(first, 200)
	patch(fmt.Sprintf(`{"token":%q,"previous":%q}`, second, second))
	answers(second, 200)
	answers(first, 401)
	fx.Kubectl(t, "", "delete", "secret", fixture.CallerSecret, "-n", fixture.ServiceNamespace)
	answers(second, 401)
	manager, err := fx.Deployment.Manage(t.Context(), fixture.ManagerArgs()...)
	deployment.Kept(t)(manager, err)
	err = deployment.Eventually(t.Context(), deployment.Patience, func() error {
		_, err := fx.Bed.Kubectl(t.Context(), "", "get", "secret", fixture.CallerSecret, "-n", fixture.ServiceNamespace)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	answers(fx.CallerToken(t), 200)
}

// TestTrustChangesReachEveryReplica deletes, restores and renames trust, and expects both replicas to apply it.
func TestTrustChangesReachEveryReplica(t *testing.T) {
	fx := shared
	header := fx.Bearer(t)
	all := func(verified bool, says string) {
		t.Helper()
		for i, r := range fx.Replicas {
			began := time.Now()
			err := deployment.Eventually(t.Context(), deployment.Patience, func() error {
				err := fx.statusOf(t.Context(), r, header, "signed", scenariotest.PolicyName)
				if (err == nil) != verified || err != nil && !strings.Contains(err.Error(), says) {
					return fmt.Errorf("verified %t, %v; want verified %t, %q", err == nil, err, verified, says)
				}
				return nil
			})
			if err != nil {
				t.Errorf("replica %d after %s: %v", i, time.Since(began), err)
			}
		}
	}
	t.Cleanup(func() {
		if err := fx.ApplyTrust(context.Background()); err != nil {
			t.Error(err)
		}
	})
	all(true, "")
	fx.Kubectl(t, "", "delete", "truststore", "acme")
	all(false, `trust store "ca:acme" does not exist`)
	fx.Kubectl(t, scenariotest.TrustStore("acme", fx.Scenario.Trusted.PEM()), "apply", "-f", "-")
	all(true, "")
	fx.Kubectl(t, "", "patch", "truststore", "acme", "--type=merge", "-p", `{"spec":{"trustStoreName":"renamed"}}`)
	all(false, `trust store "ca:acme" does not exist`)
	fx.Kubectl(t, "", "patch", "truststore", "acme", "--type=merge", "-p", `{"spec":{"trustStoreName":"acme"}}`)
	all(true, "")
	twin := strings.Replace(scenariotest.TrustStore("acme", fx.Scenario.Trusted.PEM()), "name: acme\n", "name: twin\n", 1)
	fx.Kubectl(t, twin, "apply", "-f", "-")
	all(false, "all claim the name")
	fx.Kubectl(t, "", "delete", "truststore", "twin")
	all(true, "")
	fx.Kubectl(t, "", "delete", "trustpolicy", scenariotest.PolicyName)
	all(false, "does not exist; known are")
	fx.Kubectl(t, scenariotest.TrustPolicy(scenariotest.PolicyName, "strict", "ca:acme"), "apply", "-f", "-")
	all(true, "")
}

// TestTheAPIServerGoesAway kills and restarts the API server during requests, and expects that none fails and that changes of
// trust are seen again.
func TestTheAPIServerGoesAway(t *testing.T) {
	fx := shared
	r := fx.Replicas[1]
	header := fx.Bearer(t)
	var asked, failed atomic.Int32
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil && asked.Load() < 5000 {
				if err := fx.statusOf(t.Context(), r, header, "signed", scenariotest.PolicyName); err != nil {
					failed.Add(1)
					t.Logf("lost: %v", err)
				}
				asked.Add(1)
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	time.Sleep(500 * time.Millisecond)
	if err := fx.Bed.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	err := deployment.Eventually(t.Context(), deployment.Patience, func() error { return metric(t.Context(), r, "apiserver_connected", "0") })
	if err != nil {
		t.Errorf("the metric does not tell the outage: %v", err)
	}
	time.Sleep(2 * time.Second)
	if err := fixture.WaitReady(t.Context(), r); err != nil {
		t.Errorf("not ready while the API server is away: %v", err)
	}
	if err := fx.Bed.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := deployment.Eventually(t.Context(), deployment.Patience, func() error { return metric(t.Context(), r, "apiserver_connected", "1") }); err != nil {
		t.Errorf("it does not recover: %v", err)
	}
	stop()
	load.Wait()
	if failed.Load() > 0 || asked.Load() < 50 {
		t.Errorf("%d of %d requests failed", failed.Load(), asked.Load())
	}
	fx.Apply(t, scenariotest.TrustPolicy("after-outage", "strict", "ca:acme"))
	err = deployment.Eventually(t.Context(), deployment.Patience, func() error { return fx.statusOf(t.Context(), r, header, "signed", "after-outage") })
	if err != nil {
		t.Errorf("trust is not followed after the outage: %v", err)
	}
}

// metric demands a value of one of the service's metrics.
func metric(ctx context.Context, r *replica, name, want string) error {
	text, err := r.Get(ctx, "/metrics")
	if err != nil {
		return err
	}
	if line := "kyverno_notation_venafi_" + name + " " + want + "\n"; !strings.Contains(text, line) {
		return fmt.Errorf("the metrics lack %q", line)
	}
	return nil
}

// TestManyTrustResources loads 200 policies and 200 stores into a new replica.
func TestManyTrustResources(t *testing.T) {
	fx := shared
	var manifests strings.Builder
	for i := range 200 {
		name := "many-" + strconv.Itoa(i)
		fmt.Fprintf(&manifests, "%s---\n%s---\n", scenariotest.TrustPolicy(name, "strict", "ca:"+name), scenariotest.TrustStore(name, fx.Scenario.Trusted.PEM()))
	}
	before := fx.restingMemory(t)
	fx.Apply(t, manifests.String())
	began := time.Now()
	r, err := fx.StartReplica(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.End(); err != nil {
			t.Error(err)
		}
	})
	if err := fixture.WaitReady(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	ready := time.Since(began)
	if err := deployment.Eventually(t.Context(), deployment.Patience, func() error { return metric(t.Context(), r, "trust_stores", "201") }); err != nil {
		t.Error(err)
	}
	time.Sleep(time.Second)
	after := residentMiB(t, r)
	t.Logf("with 200 policies and 200 stores: ready %s after its start; %d MiB resident, %d without them", ready, after, before)
	if after-before >= 50 {
		t.Errorf("they cost %d MiB; want less than 50", after-before)
	}
}

// restingMemory is that of a fresh replica without these resources.
func (fx environment) restingMemory(t *testing.T) int {
	t.Helper()
	r, err := fx.StartReplica(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := fixture.WaitReady(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	resident := residentMiB(t, r)
	if err := r.End(); err != nil {
		t.Fatal(err)
	}
	return resident
}

// residentMiB reads the resident set of a replica's process.
func residentMiB(t *testing.T, r *replica) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.PID))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib / 1024
}
