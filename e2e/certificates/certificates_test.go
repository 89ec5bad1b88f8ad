//go:build e2e

package certificates

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
)

// bundle reads what policies read.
func (fx *fixture) bundle(t *testing.T) string {
	t.Helper()
	return fx.kubectl(t, "get", "-n", namespace, "configmap/kyverno-notation-venafi-ca", "-o", `jsonpath={.data.ca\.crt}`)
}

func (fx *fixture) serving(t *testing.T) string {
	t.Helper()
	output, _ := fx.bed.Kubectl(t.Context(), "", "get", "-n", namespace, "secret/kyverno-notation-venafi-tls", "--ignore-not-found", "-o", `jsonpath={.data.tls\.crt}`)
	return output
}

// TestCertificatesLookAfterThemselves shares one control plane, because starting one takes most of the time; what is
// there then is used by what comes after.
func TestCertificatesLookAfterThemselves(t *testing.T) {
	fx := newFixture(t)
	var managers []*process
	for range 3 {
		managers = append(managers, fx.manage(t))
	}
	replicas := []*process{fx.serve(t), fx.serve(t)}
	for _, p := range append(replicas, managers...) {
		eventually(t, deployment.Patience, "ready", func() error { return p.Ready(t.Context()) })
	}
	t.Run("both replicas serve a certificate of the published CA", func(t *testing.T) { fx.testServing(t, replicas) })
	t.Run("one of three managers acts", func(t *testing.T) { testOneActs(t, managers) })
	t.Run("what is deleted is back, and served", func(t *testing.T) { fx.testRepair(t, replicas) })
	t.Run("another takes over from a leader that was killed", func(t *testing.T) { fx.testTakeover(t, managers) })
	for _, manager := range managers {
		if err := manager.End(); err != nil {
			t.Error(err)
		}
	}
	t.Run("no call fails while CA and certificates are replaced", func(t *testing.T) { fx.testRotation(t, replicas) })
}

func (fx *fixture) testServing(t *testing.T, replicas []*process) {
	for i, replica := range replicas {
		if _, err := replica.call(t.Context(), fx.bundle(t)); err != nil {
			t.Errorf("replica %d: %v", i, err)
		}
	}
	if label := fx.kubectl(t, "get", "-n", namespace, "configmap/kyverno-notation-venafi-ca", "-o", `jsonpath={.metadata.labels.cache\.kyverno\.io/enabled}`); label != "true" {
		t.Errorf("the bundle's label is %q", label)
	}
}

// leader gives the one manager that leads.
func leader(managers []*process) (*process, error) {
	var leaders []*process
	for _, manager := range managers {
		select {
		case <-manager.Ended:
		default:
			if manager.leads() {
				leaders = append(leaders, manager)
			}
		}
	}
	if len(leaders) != 1 {
		return nil, fmt.Errorf("%d of %d managers lead", len(leaders), len(managers))
	}
	return leaders[0], nil
}

func testOneActs(t *testing.T, managers []*process) {
	acting := 0
	for _, manager := range managers {
		if strings.Contains(manager.Logged(), `"msg":"certificates"`) {
			acting++
		}
	}
	if _, err := leader(managers); err != nil || acting != 1 {
		t.Errorf("%d have acted; %v", acting, err)
	}
}

func (fx *fixture) testRepair(t *testing.T, replicas []*process) {
	old := fx.serving(t)
	bundle := fx.bundle(t) // that of a client which learns of nothing new
	began := time.Now()
	fx.kubectl(t, "delete", "-n", namespace, "secret/kyverno-notation-venafi-tls")
	eventually(t, deployment.Patience, "another certificate", func() error {
		if now := fx.serving(t); now == "" || now == old {
			return errors.New("it is not there")
		}
		return nil
	})
	t.Logf("the Secret was back after %s", time.Since(began))
	eventually(t, deployment.Patience, "both replicas serve the new one", func() error {
		for _, replica := range replicas {
			shown, err := replica.call(t.Context(), bundle)
			if err != nil {
				t.Fatal(err)
			}
			if want := fx.stored(t); shown.SerialNumber.Cmp(want) != 0 {
				return fmt.Errorf("it serves %s, and the Secret has %s", shown.SerialNumber, want)
			}
		}
		return nil
	})
	fx.kubectl(t, "delete", "-n", namespace, "configmap/kyverno-notation-venafi-ca")
	eventually(t, deployment.Patience, "the bundle", func() error {
		output, err := fx.bed.Kubectl(t.Context(), "", "get", "-n", namespace, "configmap/kyverno-notation-venafi-ca", "-o", `jsonpath={.data.ca\.crt}`)
		if err == nil && output != bundle {
			err = errors.New("it is another")
		}
		return err
	})
}

func (fx *fixture) testTakeover(t *testing.T, managers []*process) {
	first, err := leader(managers)
	if err != nil {
		t.Fatal(err)
	}
	first.Kill()
	killed := time.Now()
	fx.kubectl(t, "delete", "-n", namespace, "secret/kyverno-notation-venafi-tls")
	eventually(t, deployment.Patience, "another repairs", func() error {
		if fx.serving(t) == "" {
			return errors.New("the Secret is not there")
		}
		return nil
	})
	t.Logf("another took over after %s", time.Since(killed))
	if second, err := leader(managers); err != nil || second == first {
		t.Errorf("%v", err)
	}
}
