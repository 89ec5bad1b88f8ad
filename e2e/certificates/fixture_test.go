//go:build e2e

// Package certificates tests with a real API server how certificate managers maintain the certificates of the service. The
// managers and the replicas of the service run as processes, with the permissions of the manifests.
package certificates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
)

const (
	namespace    = deployment.Namespace
	serviceName  = "svc.kyverno-notation-venafi.svc" // by which policies call
	installation = "../../config/install.yaml"
)

// fixture is a control plane with the installation applied. There is no controller that would create its pods.
type fixture struct {
	bed        *bed.Bed
	deployment *deployment.Deployment
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	b := bed.StartForTest(t, bed.Options{})
	if err := deployment.Install(t.Context(), b, installation); err != nil {
		t.Fatal(err)
	}
	built, err := deployment.Build(t.Context(), b, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{b, built}
}

func (fx *fixture) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	output, err := fx.bed.Kubectl(t.Context(), "", args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return output
}

// process is a running command of the service.
type process struct{ *deployment.Process }

func (fx *fixture) serve(t *testing.T) *process {
	t.Helper()
	return &process{deployment.Kept(t)(fx.deployment.Serve(t.Context()))}
}

func (fx *fixture) manage(t *testing.T, args ...string) *process {
	t.Helper()
	return &process{deployment.Kept(t)(fx.deployment.Manage(t.Context(), args...))}
}

// leads is true if the process has become the leader and did not resign.
func (p *process) leads() bool {
	text := p.Logged()
	return strings.LastIndex(text, `"msg":"leading"`) > strings.LastIndex(text, `"msg":"not leading"`)
}

func eventually(t *testing.T, limit time.Duration, what string, holds func() error) {
	t.Helper()
	if err := deployment.Eventually(t.Context(), limit, holds); err != nil {
		t.Fatalf("within %s it did not come to this: %s: %v", limit, what, err)
	}
}

// call asks a replica over a new connection, as Kyverno does, trusting nothing but a bundle. It gives the certificate
// that the replica showed.
func (p *process) call(ctx context.Context, bundle string) (*x509.Certificate, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(bundle))
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: serviceName},
		DisableKeepAlives: true,
		ForceAttemptHTTP2: true,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+p.Secure+"/health/liveness", nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %w", response.Status, err)
	}
	return response.TLS.PeerCertificates[0], nil
}
