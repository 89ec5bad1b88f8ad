//go:build e2e

// Package catrust shows how a real Kyverno trusts the service's CA by the folder that its Deployment mounts, and that no call
// fails while CAs are replaced.
package catrust

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
	"github.com/nirmata/kyverno-notation-venafi/shell/certmanager"
)

// environment is what the tests share.
type environment struct {
	*fixture.Fixture
	mounted string // the folder of the volume
}

// shared is set once, before the tests.
var shared environment

func TestMain(m *testing.M) {
	mounted, err := os.MkdirTemp("", "e2e-catrust-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// As in config/kyverno, at another place. Without SSL_CERT_FILE, which the fixture sets for other tests.
	options := fixture.Options{Replicas: 1, KyvernoEnv: []string{"SSL_CERT_FILE=", "SSL_CERT_DIR=/etc/ssl/certs:" + mounted}}
	code := fixture.Main(m, options, func(fx *fixture.Fixture) { shared = environment{fx, mounted} })
	os.RemoveAll(mounted)
	os.Exit(code)
}

// volume keeps the folder as a kubelet keeps the volume of a ConfigMap: the file is a link through a link that is replaced
// when the content changes.
func (e environment) volume(ctx context.Context) error {
	text, err := e.Bed.Kubectl(ctx, "", "get", "-n", bed.KyvernoNamespace, "configmap/"+certmanager.BundleConfigMap, "-o", `jsonpath={.data.ca\.crt}`)
	if err != nil || text == e.volumeText() {
		return err
	}
	version := fmt.Sprintf("..%d", time.Now().UnixNano())
	if err := os.Mkdir(filepath.Join(e.mounted, version), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(e.mounted, version, "ca.crt"), []byte(text), 0o644); err != nil {
		return err
	}
	fresh := filepath.Join(e.mounted, "..data_tmp")
	if err := os.Symlink(version, fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, filepath.Join(e.mounted, "..data")); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join("..data", "ca.crt"), filepath.Join(e.mounted, "ca.crt")); !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

func (e environment) volumeText() string {
	text, _ := os.ReadFile(filepath.Join(e.mounted, "ca.crt"))
	return string(text)
}

// keepVolume does so until the test ends.
func (e environment) keepVolume(t *testing.T) {
	t.Helper()
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	running.Go(func() {
		for ctx.Err() == nil {
			if err := e.volume(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("volume: %v", err)
			}
			time.Sleep(500 * time.Millisecond)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
}

// front is a TCP proxy before a replica, which can cut all connections, so that the next call makes a new handshake.
type front struct {
	Address  string
	accepted atomic.Int64

	mu   sync.Mutex
	open map[*net.TCPConn]chan struct{} // of clients; closed when the client has closed its side
}

func newFront(t *testing.T, to string) *front {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{Address: listener.Addr().String(), open: map[*net.TCPConn]chan struct{}{}}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			f.accepted.Add(1)
			go f.forward(from.(*net.TCPConn), to)
		}
	}()
	return f
}

func (f *front) forward(from *net.TCPConn, to string) {
	defer from.Close()
	onward, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer onward.Close()
	closed := make(chan struct{})
	f.mu.Lock()
	f.open[from] = closed
	f.mu.Unlock()
	go func() { _, _ = io.Copy(from, onward); _ = from.CloseWrite() }()
	_, _ = io.Copy(onward, from) // until the client closes
	f.mu.Lock()
	delete(f.open, from)
	f.mu.Unlock()
	close(closed)
}

// cut ends all connections, and waits until the clients have seen it, so that none sends a request into one.
func (f *front) cut(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	open := maps.Clone(f.open)
	f.mu.Unlock()
	for conn := range open {
		_ = conn.CloseWrite()
	}
	limit := time.After(deployment.Patience)
	for _, closed := range open {
		select {
		case <-closed:
		case <-limit:
			t.Fatal("a client keeps a connection that was ended")
		}
	}
}

// serves gives the CA by which the replica's certificate is signed, of a bundle.
func serves(ctx context.Context, replica *deployment.Process, authorities []*x509.Certificate) (*x509.Certificate, error) {
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", replica.Secure) // it only looks
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	shown := conn.(*tls.Conn).ConnectionState().PeerCertificates
	if len(shown) != 1 {
		return nil, fmt.Errorf("the chain has %d certificates", len(shown))
	}
	for _, authority := range authorities {
		if shown[0].CheckSignatureFrom(authority) == nil {
			return authority, nil
		}
	}
	return nil, errors.New("its CA is not in the bundle")
}

// admit sends a pod to the API server, as a dry run, and expects the digest of its image.
func (e environment) admit(ctx context.Context, client *http.Client, image, pinned string) error {
	body := strings.NewReader(fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"load","namespace":"team-a"},"spec":{"containers":[{"name":"app","image":%q}]}}`, image))
	request, err := http.NewRequest(http.MethodPost, e.Bed.URL()+"/api/v1/namespaces/team-a/pods?dryRun=All", body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	ctx, cancel := context.WithTimeout(ctx, 35*time.Second)
	defer cancel()
	response, err := client.Do(request.WithContext(ctx))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err == nil && (response.StatusCode != http.StatusCreated || !strings.Contains(string(text), pinned)) {
		err = fmt.Errorf("%s: %.2000s", response.Status, text)
	}
	return err
}
