//go:build e2e

package rbac

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// effect is how a missing permission shows: broken is nil as long as it does.
type effect struct {
	spoilt  string                                                // an object that exists with unusable content; "" for none
	settled func(*testing.T, *fixture, *deployment.Process) error // holds before broken has to; nil where it does at once
	broken  func(*testing.T, *fixture, *deployment.Process) error
}

// ofService is the effect of each permission of the service.
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
	"list secrets/kyverno-notation-venafi-records":   notConnected,
	"watch secrets/kyverno-notation-venafi-records":  notConnected,
	"list configmaps/notation-plugin-config":         notConnected,
	"watch configmaps/notation-plugin-config":        notConnected,
	"list configmaps/kyverno-notation-venafi-epoch":  notConnected,
	"watch configmaps/kyverno-notation-venafi-epoch": notConnected,
	"patch configmaps/kyverno-notation-venafi-epoch": eventsAreNotTaken,
	"create events":                                  deniedWithoutEvent,
	"patch events":                                   repeatedWithoutEvent,
	"list configmaps/trust-bundle in security":       bundleIsNotTrusted("configmap"),
	"watch configmaps/trust-bundle in security":      bundleIsNotTrusted("configmap"),
	"list secrets/trust-bundle in security":          bundleIsNotTrusted("secret"),
	"watch secrets/trust-bundle in security":         bundleIsNotTrusted("secret"),
}

// ofManager is the effect of each permission of the certificate manager.
var ofManager = map[string]effect{
	"list trustpolicies":                                      noStatus("trustpolicy/" + scenariotest.PolicyName),
	"watch trustpolicies":                                     changesAreLate(newPolicy),
	"list truststores":                                        noStatus("truststore/acme"),
	"watch truststores":                                       changesAreLate(newStore),
	"patch trustpolicies/status":                              noStatus("trustpolicy/" + scenariotest.PolicyName),
	"patch truststores/status":                                noStatus("truststore/acme"),
	"create secrets":                                          missing(caSecret),
	"create configmaps":                                       missing(caBundle),
	"get secrets/kyverno-notation-venafi-ca":                  missing(caSecret),
	"list secrets/kyverno-notation-venafi-ca":                 changesAreLate(deleted(caSecret)),
	"watch secrets/kyverno-notation-venafi-ca":                changesAreLate(deleted(caSecret)),
	"update secrets/kyverno-notation-venafi-ca":               unrepaired(caSecret),
	"get secrets/kyverno-notation-venafi-tls":                 missing(tlsSecret),
	"list secrets/kyverno-notation-venafi-tls":                changesAreLate(deleted(tlsSecret)),
	"watch secrets/kyverno-notation-venafi-tls":               changesAreLate(deleted(tlsSecret)),
	"update secrets/kyverno-notation-venafi-tls":              unrepaired(tlsSecret),
	"get secrets/kyverno-notation-venafi-caller":              missing(caSecret),
	"list secrets/kyverno-notation-venafi-caller":             changesAreLate(deleted(callerSecret)),
	"watch secrets/kyverno-notation-venafi-caller":            changesAreLate(deleted(callerSecret)),
	"update secrets/kyverno-notation-venafi-caller":           unrepaired(callerSecret),
	"get secrets/kyverno-notation-venafi-records":             missing(caSecret),
	"list secrets/kyverno-notation-venafi-records":            changesAreLate(deleted(recordSecret)),
	"watch secrets/kyverno-notation-venafi-records":           changesAreLate(deleted(recordSecret)),
	"update secrets/kyverno-notation-venafi-records":          unrepaired(recordSecret),
	"get configmaps/kyverno-notation-venafi-records":          missing(caSecret),
	"list configmaps/kyverno-notation-venafi-records":         changesAreLate(deleted(publicKeys)),
	"watch configmaps/kyverno-notation-venafi-records":        changesAreLate(deleted(publicKeys)),
	"update configmaps/kyverno-notation-venafi-records":       unrepaired(publicKeys),
	"get configmaps/kyverno-notation-venafi-ca":               missing(caBundle),
	"list configmaps/kyverno-notation-venafi-ca":              changesAreLate(deleted(caBundle)),
	"watch configmaps/kyverno-notation-venafi-ca":             changesAreLate(deleted(caBundle)),
	"update configmaps/kyverno-notation-venafi-ca":            unrepaired(caBundle),
	"get configmaps/kyverno-notation-venafi-epoch":            missing(caSecret),
	"list configmaps/kyverno-notation-venafi-epoch":           changesAreLate(deleted(epoch)),
	"watch configmaps/kyverno-notation-venafi-epoch":          changesAreLate(deleted(epoch)),
	"get configmaps/kyverno-notation-venafi-ca in kyverno":    notCopied,
	"update configmaps/kyverno-notation-venafi-ca in kyverno": notCopied,
	"create leases": missing(lease),
	"get leases/kyverno-notation-venafi-certmanager":    missing(lease),
	"update leases/kyverno-notation-venafi-certmanager": leaseIsNotRenewed,
	"create events": nobodyIsWarned,
	"list configmaps/trust-bundle in security":  bundleIsNotReady("configmap"),
	"watch configmaps/trust-bundle in security": bundleIsNotReady("configmap"),
	"list secrets/trust-bundle in security":     bundleIsNotReady("secret"),
	"watch secrets/trust-bundle in security":    bundleIsNotReady("secret"),
}

const (
	caSecret     = "secret/kyverno-notation-venafi-ca"
	tlsSecret    = "secret/kyverno-notation-venafi-tls"
	callerSecret = "secret/kyverno-notation-venafi-caller"
	recordSecret = "secret/kyverno-notation-venafi-records"
	publicKeys   = "configmap/kyverno-notation-venafi-records"
	caBundle     = "configmap/kyverno-notation-venafi-ca"
	epoch        = "configmap/kyverno-notation-venafi-epoch"
	lease        = "lease/kyverno-notation-venafi-certmanager"
)

// TestEachPermissionIsNeeded shares one control plane, because starting one takes most of the time.
func TestEachPermissionIsNeeded(t *testing.T) {
	fx := newFixture(t)
	t.Run("with all permissions everything works", func(t *testing.T) { everythingWorks(t, fx) })
	t.Run("the service", func(t *testing.T) {
		each(t, fx, deployment.ServiceAccount, ofService, func(t *testing.T, _ effect) *deployment.Process {
			p := fx.serve(t)
			_ = deployment.Eventually(t.Context(), 3*time.Second, func() error { return p.Ready(t.Context()) })
			_, _ = fx.asks(t.Context(), p), fx.tells(t.Context(), p, http.StatusAccepted)
			_ = fx.denialEvent(t, p, "{.items[*].reason}")
			return p
		})
	})
	t.Run("the certificate manager", func(t *testing.T) {
		each(t, fx, deployment.ManagerAccount, ofManager, func(t *testing.T, e effect) *deployment.Process {
			fx.reset(t, e.spoilt)
			return fx.manage(t)
		})
	})
}

// watchedFor is how long the effect of a missing permission must last. With all permissions everything works in less time.
const watchedFor = 3 * time.Second

// each removes the permissions of an account one by one, and expects the known effect of each.
func each(t *testing.T, fx *fixture, account string, effects map[string]effect, start func(*testing.T, effect) *deployment.Process) {
	known := maps.Clone(effects)
	for _, p := range permissions(t, account) {
		t.Run(p.String(), func(t *testing.T) {
			e, ok := known[p.String()]
			if !ok {
				t.Fatal("nobody knows what this permission is for")
			}
			delete(known, p.String())
			fx.take(t, p, p.Without(), false)
			defer fx.take(t, p, p.Role, true)
			process := start(t, e)
			told(t, process, p)
			if e.settled != nil {
				if err := deployment.Eventually(t.Context(), deployment.Patience, func() error { return e.settled(t, fx, process) }); err != nil {
					t.Fatalf("it works without: %v\n%s", err, process.Logged())
				}
			}
			for deadline := time.Now().Add(watchedFor); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
				if err := e.broken(t, fx, process); err != nil {
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

// everythingWorks expects that no effect shows with all permissions. It leaves certificates for the service.
func everythingWorks(t *testing.T, fx *fixture) {
	for name, e := range ofManager {
		t.Run("not as without "+name, func(t *testing.T) {
			fx.managed(t, e.spoilt, func(manager *deployment.Process) error {
				if e.broken(t, fx, manager) == nil {
					return errors.New("it is as if without")
				}
				return nil
			})
		})
	}
	fx.managed(t, "", func(*deployment.Process) error {
		for _, object := range []string{caSecret, tlsSecret, callerSecret, recordSecret, caBundle, publicKeys, epoch} {
			if missing(object).broken(t, fx, nil) == nil {
				return errors.New("there is no " + object)
			}
		}
		return nil
	})
	service := fx.serve(t)
	err := deployment.Eventually(t.Context(), deployment.Patience, func() error {
		err := errors.Join(service.Ready(t.Context()), fx.connected(t.Context(), service), fx.asks(t.Context(), service), fx.tells(t.Context(), service, http.StatusAccepted))
		for _, policy := range []string{"configmap", "secret"} { // with the certificates of such an object
			err = errors.Join(err, want(http.StatusOK)(service.Check(t.Context(), "Bearer "+fx.kyverno, deployment.PodRequest(fx.image, policy))))
		}
		return err
	})
	for _, e := range []effect{deniedWithoutEvent, repeatedWithoutEvent} {
		err = errors.Join(err, deployment.Eventually(t.Context(), deployment.Patience, func() error {
			if e.broken(t, fx, service) == nil {
				return errors.New("there is no Event on a denial, or its repetitions are not told")
			}
			return nil
		}))
	}
	if err := errors.Join(err, service.End(), unrefused(service)); err != nil {
		t.Error(err)
	}
}

// managed starts a new certificate manager, waits until a condition holds, and expects that nothing was refused.
func (fx *fixture) managed(t *testing.T, spoilt string, holds func(*deployment.Process) error) {
	t.Helper()
	fx.reset(t, spoilt)
	manager, began := fx.manage(t), time.Now()
	err := deployment.Eventually(t.Context(), deployment.Patience, func() error { return holds(manager) })
	t.Logf("after %s", time.Since(began))
	if err := errors.Join(err, manager.End(), unrefused(manager)); err != nil {
		t.Error(err)
	}
}

func unrefused(p *deployment.Process) error {
	if strings.Contains(p.Logged(), "is forbidden: User") {
		return fmt.Errorf("it was refused something:\n%s", p.Logged())
	}
	return nil
}

// serve starts the service with the flags of the manifests that name objects.
func (fx *fixture) serve(t *testing.T) *deployment.Process {
	t.Helper()
	return deployment.Kept(t)(fx.deployment.Serve(t.Context(), "--allowLoopback", "--insecureRegistries", fx.registry.Host(),
		"--imagePullSecrets=regcred", "--pluginConfigMap=notation-plugin-config", "--pluginConfigSecret=notation-plugin-config",
		"--decisionLog="+filepath.Join(t.TempDir(), "decisions.jsonl"), "--denialEvents"))
}

func (fx *fixture) manage(t *testing.T) *deployment.Process {
	t.Helper()
	return deployment.Kept(t)(fx.deployment.Manage(t.Context()))
}

// asks has the service verify an image.
func (fx *fixture) asks(ctx context.Context, p *deployment.Process) error {
	return want(http.StatusOK)(p.Check(ctx, "Bearer "+fx.kyverno, deployment.PodRequest(fx.image, scenariotest.PolicyName)))
}

// tells sends the service an event about a change, and expects a status.
func (fx *fixture) tells(ctx context.Context, p *deployment.Process, status int) error {
	id := rand.Text() // an ID that was sent before would be ignored
	return want(status)(p.Send(ctx, fx.sender, id, "update", "TrustStore", `{"spec":{"trustStoreName":"acme","type":"ca"}}`))
}

func want(status int) func(int, string, error) error {
	return func(got int, text string, err error) error {
		if err == nil && got != status {
			err = fmt.Errorf("%d %s; want %d", got, text, status)
		}
		return err
	}
}

func (fx *fixture) connected(ctx context.Context, p *deployment.Process) error {
	return says(ctx, p, "kyverno_notation_venafi_apiserver_connected 1\n")
}

// says expects a line of the metrics.
func says(ctx context.Context, p *deployment.Process, line string) error {
	text, err := p.Get(ctx, "/metrics")
	if err == nil && !strings.Contains(text, line) {
		err = fmt.Errorf("the metrics lack %q", line)
	}
	return err
}

var (
	notReady = effect{broken: func(t *testing.T, _ *fixture, p *deployment.Process) error {
		return want(http.StatusServiceUnavailable)(p.Ask(t.Context(), "/health/readiness"))
	}}
	notConnected = effect{broken: func(t *testing.T, _ *fixture, p *deployment.Process) error {
		return says(t.Context(), p, "kyverno_notation_venafi_apiserver_connected 0\n")
	}}
	callersAreUnknown = effect{broken: func(t *testing.T, fx *fixture, p *deployment.Process) error {
		return want(http.StatusServiceUnavailable)(p.Check(t.Context(), "Bearer "+fx.kyverno, deployment.PodRequest(fx.image, scenariotest.PolicyName)))
	}}
	eventsAreNotTaken = effect{broken: func(t *testing.T, fx *fixture, p *deployment.Process) error {
		return fx.tells(t.Context(), p, http.StatusServiceUnavailable)
	}}
	deniedWithoutEvent = effect{broken: func(t *testing.T, fx *fixture, p *deployment.Process) error {
		return fx.denialEvent(t, p, "{.items[*].reason}")
	}}
	repeatedWithoutEvent = effect{broken: func(t *testing.T, fx *fixture, p *deployment.Process) error {
		return fx.denialEvent(t, p, "{.items[*].series.count}")
	}}
	leaseIsNotRenewed = effect{broken: func(t *testing.T, fx *fixture, _ *deployment.Process) error {
		times := strings.Fields(fx.kubectl(t, "get", lease, "--namespace="+deployment.Namespace, "--ignore-not-found", "-o", "jsonpath={.spec.acquireTime} {.spec.renewTime}"))
		if len(times) == 2 && times[0] != times[1] {
			return fmt.Errorf("acquired %s, renewed %s", times[0], times[1])
		}
		return nil
	}}
	nobodyIsWarned = effect{broken: func(t *testing.T, fx *fixture, _ *deployment.Process) error {
		if events := fx.kubectl(t, "get", "events.events.k8s.io", "--namespace=default", "-o", `jsonpath={.items[?(@.regarding.name=="ageing")].reason}`); events != "" {
			return fmt.Errorf("there is the event %s", events)
		}
		return nil
	}}
)

// denialEvent has pods denied, and expects that of a new Event on them a field is not there.
func (fx *fixture) denialEvent(t *testing.T, p *deployment.Process, field string) error {
	name := "web-" + strings.ToLower(rand.Text())
	body := fmt.Sprintf(`{"trustPolicy":"absent","object":{"kind":"Pod","metadata":{"namespace":"default","generateName":"%[1]s-","ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":%[1]q,"uid":"u","controller":true}]},"spec":{"containers":[{"name":"c","image":%[2]q}]}}}`, name, fx.image)
	for range 2 {
		if err := want(http.StatusNotAcceptable)(p.Check(t.Context(), "Bearer "+fx.kyverno, []byte(body))); err != nil {
			return nil // it is not ready yet, and so tells nobody
		}
	}
	time.Sleep(time.Second) // the Event is written beside the answer
	path := strings.Replace(field, "[*]", `[?(@.regarding.name=="`+name+`")]`, 1)
	if found := fx.kubectl(t, "get", "events.events.k8s.io", "--namespace=default", "-o", "jsonpath="+path); found != "" {
		return fmt.Errorf("%s is %s", field, found)
	}
	return nil
}

// mayNotBeRead is in denials and statuses where the permission on a bundle lacks.
const mayNotBeRead = "may not be read"

// bundleIsNotTrusted is that a trust policy denies, whose trust store names an object of a kind.
func bundleIsNotTrusted(policy string) effect {
	denied := func(t *testing.T, fx *fixture, p *deployment.Process) error {
		status, text, err := p.Check(t.Context(), "Bearer "+fx.kyverno, deployment.PodRequest(fx.image, policy))
		if err == nil && (status != http.StatusNotAcceptable || !strings.Contains(text, mayNotBeRead)) {
			err = fmt.Errorf("%d %s", status, text)
		}
		return err
	}
	return effect{settled: denied, broken: denied}
}

// bundleIsNotReady is that the status of such a trust store says that it cannot be used.
func bundleIsNotReady(store string) effect {
	ready := func(t *testing.T, fx *fixture, field string) string {
		return fx.kubectl(t, "get", "truststore/"+store, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].`+field+`}`)
	}
	return effect{
		settled: func(t *testing.T, fx *fixture, _ *deployment.Process) error {
			if message := ready(t, fx, "message"); !strings.Contains(message, mayNotBeRead) {
				return fmt.Errorf("the status says %q", message)
			}
			return nil
		},
		broken: func(t *testing.T, fx *fixture, _ *deployment.Process) error {
			if ready(t, fx, "status") == "True" {
				return errors.New("it is ready")
			}
			return nil
		},
	}
}

// notCopied is that Kyverno's namespace lacks the CAs.
var notCopied = effect{broken: func(t *testing.T, fx *fixture, _ *deployment.Process) error {
	if data := fx.kubectl(t, "get", caBundle, "--namespace="+bed.KyvernoNamespace, "-o", "jsonpath={.data}"); data != "" {
		return fmt.Errorf("its data is %s", data)
	}
	return nil
}}

func noStatus(resource string) effect {
	return effect{broken: func(t *testing.T, fx *fixture, _ *deployment.Process) error {
		if status := fx.kubectl(t, "get", resource, "-o", "jsonpath={.status}"); status != "" {
			return fmt.Errorf("its status is %s", status)
		}
		return nil
	}}
}

func missing(object string) effect {
	return effect{broken: func(t *testing.T, fx *fixture, _ *deployment.Process) error {
		if fx.kubectl(t, "get", object, "--namespace="+deployment.Namespace, "--ignore-not-found", "-o", "name") != "" {
			return errors.New("there is " + object)
		}
		return nil
	}}
}

func unrepaired(object string) effect {
	return effect{spoilt: object, broken: func(t *testing.T, fx *fixture, _ *deployment.Process) error {
		data := fx.kubectl(t, "get", object, "--namespace="+deployment.Namespace, "-o", "jsonpath={.data}")
		if strings.Contains(data, spoilt) || strings.Contains(data, spoiltEncoded) {
			return nil
		}
		return errors.New(object + " was repaired")
	}}
}

// changesAreLate makes changes, each when the one before was seen and all that followed from it is done: what a watch of another
// object led to would show a change as well. What is watched is seen at once; else it takes a list, and the fifth of these comes
// twelve seconds after the first.
func changesAreLate(change func(*testing.T, *fixture) (seen func() error)) effect {
	return effect{broken: func(t *testing.T, fx *fixture, p *deployment.Process) error {
		const changes, limit = 5, 7 * time.Second
		began := time.Now()
		for range changes {
			atRest(p, began.Add(limit))
			if deployment.Eventually(t.Context(), limit-time.Since(began), change(t, fx)) != nil {
				return nil
			}
		}
		return fmt.Errorf("%d changes were seen within %s", changes, time.Since(began))
	}}
}

// atRest waits until a process has logged nothing for half a second, or until a time.
func atRest(p *deployment.Process, until time.Time) {
	logged := p.Logged()
	for since := time.Now(); time.Since(since) < 500*time.Millisecond && time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		if now := p.Logged(); now != logged {
			logged, since = now, time.Now()
		}
	}
}

// deleted is a change that is seen when there is another object of the name.
func deleted(object string) func(*testing.T, *fixture) func() error {
	return func(t *testing.T, fx *fixture) func() error {
		id := func() string {
			return fx.kubectl(t, "get", object, "--namespace="+deployment.Namespace, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}")
		}
		old := id()
		fx.kubectl(t, "delete", object, "--namespace="+deployment.Namespace, "--ignore-not-found")
		return func() error {
			if now := id(); now == "" || now == old {
				return fmt.Errorf("%s is not there again", object)
			}
			return nil
		}
	}
}

func newPolicy(t *testing.T, fx *fixture) func() error {
	return made(t, fx, "trustpolicy/", func(name string) string { return scenariotest.TrustPolicy(name, "strict", "ca:acme") })
}

func newStore(t *testing.T, fx *fixture) func() error {
	return made(t, fx, "truststore/", func(name string) string { return scenariotest.TrustStore(name, fx.ageing) })
}

// made is a change that is seen when the new resource has a status.
func made(t *testing.T, fx *fixture, kind string, manifest func(name string) string) func() error {
	name := "new-" + strings.ToLower(rand.Text())
	fx.apply(t, manifest(name))
	return func() error {
		if fx.kubectl(t, "get", kind+name, "-o", "jsonpath={.status}") == "" {
			return fmt.Errorf("%s has no status", name)
		}
		return nil
	}
}
