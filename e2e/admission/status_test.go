//go:build e2e

package admission

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// TestStatus reads the status of trust resources with kubectl; the leader of two certificate managers writes it.
func TestStatus(t *testing.T) {
	fx := shared
	managers := []*replica{fx.startManager(t), fx.startManager(t)}
	expired, err := signingtest.NewCA(signingtest.Options{CommonName: "Old", NotBefore: time.Now().AddDate(-2, 0, 0), NotAfter: time.Now().AddDate(-1, 0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	ageing, err := signingtest.NewCA(signingtest.Options{CommonName: "Ageing", NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(0, 0, 5)})
	if err != nil {
		t.Fatal(err)
	}
	twin := scenariotest.TrustStore("twin", fx.Scenario.Trusted.PEM())
	fx.Apply(t, strings.Join([]string{
		scenariotest.TrustStore("broken", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")),
		scenariotest.TrustStore("expired", expired.PEM()),
		scenariotest.TrustStore("ageing", ageing.PEM()),
		twin, strings.Replace(twin, "name: twin\n", "name: twin-again\n", 1),
		scenariotest.TrustPolicy("dangling", "strict", "ca:absent"),
		scenariotest.TrustPolicy("sound", "strict", "ca:acme"),
	}, "---\n"))
	shows := func(wanted ...string) {
		t.Helper()
		err := deployment.Eventually(t.Context(), deployment.Patience, func() error {
			output, err := fx.Bed.Kubectl(t.Context(), "", "get", "truststores,trustpolicies")
			if err != nil {
				return err
			}
			for _, words := range wanted {
				if !hasRow(output, strings.Fields(words)) {
					return fmt.Errorf("no row with %q in\n%s", words, output)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	shows("/broken False Invalid", "/expired False CertificateExpired", "/twin False NameClaimedTwice", "/twin-again False NameClaimedTwice",
		"/dangling False TrustStoreMissing", "/sound True Valid", "/acme True Valid", "/acme "+fx.Scenario.Trusted.Certificate.NotAfter.UTC().Format("2006-01-02T15:04:05Z"))
	if err := fx.statusOf(t.Context(), fx.Replicas[0], fx.Bearer(t), "signed", "sound"); err != nil {
		t.Errorf("the sound policy beside the broken ones: %v", err)
	}
	if leaders := leading(managers); leaders != 1 {
		t.Fatalf("%d of 2 certificate managers lead", leaders)
	}

	fx.tells(t, "ageing", "CertificateExpires", "expires within 7 days")
	fx.tells(t, "expired", "CertificateExpired", "has expired")

	// The leader dies; the other repairs what changes then.
	for _, manager := range managers {
		if leads(manager) {
			manager.Kill()
		}
	}
	fx.Kubectl(t, scenariotest.TrustStore("broken", fx.Scenario.Trusted.PEM()), "apply", "-f", "-")
	shows("/broken True Valid")

	fx.tells(t, "ageing", "CertificateExpires", "expires within 7 days") // still once

	// What is repaired is ready, and what breaks has no expiry left.
	fx.Apply(t, scenariotest.TrustStore("absent", fx.Scenario.Trusted.PEM()))
	fx.Kubectl(t, "", "delete", "truststore", "twin-again")
	fx.Kubectl(t, scenariotest.TrustStore("expired", fx.Scenario.Trusted.PEM()), "apply", "-f", "-")
	shows("/dangling True Valid", "/twin True Valid", "/expired True Valid")
	fx.Kubectl(t, "", "patch", "truststore", "broken", "--type=merge", "-p", `{"spec":{"caBundle":"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"}}`)
	shows("/broken False Invalid")
	if notAfter := fx.Kubectl(t, "", "get", "truststore", "broken", "-o", "jsonpath={.status.notAfter}"); notAfter != "" {
		t.Errorf("a broken store still expires at %s", notAfter)
	}
	versions := func() string {
		return fx.Kubectl(t, "", "get", "truststores,trustpolicies", "-o", "jsonpath={.items[*].metadata.resourceVersion}")
	}
	if err := deployment.Eventually(t.Context(), deployment.Patience, func() error { // what follows from the last change may still be written
		before := versions()
		time.Sleep(3 * time.Second)
		if after := versions(); after != before {
			return fmt.Errorf("written again without a change: %s, then %s", before, after)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// tells waits for the only event on a trust store.
func (fx environment) tells(t *testing.T, store, reason, says string) {
	t.Helper()
	err := deployment.Eventually(t.Context(), deployment.Patience, func() error {
		output, err := fx.Bed.Kubectl(t.Context(), "", "get", "events.events.k8s.io", "-n", "default", "-o",
			fmt.Sprintf(`jsonpath={range .items[?(@.regarding.name==%q)]}{.reason} {.note}{"\n"}{end}`, store))
		if lines := strings.Split(strings.TrimSpace(output), "\n"); err == nil && (len(lines) != 1 || !strings.HasPrefix(lines[0], reason+" ") || !strings.Contains(lines[0], says)) {
			err = fmt.Errorf("events %q; want one: %s, %s", lines, reason, says)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// hasRow tells whether a line of kubectl's table has all of the words; one with a slash ends its first column.
func hasRow(table string, words []string) bool {
	for _, line := range strings.Split(table, "\n") {
		fields := strings.Fields(line)
		found := 0
		for _, word := range words {
			for i, field := range fields {
				if field == word || i == 0 && strings.HasPrefix(word, "/") && strings.HasSuffix(field, word) {
					found++
					break
				}
			}
		}
		if found == len(words) {
			return true
		}
	}
	return false
}

func leading(managers []*replica) int {
	return len(slices.DeleteFunc(slices.Clone(managers), func(m *replica) bool { return !leads(m) }))
}

// leads tells whether a certificate manager has become the leader.
func leads(manager *replica) bool { return strings.Contains(manager.Logged(), `"msg":"leading"`) }

// startManager runs a certificate manager as its own service account.
func (fx environment) startManager(t *testing.T) *replica {
	t.Helper()
	r, err := fx.Deployment.Manage(t.Context(), fixture.ManagerArgs()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("a certificate manager said:\n%s", r.Logged())
		}
		if err := r.End(); err != nil {
			t.Error(err)
		}
	})
	if err := fixture.WaitReady(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return r
}
