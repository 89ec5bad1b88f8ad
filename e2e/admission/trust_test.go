//go:build e2e

package admission

import (
	"context"
	"encoding/base64"
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
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// bearer gives the header that Kyverno sends.
func (fx *fixture) bearer(t *testing.T) string {
	t.Helper()
	return "Bearer " + fx.token(t, bed.KyvernoNamespace, bed.KyvernoServiceAccount, bed.KyvernoAudience)
}

// statusOf asks one replica about a scenario's image.
func (fx *fixture) statusOf(ctx context.Context, r *replica, authorization, image, policy string) error {
	status, text, err := r.Check(ctx, authorization, deployment.PodRequest(fx.reference(image), policy))
	switch {
	case err != nil:
		return err
	case status != http.StatusOK:
		return fmt.Errorf("%d %s", status, text)
	}
	return nil
}

// callerToken reads the token that certmanager made for CEL policies.
func (fx *fixture) callerToken(t *testing.T) string {
	t.Helper()
	token, err := base64.StdEncoding.DecodeString(fx.kubectl(t, "", "get", "secret", callerSecret, "-n", serviceNamespace, "-o", "jsonpath={.data.token}"))
	if err != nil || len(token) < 26 {
		t.Fatalf("%d bytes of token, %v", len(token), err)
	}
	return string(token)
}

// TestCallers holds that both paths accept Kyverno's service accounts and the callers' token, and no other token.
func TestCallers(t *testing.T) {
	fx := shared
	fx.apply(t, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: stranger, namespace: default}\n")
	tests := map[string]struct {
		authorization string
		want          int
		says          string
	}{
		"Kyverno's own token":         {fx.bearer(t), 200, ""},
		"the callers' token":          {"Bearer " + fx.callerToken(t), 200, ""},
		"the callers' token, cut":     {"Bearer " + fx.callerToken(t)[:25], 401, callerSecret},
		"no token":                    {"", 401, "send a bearer token; a CEL policy gives http.Post the headers"},
		"a token that is none":        {"Bearer nonsense", 401, callerSecret},
		"a header that is malformed":  {"Bearer", 401, "Bearer <token>"},
		"another scheme":              {"Basic dXNlcjpzZWNyZXQ=", 401, "Bearer <token>"},
		"a token for the API server":  {"Bearer " + fx.token(t, bed.KyvernoNamespace, bed.KyvernoServiceAccount), 401, "audience"},
		"a token of a stranger":       {"Bearer " + fx.token(t, "default", "stranger", bed.KyvernoAudience), 403, "name it in --allowedUsers"},
		"a token with a changed byte": {fx.bearer(t)[:60] + "x" + fx.bearer(t)[61:], 401, ""},
	}
	for sentence, test := range tests {
		for _, path := range []string{"/checkimages", "/verify"} {
			t.Run(sentence+" at "+path, func(t *testing.T) {
				for i, r := range fx.replicas {
					status, text, err := r.Post(t.Context(), path, test.authorization, deployment.PodRequest(fx.reference("signed"), scenariotest.PolicyName))
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
	body := deployment.PodRequest(fx.reference("signed"), scenariotest.PolicyName)
	answers := func(token string, want int) {
		t.Helper()
		err := deployment.Eventually(t.Context(), 10*time.Second, func() error {
			for i, r := range fx.replicas {
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
		fx.kubectl(t, "", "patch", "secret", callerSecret, "-n", serviceNamespace, "--type=merge", "-p", `{"stringData":`+data+`}`)
	}
	first, second := fx.callerToken(t), strings.Repeat("second", 6)
	patch(fmt.Sprintf(`{"token":%q,"previous":%q}`, second, first))
	answers(second, 200)
	answers(first, 200)
	patch(fmt.Sprintf(`{"token":%q,"previous":%q}`, second, second))
	answers(second, 200)
	answers(first, 401)
	fx.kubectl(t, "", "delete", "secret", callerSecret, "-n", serviceNamespace)
	answers(second, 401)
	manager, err := fx.deployment.Manage(t.Context(), managerArgs()...)
	deployment.Kept(t)(manager, err)
	err = deployment.Eventually(t.Context(), 30*time.Second, func() error {
		_, err := fx.bed.Kubectl(t.Context(), "", "get", "secret", callerSecret, "-n", serviceNamespace)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	answers(fx.callerToken(t), 200)
}

// TestTrustChangesReachEveryReplica deletes, restores and renames trust, and expects both replicas to apply it within a second.
func TestTrustChangesReachEveryReplica(t *testing.T) {
	fx := shared
	header := fx.bearer(t)
	all := func(verified bool, says string) {
		t.Helper()
		for i, r := range fx.replicas {
			began := time.Now()
			err := deployment.Eventually(t.Context(), time.Second, func() error {
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
		if err := fx.applyTrust(context.Background()); err != nil {
			t.Error(err)
		}
	})
	all(true, "")
	fx.kubectl(t, "", "delete", "truststore", "acme")
	all(false, `trust store "ca:acme" does not exist`)
	fx.kubectl(t, scenariotest.TrustStore("acme", fx.scenario.Trusted.PEM()), "apply", "-f", "-")
	all(true, "")
	fx.kubectl(t, "", "patch", "truststore", "acme", "--type=merge", "-p", `{"spec":{"trustStoreName":"renamed"}}`)
	all(false, `trust store "ca:acme" does not exist`)
	fx.kubectl(t, "", "patch", "truststore", "acme", "--type=merge", "-p", `{"spec":{"trustStoreName":"acme"}}`)
	all(true, "")
	twin := strings.Replace(scenariotest.TrustStore("acme", fx.scenario.Trusted.PEM()), "name: acme\n", "name: twin\n", 1)
	fx.kubectl(t, twin, "apply", "-f", "-")
	all(false, "all claim the name")
	fx.kubectl(t, "", "delete", "truststore", "twin")
	all(true, "")
	fx.kubectl(t, "", "delete", "trustpolicy", scenariotest.PolicyName)
	all(false, "does not exist; known are")
	fx.kubectl(t, scenariotest.TrustPolicy(scenariotest.PolicyName, "strict", "ca:acme"), "apply", "-f", "-")
	all(true, "")
}

// TestTheAPIServerGoesAway kills and restarts the API server during requests, and expects that none fails and that changes of
// trust are seen again.
func TestTheAPIServerGoesAway(t *testing.T) {
	fx := shared
	r := fx.replicas[1]
	header := fx.bearer(t)
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
	if err := fx.bed.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	err := deployment.Eventually(t.Context(), 20*time.Second, func() error { return metric(t.Context(), r, "apiserver_connected", "0") })
	if err != nil {
		t.Errorf("the metric does not tell the outage: %v", err)
	}
	time.Sleep(2 * time.Second)
	if err := waitReady(t.Context(), r); err != nil {
		t.Errorf("not ready while the API server is away: %v", err)
	}
	if err := fx.bed.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := deployment.Eventually(t.Context(), 30*time.Second, func() error { return metric(t.Context(), r, "apiserver_connected", "1") }); err != nil {
		t.Errorf("it does not recover: %v", err)
	}
	stop()
	load.Wait()
	if failed.Load() > 0 || asked.Load() < 50 {
		t.Errorf("%d of %d requests failed", failed.Load(), asked.Load())
	}
	fx.apply(t, scenariotest.TrustPolicy("after-outage", "strict", "ca:acme"))
	err = deployment.Eventually(t.Context(), 5*time.Second, func() error { return fx.statusOf(t.Context(), r, header, "signed", "after-outage") })
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
		fmt.Fprintf(&manifests, "%s---\n%s---\n", scenariotest.TrustPolicy(name, "strict", "ca:"+name), scenariotest.TrustStore(name, fx.scenario.Trusted.PEM()))
	}
	before := fx.restingMemory(t)
	fx.apply(t, manifests.String())
	began := time.Now()
	r, err := fx.startReplica(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.End(); err != nil {
			t.Error(err)
		}
	})
	if err := waitReady(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	ready := time.Since(began)
	if err := deployment.Eventually(t.Context(), 5*time.Second, func() error { return metric(t.Context(), r, "trust_stores", "201") }); err != nil {
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
func (fx *fixture) restingMemory(t *testing.T) int {
	t.Helper()
	r, err := fx.startReplica(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := waitReady(t.Context(), r); err != nil {
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
