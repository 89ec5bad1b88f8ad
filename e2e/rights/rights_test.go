//go:build e2e

package rights

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/product"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// effect is what shows that a permission is wanting: broken gives nil as long as it shows.
type effect struct {
	spoilt string // an object that is there and holds nothing of use; "" for none
	broken func(*testing.T, *world, *product.Process) error
}

// ofService is what each permission of the service is for.
var ofService = map[string]effect{
	"list trustpolicies":                             notReady,
	"watch trustpolicies":                            notConnected,
	"list truststores":                               notReady,
	"watch truststores":                              notConnected,
	"create tokenreviews":                            callersAreUnknown,
	"list secrets/regcred":                           notConnected,
	"watch secrets/regcred":                          notConnected,
	"list secrets/notation-plugin-config":            notConnected,
	"watch secrets/notation-plugin-config":           notConnected,
	"list secrets/kyverno-notation-venafi-tls":       notReady,
	"watch secrets/kyverno-notation-venafi-tls":      notConnected,
	"list secrets/kyverno-notation-venafi-caller":    notConnected,
	"watch secrets/kyverno-notation-venafi-caller":   notConnected,
	"list configmaps/notation-plugin-config":         notConnected,
	"watch configmaps/notation-plugin-config":        notConnected,
	"list configmaps/kyverno-notation-venafi-epoch":  notConnected,
	"watch configmaps/kyverno-notation-venafi-epoch": notConnected,
	"patch configmaps/kyverno-notation-venafi-epoch": eventsAreNotTaken,
}

// ofManager is what each permission of the certificate manager is for.
var ofManager = map[string]effect{
	"list trustpolicies":                                noStatus("trustpolicy/" + scenariotest.PolicyName),
	"watch trustpolicies":                               changesAreLate(newPolicy),
	"list truststores":                                  noStatus("truststore/acme"),
	"watch truststores":                                 changesAreLate(newStore),
	"patch trustpolicies/status":                        noStatus("trustpolicy/" + scenariotest.PolicyName),
	"patch truststores/status":                          noStatus("truststore/acme"),
	"create secrets":                                    missing(caSecret),
	"create configmaps":                                 missing(caBundle),
	"get secrets/kyverno-notation-venafi-ca":            missing(caSecret),
	"list secrets/kyverno-notation-venafi-ca":           changesAreLate(deleted(caSecret)),
	"watch secrets/kyverno-notation-venafi-ca":          changesAreLate(deleted(caSecret)),
	"update secrets/kyverno-notation-venafi-ca":         unrepaired(caSecret),
	"get secrets/kyverno-notation-venafi-tls":           missing(tlsSecret),
	"list secrets/kyverno-notation-venafi-tls":          changesAreLate(deleted(tlsSecret)),
	"watch secrets/kyverno-notation-venafi-tls":         changesAreLate(deleted(tlsSecret)),
	"update secrets/kyverno-notation-venafi-tls":        unrepaired(tlsSecret),
	"get secrets/kyverno-notation-venafi-caller":        missing(caSecret),
	"list secrets/kyverno-notation-venafi-caller":       changesAreLate(deleted(callerSecret)),
	"watch secrets/kyverno-notation-venafi-caller":      changesAreLate(deleted(callerSecret)),
	"get configmaps/kyverno-notation-venafi-ca":         missing(caBundle),
	"list configmaps/kyverno-notation-venafi-ca":        changesAreLate(deleted(caBundle)),
	"watch configmaps/kyverno-notation-venafi-ca":       changesAreLate(deleted(caBundle)),
	"update configmaps/kyverno-notation-venafi-ca":      unrepaired(caBundle),
	"get configmaps/kyverno-notation-venafi-epoch":      missing(caSecret),
	"list configmaps/kyverno-notation-venafi-epoch":     changesAreLate(deleted(epoch)),
	"watch configmaps/kyverno-notation-venafi-epoch":    changesAreLate(deleted(epoch)),
	"create leases":                                     missing(lease),
	"get leases/kyverno-notation-venafi-certmanager":    missing(lease),
	"update leases/kyverno-notation-venafi-certmanager": leaseIsNotRenewed,
	"create events":                                     nobodyIsWarned,
}

const (
	caSecret     = "secret/kyverno-notation-venafi-ca"
	tlsSecret    = "secret/kyverno-notation-venafi-tls"
	callerSecret = "secret/kyverno-notation-venafi-caller"
	caBundle     = "configmap/kyverno-notation-venafi-ca"
	epoch        = "configmap/kyverno-notation-venafi-epoch"
	lease        = "lease/kyverno-notation-venafi-certmanager"
)

// TestEachPermissionIsNeeded shares one control plane, because starting one takes most of the time.
func TestEachPermissionIsNeeded(t *testing.T) {
	w := newWorld(t)
	t.Run("with all permissions everything works", func(t *testing.T) { everythingWorks(t, w) })
	t.Run("the service", func(t *testing.T) {
		each(t, w, product.ServiceAccount, ofService, func(t *testing.T, _ effect) *product.Process {
			p := w.serve(t)
			_ = product.Eventually(t.Context(), 3*time.Second, func() error { return p.Ready(t.Context()) })
			_, _ = w.asks(t.Context(), p), w.tells(t.Context(), p, http.StatusAccepted)
			return p
		})
	})
	t.Run("the certificate manager", func(t *testing.T) {
		each(t, w, product.ManagerAccount, ofManager, func(t *testing.T, e effect) *product.Process {
			w.reset(t, e.spoilt)
			return w.manage(t)
		})
	})
}

// watchedFor is how long nothing may come right without a permission. With all of them everything does in less.
const watchedFor = 3 * time.Second

// each takes an account's permissions away one by one, and wants of each that it was known what for it is there.
func each(t *testing.T, w *world, account string, effects map[string]effect, start func(*testing.T, effect) *product.Process) {
	known := maps.Clone(effects)
	for _, p := range permissions(t, account) {
		t.Run(p.String(), func(t *testing.T) {
			e, ok := known[p.String()]
			if !ok {
				t.Fatal("nobody knows what this permission is for")
			}
			delete(known, p.String())
			w.take(t, p, p.without(), false)
			defer w.take(t, p, p.role, true)
			process := start(t, e)
			told(t, process, p)
			for deadline := time.Now().Add(watchedFor); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
				if err := e.broken(t, w, process); err != nil {
					t.Fatalf("it works without: %v\n%s", err, process.Logged())
				}
			}
			select {
			case <-process.Ended:
				t.Errorf("the process ended:\n%s", process.Logged())
			default:
			}
			if err := process.End(); err != nil {
				t.Error(err)
			}
		})
	}
	for name := range known {
		t.Errorf("%s is not granted", name)
	}
}

// everythingWorks shows that with all permissions nothing is as without one. It leaves certificates for the service.
func everythingWorks(t *testing.T, w *world) {
	for name, e := range ofManager {
		t.Run("not as without "+name, func(t *testing.T) {
			w.managed(t, e.spoilt, func(manager *product.Process) error {
				if e.broken(t, w, manager) == nil {
					return errors.New("it is as if without")
				}
				return nil
			})
		})
	}
	w.managed(t, "", func(*product.Process) error {
		for _, object := range []string{caSecret, tlsSecret, callerSecret, caBundle, epoch} {
			if missing(object).broken(t, w, nil) == nil {
				return errors.New("there is no " + object)
			}
		}
		return nil
	})
	service := w.serve(t)
	err := product.Eventually(t.Context(), 20*time.Second, func() error {
		return errors.Join(service.Ready(t.Context()), w.connected(t.Context(), service), w.asks(t.Context(), service), w.tells(t.Context(), service, http.StatusAccepted))
	})
	if err := errors.Join(err, service.End(), unrefused(service)); err != nil {
		t.Error(err)
	}
}

// managed starts a certificate manager anew, waits until something holds, and wants nothing to be refused.
func (w *world) managed(t *testing.T, spoilt string, holds func(*product.Process) error) {
	t.Helper()
	w.reset(t, spoilt)
	manager, began := w.manage(t), time.Now()
	err := product.Eventually(t.Context(), 20*time.Second, func() error { return holds(manager) })
	t.Logf("after %s", time.Since(began))
	if err := errors.Join(err, manager.End(), unrefused(manager)); err != nil {
		t.Error(err)
	}
}

func unrefused(p *product.Process) error {
	if strings.Contains(p.Logged(), "is forbidden: User") {
		return fmt.Errorf("it was refused something:\n%s", p.Logged())
	}
	return nil
}

// serve starts the service with the flags of the manifests that name objects.
func (w *world) serve(t *testing.T) *product.Process {
	t.Helper()
	return product.Kept(t)(w.product.Serve(t.Context(), "--allowLoopback", "--insecureRegistries", w.registry.Host(),
		"--imagePullSecrets=regcred", "--pluginConfigMap=notation-plugin-config", "--pluginConfigSecret=notation-plugin-config"))
}

func (w *world) manage(t *testing.T) *product.Process {
	t.Helper()
	return product.Kept(t)(w.product.Manage(t.Context()))
}

// asks has the service verify an image.
func (w *world) asks(ctx context.Context, p *product.Process) error {
	return want(http.StatusOK)(p.Check(ctx, "Bearer "+w.kyverno, product.PodRequest(w.image, scenariotest.PolicyName)))
}

// tells the service of a change, which it tells the other replicas, and wants a status.
func (w *world) tells(ctx context.Context, p *product.Process, status int) error {
	id := rand.Text() // else it is known already
	return want(status)(p.Send(ctx, w.sender, id, "update", "TrustStore", `{"spec":{"trustStoreName":"acme","type":"ca"}}`))
}

func want(status int) func(int, string, error) error {
	return func(got int, text string, err error) error {
		if err == nil && got != status {
			err = fmt.Errorf("%d %s; want %d", got, text, status)
		}
		return err
	}
}

func (w *world) connected(ctx context.Context, p *product.Process) error {
	return says(ctx, p, "kyverno_notation_venafi_apiserver_connected 1\n")
}

// says wants a line of the metrics.
func says(ctx context.Context, p *product.Process, line string) error {
	text, err := p.Get(ctx, "/metrics")
	if err == nil && !strings.Contains(text, line) {
		err = fmt.Errorf("the metrics lack %q", line)
	}
	return err
}

var (
	notReady = effect{broken: func(t *testing.T, _ *world, p *product.Process) error {
		return want(http.StatusServiceUnavailable)(p.Ask(t.Context(), "/health/readiness"))
	}}
	notConnected = effect{broken: func(t *testing.T, _ *world, p *product.Process) error {
		return says(t.Context(), p, "kyverno_notation_venafi_apiserver_connected 0\n")
	}}
	callersAreUnknown = effect{broken: func(t *testing.T, w *world, p *product.Process) error {
		return want(http.StatusServiceUnavailable)(p.Check(t.Context(), "Bearer "+w.kyverno, product.PodRequest(w.image, scenariotest.PolicyName)))
	}}
	eventsAreNotTaken = effect{broken: func(t *testing.T, w *world, p *product.Process) error {
		return w.tells(t.Context(), p, http.StatusServiceUnavailable)
	}}
	leaseIsNotRenewed = effect{broken: func(t *testing.T, w *world, _ *product.Process) error {
		times := strings.Fields(w.kubectl(t, "get", lease, "--namespace="+product.Namespace, "--ignore-not-found", "-o", "jsonpath={.spec.acquireTime} {.spec.renewTime}"))
		if len(times) == 2 && times[0] != times[1] {
			return fmt.Errorf("acquired %s, renewed %s", times[0], times[1])
		}
		return nil
	}}
	nobodyIsWarned = effect{broken: func(t *testing.T, w *world, _ *product.Process) error {
		if events := w.kubectl(t, "get", "events.events.k8s.io", "--namespace=default", "-o", `jsonpath={.items[?(@.regarding.name=="ageing")].reason}`); events != "" {
			return fmt.Errorf("there is the event %s", events)
		}
		return nil
	}}
)

func noStatus(resource string) effect {
	return effect{broken: func(t *testing.T, w *world, _ *product.Process) error {
		if status := w.kubectl(t, "get", resource, "-o", "jsonpath={.status}"); status != "" {
			return fmt.Errorf("its status is %s", status)
		}
		return nil
	}}
}

func missing(object string) effect {
	return effect{broken: func(t *testing.T, w *world, _ *product.Process) error {
		if w.kubectl(t, "get", object, "--namespace="+product.Namespace, "--ignore-not-found", "-o", "name") != "" {
			return errors.New("there is " + object)
		}
		return nil
	}}
}

func unrepaired(object string) effect {
	return effect{spoilt: object, broken: func(t *testing.T, w *world, _ *product.Process) error {
		data := w.kubectl(t, "get", object, "--namespace="+product.Namespace, "-o", "jsonpath={.data}")
		if strings.Contains(data, spoilt) || strings.Contains(data, spoiltEncoded) {
			return nil
		}
		return errors.New(object + " was repaired")
	}}
}

// changesAreLate makes changes, each when the one before was seen. What is watched is seen at once; else it takes a list,
// and the fifth of these comes five seconds after the first.
func changesAreLate(change func(*testing.T, *world) (seen func() error)) effect {
	return effect{broken: func(t *testing.T, w *world, _ *product.Process) error {
		const changes, limit = 5, 4 * time.Second
		began := time.Now()
		for range changes {
			if product.Eventually(t.Context(), limit-time.Since(began), change(t, w)) != nil {
				return nil
			}
		}
		return fmt.Errorf("%d changes were seen within %s", changes, time.Since(began))
	}}
}

// deleted is a change that is seen when there is another object of the name.
func deleted(object string) func(*testing.T, *world) func() error {
	return func(t *testing.T, w *world) func() error {
		id := func() string {
			return w.kubectl(t, "get", object, "--namespace="+product.Namespace, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}")
		}
		old := id()
		w.kubectl(t, "delete", object, "--namespace="+product.Namespace, "--ignore-not-found")
		return func() error {
			if now := id(); now == "" || now == old {
				return fmt.Errorf("%s is not there again", object)
			}
			return nil
		}
	}
}

func newPolicy(t *testing.T, w *world) func() error {
	return made(t, w, "trustpolicy/", func(name string) string { return scenariotest.TrustPolicy(name, "strict", "ca:acme") })
}

func newStore(t *testing.T, w *world) func() error {
	return made(t, w, "truststore/", func(name string) string { return scenariotest.TrustStore(name, w.ageing) })
}

// made is a change that is seen when the new resource has a status.
func made(t *testing.T, w *world, kind string, manifest func(name string) string) func() error {
	name := "new-" + strings.ToLower(rand.Text())
	w.apply(t, manifest(name))
	return func() error {
		if w.kubectl(t, "get", kind+name, "-o", "jsonpath={.status}") == "" {
			return fmt.Errorf("%s has no status", name)
		}
		return nil
	}
}
