//go:build e2e

// Package callers tests who may ask the service, with a real API server and a real Kyverno: the token of callers is replaced
// while Kyverno's CEL policies send it, and nobody else is let in. Run it with make e2e.
package callers

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// environment is what the tests share.
type environment struct{ *fixture.Fixture }

// shared is set once, before the tests.
var shared environment

func TestMain(m *testing.M) {
	os.Exit(fixture.Main(m, fixture.Options{Replicas: 2}, func(fx *fixture.Fixture) { shared = environment{fx} }))
}

// Kyverno reads the token every second here, so that a rotation takes seconds.
const (
	propagation = 5 * time.Second
	period      = 4 * propagation
)

// manage runs a certificate manager that rotates the token.
func (fx environment) manage(t *testing.T) *deployment.Process {
	t.Helper()
	return deployment.Kept(t)(fx.Deployment.Manage(t.Context(), append(fixture.ManagerArgs(),
		"--callerTokenDuration", period.String(), "--propagationDelay", propagation.String())...))
}

// callersSample is callers.yaml with a short interval.
func (fx environment) callersSample(t *testing.T) string {
	t.Helper()
	text := fx.Sample(t, "callers.yaml")
	short := strings.Replace(text, "refreshInterval: 10s", "refreshInterval: 1s", 1)
	if short == text {
		t.Fatal("the sample has no interval of ten seconds")
	}
	return short
}

// withPolicies applies the CEL samples but for callers.yaml. The first replica is asked what to pin, the second what to deny.
func (fx environment) withPolicies(t *testing.T) {
	t.Helper()
	fx.TwoTenants(t)
	fx.Apply(t, fx.Sample(t, "mutatingpolicy.yaml"))
	fx.Apply(t, strings.ReplaceAll(fx.Sample(t, "validatingpolicy.yaml"), fx.Replicas[0].Secure, fx.Replicas[1].Secure))
	for _, policy := range []string{"mutatingpolicy/pin-verified-images", "validatingpolicy/deny-unverified-images"} {
		if err := fx.Bed.WaitPolicy(t.Context(), policy); err != nil {
			t.Fatal(err)
		}
	}
}

// client gives a client of the API server that does not limit itself.
func (fx environment) client(t *testing.T) kubernetes.Interface {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", fx.Bed.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// admit asks for the admission of a pod in team-a, and gives the image that would be stored.
func admit(ctx context.Context, client kubernetes.Interface, image string) (string, error) {
	pod := &core.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "load-"},
		Spec:       core.PodSpec{Containers: []core.Container{{Name: "app", Image: image}}},
	}
	stored, err := client.CoreV1().Pods("team-a").Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return "", err
	}
	return stored.Spec.Containers[0].Image, nil
}

// admits waits until a signed image is admitted and pinned, and an unsigned one is denied for its signature.
func (fx environment) admits(t *testing.T, limit time.Duration) {
	t.Helper()
	client, want := fx.client(t), fx.Pinned(t, "signed")
	err := deployment.Eventually(t.Context(), limit, func() error {
		if got, err := admit(t.Context(), client, fx.Reference("signed")); err != nil || got != want {
			return fmt.Errorf("%s, %w; want %s", got, err, want)
		}
		if _, err := admit(t.Context(), client, fx.Reference("unsigned")); err == nil || !strings.Contains(err.Error(), "no signature is associated with") {
			return fmt.Errorf("an unsigned one: %w", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// denies expects that a signed image is denied for some time, by tag and by digest.
func (fx environment) denies(t *testing.T, says string) {
	t.Helper()
	client := fx.client(t)
	for _, image := range []string{fx.Reference("signed"), fx.Pinned(t, "signed")} {
		err := deployment.Eventually(t.Context(), deployment.Patience, func() error {
			if got, err := admit(t.Context(), client, image); err == nil || !strings.Contains(err.Error(), says) {
				return fmt.Errorf("%s, %v; want %s", got, err, says)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		for range 10 {
			if got, err := admit(t.Context(), client, image); err == nil {
				t.Fatalf("%s was admitted as %s", image, got)
			}
		}
	}
}

// answers expects a status for a token from every replica on both paths.
func (fx environment) answers(t *testing.T, authorization string, want int, says string) {
	t.Helper()
	body := deployment.PodRequest(fx.Reference("signed"), scenariotest.PolicyName)
	for _, path := range []string{"/checkimages", "/verify"} {
		for i, r := range fx.Replicas {
			err := deployment.Eventually(t.Context(), deployment.Patience, func() error {
				status, text, err := r.Post(t.Context(), path, authorization, body)
				if err != nil || status != want || !strings.Contains(text, says) {
					return fmt.Errorf("%d %s, %v; want %d, %s", status, text, err, want, says)
				}
				return nil
			})
			if err != nil {
				t.Errorf("replica %d at %s: %v", i, path, err)
			}
		}
	}
}

// TestStrangersAreRefused holds that only who has proof is answered, and that the others read what to write into a policy.
func TestStrangersAreRefused(t *testing.T) {
	fx := shared
	fx.TwoTenants(t)
	fx.Apply(t, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: default, namespace: team-a}\n---\n"+
		"apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: "+bed.KyvernoServiceAccount+", namespace: team-a}\n")
	for sentence, test := range map[string]struct {
		authorization string
		want          int
		says          string
	}{
		"the callers' token":                            {"Bearer " + fx.CallerToken(t), 200, ""},
		"the account of Kyverno":                        {fx.Bearer(t), 200, ""},
		"no proof, and what CEL policies send":          {"", 401, "globalContext.Get("},
		"no proof, and what an apiCall sends":           {"", 401, "an apiCall"},
		"a token that is none":                          {"Bearer nonsense", 401, "nor does the Secret " + fixture.CallerSecret + " hold it"},
		"an account of another namespace":               {"Bearer " + fx.Token(t, "team-a", "default", bed.KyvernoAudience), 403, "system:serviceaccount:team-a:default"},
		"an account of Kyverno's name in another":       {"Bearer " + fx.Token(t, "team-a", bed.KyvernoServiceAccount, bed.KyvernoAudience), 403, "--allowedUsers"},
		"a token of Kyverno's account for another":      {"Bearer " + fx.Token(t, bed.KyvernoNamespace, bed.KyvernoServiceAccount, "another"), 401, "audience"},
		"the name of a key, as a policy may send it":    {"Bearer token", 401, fixture.CallerSecret},
		"an empty token, as of a Secret that is gone":   {"Bearer ", 401, "Bearer <token>"},
		"the callers' token with a line break after it": {"Bearer " + fx.CallerToken(t) + " x", 401, "Bearer <token>"},
	} {
		t.Run(sentence, func(t *testing.T) { fx.answers(t, test.authorization, test.want, test.says) })
	}
}

// TestSamplesNeedTheToken applies the policies without callers.yaml, then with it.
func TestSamplesNeedTheToken(t *testing.T) {
	fx := shared
	fx.withPolicies(t)
	fx.denies(t, "apply callers.yaml")
	fx.Apply(t, fx.Sample(t, "callers.yaml")) // as shipped
	fx.admits(t, deployment.Patience)
	fx.Kubectl(t, "", "delete", "rolebinding", "kyverno-notation-venafi-caller", "-n", fixture.ServiceNamespace)
	fx.denies(t, "permission denied")
}
