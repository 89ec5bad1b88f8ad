package bed

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	loopback = "127.0.0.1"

	etcdTime      = time.Minute     // until etcd answers
	apiServerTime = 2 * time.Minute // until /readyz
	requestTime   = 5 * time.Second // one request of a readiness check
	answerLimit   = 16 << 20        // bytes read of an answer

	// Issuer is the issuer of service account tokens, and the only audience that the API server takes them for.
	Issuer = "https://kubernetes.default.svc.cluster.local"
)

// Names of the parts, as in Processes and LogFile.
const (
	Etcd           = "etcd"
	APIServer      = "kube-apiserver"
	Kyverno        = "kyverno"
	KyvernoReports = "kyverno-reports"
)

func (b *Bed) startEtcd(ctx context.Context) error {
	client, peer := loopbackURL("http", b.etcdPort), loopbackURL("http", b.peerPort)
	c, err := b.run(Etcd, os.Environ(), b.tools.Etcd,
		"--data-dir="+filepath.Join(b.dir, "etcd"),
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer,
		"--unsafe-no-fsync", "--log-level=warn")
	if err != nil {
		return err
	}
	return poll(ctx, etcdTime, Etcd, func(ctx context.Context) error {
		_, err := get(ctx, http.DefaultClient, client+"/health", "")
		return errors.Join(c.alive(), err)
	})
}

// StartAPIServer starts the API server on the bed's port and data and waits until it is ready. Kyverno may have ended
// while it was away and need a moment longer.
func (b *Bed) StartAPIServer(ctx context.Context) error {
	c, err := b.run(APIServer, os.Environ(), b.tools.APIServer, append(b.apiServerArgs(), b.opts.APIServerArgs...)...)
	if err != nil {
		return err
	}
	return poll(ctx, apiServerTime, APIServer, func(ctx context.Context) error {
		_, err := get(ctx, b.client, b.URL()+"/readyz", b.token)
		return errors.Join(c.alive(), err)
	})
}

// StopAPIServer kills the API server without warning; its state is etcd's.
func (b *Bed) StopAPIServer() error { return b.stop(APIServer, 0) }

func (b *Bed) apiServerArgs() []string {
	return []string{
		"--etcd-servers=" + loopbackURL("http", b.etcdPort),
		"--bind-address=" + loopback, "--advertise-address=" + loopback, "--secure-port=" + strconv.Itoa(b.apiPort),
		"--endpoint-reconciler-type=none",
		"--tls-cert-file=" + b.pki.cert, "--tls-private-key-file=" + b.pki.key,
		"--cert-dir=" + b.dir,
		"--token-auth-file=" + filepath.Join(b.dir, "users.csv"),
		"--authorization-mode=RBAC",
		"--service-account-issuer=" + Issuer, "--api-audiences=" + Issuer,
		"--service-account-key-file=" + b.pki.serviceAccountKey,
		"--service-account-signing-key-file=" + b.pki.serviceAccountKey,
		"--service-cluster-ip-range=10.96.0.0/16",
		"--disable-admission-plugins=ServiceAccount",
		"--allow-privileged=true",
	}
}

// URL is where the API server listens.
func (b *Bed) URL() string { return loopbackURL("https", b.apiPort) }

// CAFile is the PEM file with the authority of the API server's certificate.
func (b *Bed) CAFile() string { return b.pki.ca }

// newClient trusts the API server's certificate only.
func (b *Bed) newClient() (*http.Client, error) {
	ca, err := os.ReadFile(b.pki.ca)
	if err != nil {
		return nil, fmt.Errorf("authority of the API server: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}
	return &http.Client{Transport: transport, Timeout: requestTime}, nil
}

func loopbackURL(scheme string, port int) string {
	return fmt.Sprintf("%s://%s:%d", scheme, loopback, port)
}

// get returns the body of a 200; anything else is an error.
func get(ctx context.Context, client *http.Client, url, token string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", url, err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", url, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerLimit))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.500s", response.Status, body)
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", url, err)
	}
	return body, nil
}
