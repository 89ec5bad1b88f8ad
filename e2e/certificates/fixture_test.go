//go:build e2e

// Package certificates shows how the service's certificates are kept, with a real API server: certificate managers and
// replicas of the service as processes, with the rights that the manifests give them.
package certificates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
)

const (
	namespace      = "kyverno-notation-venafi"
	serviceAccount = "kyverno-notation-venafi"
	managerAccount = "kyverno-notation-venafi-certmanager"
	serviceName    = "svc.kyverno-notation-venafi.svc" // by which policies call
	installation   = "../../config/install.yaml"
)

// world is a control plane with the installation applied; no controller is there to make its pods.
type world struct {
	bed    *bed.Bed
	binary string
	dir    string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	w.binary = filepath.Join(w.dir, "kyverno-notation-venafi")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", w.binary, "github.com/nirmata/kyverno-notation-venafi/function/cmd/kyverno-notation-venafi")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the service: %v: %s", err, output)
	}
	var err error
	if w.bed, err = bed.Start(t.Context(), bed.Options{Log: os.Stderr}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.bed.Close(); err != nil {
			t.Error(err)
		}
	})
	w.kubectl(t, "apply", "-f", installation)
	w.kubectl(t, "wait", "--for=condition=Established", "--timeout=1m", "crd/trustpolicies.notation.nirmata.io", "crd/truststores.notation.nirmata.io")
	return w
}

func (w *world) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	output, err := w.bed.Kubectl(t.Context(), "", args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return output
}

// process is a command of the product, as one of its service accounts.
type process struct {
	*exec.Cmd
	url, secure string // its plain address, and that over TLS
	log         string // file
	ended       chan struct{}
}

func (w *world) start(t *testing.T, command, account string, args ...string) *process {
	t.Helper()
	kubeconfig, err := w.bed.WriteServiceAccountKubeconfig(t.Context(), namespace, account)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.CreateTemp(w.dir, command+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	plain, secure := freeAddress(t), freeAddress(t)
	p := &process{url: "http://" + plain, secure: secure, log: log.Name(), ended: make(chan struct{})}
	p.Cmd = exec.Command(w.binary, append([]string{command, "--kubeconfig", kubeconfig, "--namespace", namespace, "--plainAddress", plain, "--tlsAddress", secure, "--drainDelay", "0s"}, args...)...)
	p.Stdout, p.Stderr, p.SysProcAttr = log, log, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.end(t)
		if t.Failed() {
			t.Logf("%s said:\n%s", command, p.logged())
		}
		log.Close()
	})
	return p
}

// end asks the process to end, and waits for it.
func (p *process) end(t *testing.T) {
	t.Helper()
	_ = p.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		_ = p.Process.Kill()
		t.Error("a process did not end when it was asked to")
	}
}

func (p *process) kill() {
	_ = p.Process.Kill()
	<-p.ended
}

func (p *process) logged() string {
	text, _ := os.ReadFile(p.log)
	return string(text)
}

// leads tells whether the process has become the leader and did not resign.
func (p *process) leads() bool {
	text := p.logged()
	return strings.LastIndex(text, `"msg":"leading"`) > strings.LastIndex(text, `"msg":"not leading"`)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func (p *process) ready(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/health/readiness", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("not ready: %s", text)
	}
	return err
}

func eventually(t *testing.T, limit time.Duration, what string, holds func() error) {
	t.Helper()
	err := fmt.Errorf("it was not tried")
	for deadline := time.Now().Add(limit); time.Now().Before(deadline) && t.Context().Err() == nil; time.Sleep(20 * time.Millisecond) {
		if err = holds(); err == nil {
			return
		}
	}
	t.Fatalf("within %s it did not come to this: %s: %v", limit, what, err)
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
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+p.secure+"/health/liveness", nil)
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
