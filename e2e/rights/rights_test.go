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
	"github.com/nirmata/kyverno-notation-venafi/testdata/scenario"
)

// effect is what shows that a permission is wanting: broken gives nil where it shows.
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
	"list configmaps/notation-plugin-config":         notConnected,
	"watch configmaps/notation-plugin-config":        notConnected,
	"list configmaps/kyverno-notation-venafi-epoch":  notConnected,
	"watch configmaps/kyverno-notation-venafi-epoch": notConnected,
	"patch configmaps/kyverno-notation-venafi-epoch": eventsAreNotTaken,
}

// ofManager is what each permission of the certificate manager is for.
var ofManager = map[string]effect{
	"list trustpolicies":                                noStatus("trustpolicy/" + scenario.PolicyName),
	"watch trustpolicies":                               changesAreMissed,
	"list truststores":                                  noStatus("truststore/acme"),
	"watch truststores":                                 changesAreMissed,
	"patch trustpolicies/status":                        noStatus("trustpolicy/" + scenario.PolicyName),
	"patch truststores/status":                          noStatus("truststore/acme"),
	"create secrets":                                    missing(caSecret),
	"create configmaps":                                 missing(caBundle),
	"get secrets/kyverno-notation-venafi-ca":            missing(caSecret),
	"list secrets/kyverno-notation-venafi-ca":           changesAreMissed,
	"watch secrets/kyverno-notation-venafi-ca":          changesAreMissed,
	"update secrets/kyverno-notation-venafi-ca":         unrepaired(caSecret),
	"get secrets/kyverno-notation-venafi-tls":           missing(tlsSecret),
	"list secrets/kyverno-notation-venafi-tls":          changesAreMissed,
	"watch secrets/kyverno-notation-venafi-tls":         changesAreMissed,
	"update secrets/kyverno-notation-venafi-tls":        unrepaired(tlsSecret),
	"get configmaps/kyverno-notation-venafi-ca":         missing(caBundle),
	"list configmaps/kyverno-notation-venafi-ca":        changesAreMissed,
	"watch configmaps/kyverno-notation-venafi-ca":       changesAreMissed,
	"update configmaps/kyverno-notation-venafi-ca":      unrepaired(caBundle),
	"get configmaps/kyverno-notation-venafi-epoch":      missing(caSecret),
	"list configmaps/kyverno-notation-venafi-epoch":     changesAreMissed,
	"watch configmaps/kyverno-notation-venafi-epoch":    changesAreMissed,
	"create leases":                                     missing(lease),
	"get leases/kyverno-notation-venafi-certmanager":    missing(lease),
	"update leases/kyverno-notation-venafi-certmanager": leaseIsNotRenewed,
	"create events":                                     nobodyIsWarned,
}

const (
	caSecret  = "secret/kyverno-notation-venafi-ca"
	tlsSecret = "secret/kyverno-notation-venafi-tls"
	caBundle  = "configmap/kyverno-notation-venafi-ca"
	epoch     = "configmap/kyverno-notation-venafi-epoch"
	lease     = "lease/kyverno-notation-venafi-certmanager"
)

// TestEachPermissionIsNeeded shares one control plane, because starting one takes most of the time.
func TestEachPermissionIsNeeded(t *testing.T) {
	w := newWorld(t)
	t.Run("with all permissions everything works", func(t *testing.T) { everythingWorks(t, w) })
	t.Run("the service", func(t *testing.T) {
		each(t, w, product.ServiceAccount, ofService, func(t *testing.T, _ effect) *product.Process {
			p := w.serve(t)
			_ = product.Eventually(t.Context(), 3*time.Second, func() error { return p.Ready(t.Context()) })
			_, _ = w.asks(t.Context(), p), w.tells(t.Context(), p)
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
			if err := e.broken(t, w, process); err != nil {
				t.Errorf("it works without: %v\n%s", err, process.Logged())
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

// everythingWorks starts with nothing, and then with what is of no use. It leaves certificates for the service.
func everythingWorks(t *testing.T, w *world) {
	for _, before := range []string{"", caSecret, tlsSecret, caBundle} {
		w.reset(t, before)
		manager := w.manage(t)
		err := product.Eventually(t.Context(), 20*time.Second, func() error {
			for name, e := range ofManager {
				if e.spoilt == "" || e.spoilt == before {
					if e.broken(t, w, manager) == nil {
						return fmt.Errorf("as if without %s", name)
					}
				}
			}
			return nil
		})
		if err := errors.Join(err, manager.End(), unrefused(manager)); err != nil {
			t.Errorf("%q was there: %v", before, err)
		}
	}
	service := w.serve(t)
	err := product.Eventually(t.Context(), 20*time.Second, func() error {
		return errors.Join(service.Ready(t.Context()), w.connected(t.Context(), service), w.asks(t.Context(), service), w.tells(t.Context(), service))
	})
	if err := errors.Join(err, service.End(), unrefused(service)); err != nil {
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
	return product.Kept(t)(w.product.Serve(t.Context(), "--insecureRegistries", w.registry.Host(),
		"--imagePullSecrets=regcred", "--pluginConfigMap=notation-plugin-config", "--pluginConfigSecret=notation-plugin-config"))
}

func (w *world) manage(t *testing.T) *product.Process {
	t.Helper()
	return product.Kept(t)(w.product.Manage(t.Context()))
}

// asks has the service verify an image.
func (w *world) asks(ctx context.Context, p *product.Process) error {
	return want(http.StatusOK)(p.Check(ctx, "Bearer "+w.kyverno, product.PodRequest(w.image, scenario.PolicyName)))
}

// tells the service of a change, which it tells the other replicas.
func (w *world) tells(ctx context.Context, p *product.Process) error {
	id := rand.Text() // else it is known already
	return want(http.StatusAccepted)(p.Send(ctx, w.sender, id, "update", "TrustStore", `{"spec":{"trustStoreName":"acme","type":"ca"}}`))
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
	text, err := p.Get(ctx, "/metrics")
	if err == nil && !strings.Contains(text, "kyverno_notation_venafi_apiserver_connected 1\n") {
		err = errors.New("the API server is not watched")
	}
	return err
}

// opposite gives nil for an error, and an error for none.
func opposite(err error, works string) error {
	if err == nil {
		return errors.New(works)
	}
	return nil
}

var (
	notReady = effect{broken: func(t *testing.T, _ *world, p *product.Process) error {
		return opposite(p.Ready(t.Context()), "it is ready")
	}}
	notConnected = effect{broken: func(t *testing.T, w *world, p *product.Process) error {
		return opposite(w.connected(t.Context(), p), "it watches everything")
	}}
	callersAreUnknown = effect{broken: func(t *testing.T, w *world, p *product.Process) error {
		return want(http.StatusServiceUnavailable)(p.Check(t.Context(), "Bearer "+w.kyverno, product.PodRequest(w.image, scenario.PolicyName)))
	}}
	eventsAreNotTaken = effect{broken: func(t *testing.T, w *world, p *product.Process) error {
		return opposite(w.tells(t.Context(), p), "an event was taken")
	}}
	changesAreMissed = effect{broken: func(_ *testing.T, _ *world, p *product.Process) error {
		if !strings.Contains(p.Logged(), "cannot be watched") {
			return errors.New("it watches everything")
		}
		return nil
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
