//go:build e2e && e2e_eventing

package eventing

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// outage is how long the service cannot be reached in TestTheServiceIsDown. It is longer than the adapter tries, and shorter than the
// broker does.
const outage = 5 * time.Second

// source is an applied manifest of config/events, and the adapter of its ApiServerSource.
type source struct {
	namespace string
	adapter   *pod
}

// apply applies a manifest of config/events, after replacing strings, old and new in turn. It runs the adapter that the controller
// wants, and waits until Knative says that all is ready. All ends with the test.
func (c cluster) apply(t *testing.T, file, namespace string, replace ...string) *source {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(fixture.ConfigDir, "events", file))
	if err != nil {
		t.Fatal(err)
	}
	manifest := strings.NewReplacer(replace...).Replace(string(text))
	if len(replace) > 0 && manifest == string(text) {
		t.Fatalf("%s has nothing of %q", file, replace)
	}
	t.Cleanup(func() {
		if err := c.collect(context.Background(), namespace); err != nil {
			t.Error(err)
		}
	})
	if file == "broker.yaml" {
		// The filter keeps a token for as long as it is valid, by the name of the Trigger's account. It would be refused once the
		// Trigger, and so its account, has been deleted and made again.
		if err := c.restart(t.Context(), "mt-broker-filter"); err != nil {
			t.Fatal(err)
		}
	}
	c.Apply(t, manifest)
	s := &source{namespace: namespace}
	s.adapter = c.runAdapter(t, namespace)
	kinds := []string{"apiserversource/kyverno-notation-venafi"}
	if file == "broker.yaml" {
		kinds = []string{"broker/trust", "trigger/kyverno-notation-venafi", kinds[0]}
	}
	for _, kind := range kinds {
		if _, err := c.Bed.Kubectl(t.Context(), "", "wait", "-n", namespace, "--for=condition=Ready", kind, "--timeout=150s"); err != nil {
			state, _ := c.Bed.Kubectl(t.Context(), "", "get", "-n", namespace, kind, "-o", "jsonpath={.status}")
			t.Fatalf("%v: %s", err, state)
		}
	}
	return s
}

// runAdapter waits for the Deployment of a source's adapter, and runs it until the test ends.
func (c cluster) runAdapter(t *testing.T, namespace string) *pod {
	t.Helper()
	var found apps.DeploymentList
	c.eventually(t, func() error {
		if err := c.get(t.Context(), &found, "deployments", "-n", namespace, "-l", "eventing.knative.dev/source=apiserver-source-controller"); err != nil {
			return err
		}
		if len(found.Items) != 1 {
			state, _ := c.Bed.Kubectl(t.Context(), "", "get", "-n", namespace, "apiserversource/kyverno-notation-venafi", "-o", "jsonpath={.status}")
			return fmt.Errorf("%d adapters; the source says %s", len(found.Items), state)
		}
		return nil
	})
	d := &found.Items[0]
	p, err := c.runDeployment(t.Context(), d, adapterProgram, []string{"SSL_CERT_FILE=" + c.bundle(t, d)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.end()
		if t.Failed() {
			t.Logf("%s: %s", p.name, p.tail())
		}
	})
	if err := c.becomeAvailable(t.Context(), d, p); err != nil {
		t.Fatal(err)
	}
	return p
}

// collect waits until what was applied is gone from a namespace, and deletes what belonged to it, as a garbage collector would.
func (c cluster) collect(ctx context.Context, namespace string) error {
	for _, kind := range []string{"triggers.eventing.knative.dev", "brokers.eventing.knative.dev", "apiserversources.sources.knative.dev",
		"subscriptions.messaging.knative.dev", "inmemorychannels.messaging.knative.dev", "eventpolicies.eventing.knative.dev",
		"deployments.apps", "services", "serviceaccounts", "configmaps", "roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io"} {
		if err := deployment.Eventually(ctx, upTime, func() error {
			var found metav1.PartialObjectMetadataList
			if err := c.get(ctx, &found, kind, "-n", namespace); err != nil {
				return err
			}
			for _, object := range found.Items {
				owned := slices.ContainsFunc(object.OwnerReferences, func(o metav1.OwnerReference) bool { return strings.Contains(o.APIVersion, "knative.dev/") })
				if owned && object.DeletionTimestamp == nil {
					if _, err := c.Bed.Kubectl(ctx, "", "delete", kind, object.Name, "-n", namespace, "--wait=false"); err != nil {
						return err
					}
				}
				if owned || object.DeletionTimestamp != nil {
					return fmt.Errorf("%s %s is not gone yet", kind, object.Name)
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// bundle writes the CAs that the controller has mounted into the adapter. The adapter reads them from a path at the root of its
// file system, which it shares with the machine here, so that they are its system's CAs instead.
func (c cluster) bundle(t *testing.T, d *apps.Deployment) string {
	t.Helper()
	var all strings.Builder
	for _, volume := range d.Spec.Template.Spec.Volumes {
		if volume.Projected == nil {
			continue
		}
		for _, from := range volume.Projected.Sources {
			var configMap core.ConfigMap
			if err := c.get(t.Context(), &configMap, "configmap", from.ConfigMap.Name, "-n", d.Namespace); err != nil {
				t.Fatal(err)
			}
			for _, text := range configMap.Data {
				all.WriteString(text)
			}
			for _, text := range configMap.BinaryData {
				all.Write(text)
			}
		}
	}
	if all.Len() == 0 {
		t.Fatal("the adapter has no CA of the service")
	}
	file := filepath.Join(t.TempDir(), "bundle.pem")
	if err := os.WriteFile(file, []byte(all.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// eventually fails the test if a condition does not come to hold.
func (c cluster) eventually(t *testing.T, holds func() error) {
	t.Helper()
	if err := deployment.Eventually(t.Context(), upTime, holds); err != nil {
		for name, p := range c.knative.pods {
			t.Logf("%s: %s", name, p.tail())
		}
		t.Fatal(err)
	}
}

// counted is a counter of a replica, summed over the series that have all of the labels, each like `outcome="taken"`.
func counted(text, name string, labels ...string) (sum float64) {
	for line := range strings.Lines(text) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if has := func(label string) bool { return strings.Contains(series, label) }; !strings.HasPrefix(series, name+"{") || slices.ContainsFunc(labels, func(l string) bool { return !has(l) }) {
			continue
		}
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			sum += n
		}
	}
	return sum
}

// events is how many events the first replica counts under an outcome.
func (c cluster) events(t *testing.T, outcome string) float64 {
	t.Helper()
	return c.metric(t, 0, "kyverno_notation_venafi_trust_events_total", fmt.Sprintf("outcome=%q", outcome))
}

func (c cluster) metric(t *testing.T, replica int, name string, labels ...string) float64 {
	t.Helper()
	text, err := c.Replicas[replica].Get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	return counted(text, name, labels...)
}

// epoch is the value by which one replica notifies the others.
func (c cluster) epoch(t *testing.T) string {
	t.Helper()
	return c.Kubectl(t, "", "get", "configmap", "kyverno-notation-venafi-epoch", "-n", deployment.Namespace, "-o", "jsonpath={.data.epoch}")
}

// lists is how often the trust stores were read whole at the API server: by a list, or by a watch that begins with all of them. Such a
// watch is counted when it ends, as it does when its reader reads all anew.
func (c cluster) lists(t *testing.T) (sum float64) {
	t.Helper()
	text := c.Kubectl(t, "", "get", "--raw", "/metrics")
	for _, verb := range []string{"LIST", "WATCH"} {
		sum += counted(text, "apiserver_request_total", `resource="truststores"`, fmt.Sprintf("verb=%q", verb))
	}
	return sum
}

// touch changes the trust store in a way that changes no verdict.
func (c cluster) touch(t *testing.T) {
	t.Helper()
	c.Kubectl(t, "", "annotate", "--overwrite", "truststore", "acme", fmt.Sprintf("touched=%d", time.Now().UnixNano()))
}

// reach touches the trust store until something more is counted than before. The first changes may come before the adapter watches.
func (c cluster) reach(t *testing.T, outcome string) {
	t.Helper()
	before := c.events(t, outcome)
	c.eventually(t, func() error {
		c.touch(t)
		return deployment.Eventually(t.Context(), 10*time.Second, func() error {
			if c.events(t, outcome) == before {
				return fmt.Errorf("no event is %s", outcome)
			}
			return nil
		})
	})
	// Those that are still on their way must not be taken for later ones.
	last, same := c.total(t), 0
	c.eventually(t, func() error {
		now := c.total(t)
		if now != last {
			last, same = now, 0
		}
		if same++; same < 100 {
			return errors.New("events still come")
		}
		return nil
	})
}

// total is how many events the first replica has counted.
func (c cluster) total(t *testing.T) float64 {
	t.Helper()
	return c.metric(t, 0, "kyverno_notation_venafi_trust_events_total")
}

// verdict asks a replica about an image that the trust store makes good.
func (c cluster) verdict(ctx context.Context, replica int, header string) error {
	status, text, err := c.Replicas[replica].Check(ctx, header, deployment.PodRequest(c.Reference("signed"), scenariotest.PolicyName))
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%d %s", status, text)
	}
	return err
}

// everywhere waits until all replicas verify the image, or until none does.
func (c cluster) everywhere(t *testing.T, verified bool, header string) {
	t.Helper()
	for i := range c.Replicas {
		c.eventually(t, func() error {
			if err := c.verdict(t.Context(), i, header); (err == nil) != verified {
				return fmt.Errorf("replica %d: want verified %t, %v", i, verified, err)
			}
			return nil
		})
	}
}

// remove takes the trust store away, and gives it back when the test ends.
func (c cluster) remove(t *testing.T) {
	t.Helper()
	c.Kubectl(t, "", "delete", "--wait=false", "truststore", "acme")
	t.Cleanup(func() {
		if err := c.ApplyTrust(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// misses is how many lookups a replica did since it had no outcome.
func (c cluster) misses(t *testing.T, replica int) float64 {
	t.Helper()
	return c.metric(t, replica, "kyverno_notation_venafi_cache_lookups_total", `result="miss"`, `kind="signature"`)
}

// TestTrustChanges expects that a change of trust reaches one replica as an event, straight and by a broker, and by the epoch all replicas,
// which list trust anew.
func TestTrustChanges(t *testing.T) {
	for _, file := range []string{"direct.yaml", "broker.yaml"} {
		t.Run(file, func(t *testing.T) {
			c := shared
			header := c.Bearer(t)
			c.apply(t, file, deployment.Namespace)
			c.reach(t, "taken")
			c.everywhere(t, true, header)

			// An event that changes no verdict: the first replica forgets, and both list.
			for i := range c.Replicas {
				if err := c.verdict(t.Context(), i, header); err != nil {
					t.Fatal(err)
				}
			}
			misses, epoch, lists, taken := c.misses(t, 0), c.epoch(t), c.lists(t), c.events(t, "taken")
			if err := c.verdict(t.Context(), 0, header); err != nil || c.misses(t, 0) != misses {
				t.Errorf("the verdict is not cached: %v, %v misses more", err, c.misses(t, 0)-misses)
			}
			c.touch(t)
			c.eventually(t, func() error {
				if c.events(t, "taken") == taken || c.epoch(t) == epoch {
					return errors.New("the event did not come, or the epoch is the same")
				}
				if n := c.lists(t) - lists; n < float64(len(c.Replicas)) {
					return fmt.Errorf("trust was listed %v times by %d replicas", n, len(c.Replicas))
				}
				return nil
			})
			if err := c.verdict(t.Context(), 0, header); err != nil || c.misses(t, 0) == misses {
				t.Errorf("the event left what was cached: %v", err)
			}

			// An event that changes all verdicts.
			taken, epoch = c.events(t, "taken"), c.epoch(t)
			c.remove(t)
			c.everywhere(t, false, header)
			c.eventually(t, func() error {
				if c.events(t, "taken") == taken || c.epoch(t) == epoch {
					return errors.New("the deletion was no event")
				}
				return nil
			})
			if err := c.ApplyTrust(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.everywhere(t, true, header)
			for _, outcome := range []string{"ignored", "malformed"} {
				if n := c.events(t, outcome); n != 0 {
					t.Errorf("%v events are %s", n, outcome)
				}
			}
		})
	}
}

// TestSendersAreRefused expects that an event with a token for someone else, or of an account that may not send events, changes nothing. It is
// counted, and the sender logs it or keeps trying.
func TestSendersAreRefused(t *testing.T) {
	const audience = "audience: kyverno-notation-venafi-events"
	const intruder = "intruder"
	tests := map[string]struct {
		file, namespace string
		status          int
		replace         []string
	}{
		"a token for another audience, straight":    {"direct.yaml", deployment.Namespace, http.StatusUnauthorized, []string{audience, "audience: someone-else"}},
		"a token for another audience, by a broker": {"broker.yaml", deployment.Namespace, http.StatusUnauthorized, []string{audience, "audience: someone-else"}},
		"a sender from another namespace":           {"direct.yaml", intruder, http.StatusForbidden, []string{"namespace: " + deployment.Namespace, "namespace: " + intruder}},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			c := shared
			if test.namespace == intruder {
				c.Kubectl(t, "", "create", "namespace", intruder)
			}
			header := c.Bearer(t)
			c.everywhere(t, true, header)
			epoch, taken, misses, refused := c.epoch(t), c.events(t, "taken"), c.misses(t, 0), c.events(t, "refused")
			status := fmt.Sprintf(`"msg":"event not taken","status":%d`, test.status)
			logged := strings.Count(c.Replicas[0].Logged(), status)
			c.apply(t, test.file, test.namespace, test.replace...)
			c.reach(t, "refused")
			if more, all := strings.Count(c.Replicas[0].Logged(), status)-logged, c.events(t, "refused")-refused; float64(more) != all {
				t.Errorf("%v events are refused, and %d log lines have the status %d", all, more, test.status)
			}
			if c.epoch(t) != epoch || c.events(t, "taken") != taken {
				t.Error("the event was taken")
			}
			if err := c.verdict(t.Context(), 0, header); err != nil || c.misses(t, 0) != misses {
				t.Errorf("the event made the service forget: %v, %v misses", err, c.misses(t, 0)-misses)
			}
			t.Logf("%v events refused", c.events(t, "refused")-refused)
		})
	}
}

// TestTheServiceIsDown expects that an event to a service that cannot be reached for a while is lost straight and comes late by the broker, and
// that all replicas apply the change anyway, since they watch.
func TestTheServiceIsDown(t *testing.T) {
	for _, file := range []string{"direct.yaml", "broker.yaml"} {
		t.Run(file, func(t *testing.T) {
			c := shared
			header := c.Bearer(t)
			s := c.apply(t, file, deployment.Namespace)
			c.reach(t, "taken")
			c.everywhere(t, true, header)
			epoch, taken, failures := c.epoch(t), c.events(t, "taken"), strings.Count(s.adapter.logged(), "failed to send cloudevent")
			if err := c.service.close(); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			c.remove(t)
			if file == "direct.yaml" {
				c.everywhere(t, false, header)
				c.eventually(t, func() error {
					if strings.Count(s.adapter.logged(), "failed to send cloudevent") == failures {
						return errors.New("the adapter did not give up")
					}
					return nil
				})
				t.Logf("the adapter gave up %s after the change", time.Since(began).Round(100*time.Millisecond))
			}
			time.Sleep(outage - min(outage, time.Since(began))) // this long it is down, whatever happens
			if c.epoch(t) != epoch || c.events(t, "taken") != taken {
				t.Error("an event came to a service that is down")
			}
			if err := c.service.open(c.Replicas[0].Secure); err != nil {
				t.Fatal(err)
			}
			if file == "broker.yaml" {
				c.eventually(t, func() error {
					if c.events(t, "taken") == taken || c.epoch(t) == epoch {
						return errors.New("the broker does not send the event again")
					}
					return nil
				})
				t.Logf("the broker delivered %s after the change", time.Since(began).Round(100*time.Millisecond))
				c.everywhere(t, false, header)
			}
			taken = c.events(t, "taken")
			if err := c.ApplyTrust(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.everywhere(t, true, header)
			c.eventually(t, func() error { // the next one comes, however the last one fared
				if c.events(t, "taken") == taken {
					return errors.New("no event comes any more")
				}
				return nil
			})
		})
	}
}
