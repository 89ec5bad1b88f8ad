//go:build e2e_knative

package knative

import (
	"context"
	"strings"
	"testing"
	"time"
)

// portForward is how the documents reach the console.
const portForward = "kubectl -n kyverno-notation-venafi port-forward deployment/kyverno-notation-venafi-certmanager 8090"

// TestTheConsoleIsReached forwards the console's port from a pod of the certificate manager, and asks for the first page.
func TestTheConsoleIsReached(t *testing.T) {
	c := attach(t)
	if err := c.ImportProduct(t.Context()); err != nil {
		t.Fatal(err)
	}
	remove(t, c)
	t.Cleanup(func() { remove(t, c) })
	if err := c.InstallProduct(t.Context(), "config/console/plain"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	forwarding := c.KubectlCommand(ctx, strings.Fields(portForward)[1:]...)
	if err := forwarding.Start(); err != nil {
		t.Fatal(err)
	}
	page, err := c.Command(ctx, "curl", "-sS", "--fail", "--retry", "30", "--retry-delay", "1", "--retry-connrefused", "http://127.0.0.1:8090/").Output()
	if err != nil || !strings.Contains(string(page), "<html") {
		t.Errorf("%v: %s", err, page)
	}
	cancel()
	_ = forwarding.Wait() // it was killed
}
