package function_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/issuer"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
)

// BenchmarkConnection measures what a call with a cached image costs by the connection that Kyverno makes for it: a new one, as for
// an apiCall with a caBundle, or one that it keeps, as for an apiCall without and for CEL policies. The new ones are compared
// with what the service could offer instead. Service and caller share the process, so time and allocations are those of
// both ends; sent and received are the service's bytes.
func BenchmarkConnection(b *testing.B) {
	policy := certificates.Policy{CADuration: 24 * time.Hour, CertificateDuration: time.Hour, Names: append(certificates.ServiceNames("svc", "kyverno-notation-venafi"), "127.0.0.1")}
	ca, err := issuer.Authority(policy, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	serving, err := issuer.Serving(policy, ca, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	service := start(b, registrytest.Options{}, "", servingWith(b, serving))
	reference, _ := service.publish(b, "signed")
	roots, _, err := ca.PEM()
	if err != nil {
		b.Fatal(err)
	}
	offer := func(change func(*tls.Config)) *tls.Config {
		config := service.service.TLSConfig()
		config.Certificates, config.GetCertificate = []tls.Certificate{{Certificate: [][]byte{serving.Certificate.Raw}, PrivateKey: serving.Key}}, nil
		change(config)
		return config
	}
	_, ed25519Key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		config *tls.Config // nil for plain HTTP
		kept   bool        // the connection
	}{
		{"plain HTTP, kept", nil, true},
		{"plain HTTP, new", nil, false},
		{"kept", service.service.TLSConfig(), true},
		{"new", service.service.TLSConfig(), false},
		{"new, X25519 without ML-KEM", offer(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} }), false},
		{"new, HTTP 1.1", offer(func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }), false},
		{"new, TLS 1.2", offer(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), false},
		{"new, Ed25519 key", offer(func(c *tls.Config) { c.Certificates[0] = servingFor(b, policy, ca, ed25519Key) }), false},
		{"new, RSA key", offer(func(c *tls.Config) { c.Certificates[0] = servingFor(b, policy, ca, rsaKey) }), false},
		{"new, CA sent too", offer(func(c *tls.Config) {
			c.Certificates[0].Certificate = append(c.Certificates[0].Certificate, ca.Certificate.Raw)
		}), false},
		{"new, no session tickets", offer(func(c *tls.Config) { c.SessionTicketsDisabled = true }), false},
	} {
		b.Run(test.name, func(b *testing.B) {
			benchmarkConnection(b, service, test.config, test.kept, roots, pod(reference))
		})
	}
}

func benchmarkConnection(b *testing.B, service *bench, config *tls.Config, kept bool, roots []byte, body string) {
	listener := newCountingListener(b)
	url, served := "http://", net.Listener(listener)
	if config != nil {
		url, served = "https://", tls.NewListener(listener, config)
	}
	server := &http.Server{Handler: service.service.Handler(), ReadHeaderTimeout: time.Second, IdleTimeout: time.Second}
	go func() { _ = server.Serve(served) }() // until it is closed
	b.Cleanup(func() { _ = server.Close() })
	client := newClient(roots)
	call := func() {
		if !kept {
			client = newClient(roots)
		}
		response, err := client.Post(url+listener.Addr().String()+"/checkimages", "", strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		defer response.Body.Close()
		if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
			b.Fatalf("%d %s, %v", response.StatusCode, text, err)
		}
	}
	for range 20 { // caches the image, and finds the heap's size
		call()
	}
	listener.sent.Store(0)
	listener.received.Store(0)
	b.ReportAllocs()
	before := processorTime(b)
	for b.Loop() {
		call()
	}
	b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N), "processor-us/op")
	b.ReportMetric(float64(listener.sent.Load())/float64(b.N), "sent/op")
	b.ReportMetric(float64(listener.received.Load())/float64(b.N), "received/op")
}

// processorTime is what this process has used so far, which other programs on the machine change less than the time that passed.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// newClient makes the client that Kyverno makes for an apiCall with a caBundle. Its connections are left idle.
func newClient(roots []byte) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(roots)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

// servingWith gives the service a certificate in files.
func servingWith(t testing.TB, pair *certificates.Pair) setting {
	t.Helper()
	chain, key, err := pair.PEM()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return func(s *function.Settings) {
		s.TLSCertFile, s.TLSKeyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
		for name, text := range map[string][]byte{s.TLSCertFile: chain, s.TLSKeyFile: key} {
			if err := os.WriteFile(name, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// servingFor is a serving certificate for another kind of key than the service makes.
func servingFor(t testing.TB, policy certificates.Policy, ca *certificates.Pair, key crypto.Signer) tls.Certificate {
	t.Helper()
	template := policy.ServingTemplate(ca.Certificate, time.Now())
	template.SerialNumber = big.NewInt(1)
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Certificate, key.Public(), ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// countingListener counts the bytes of its connections.
type countingListener struct {
	net.Listener
	sent, received atomic.Int64
}

func newCountingListener(t testing.TB) *countingListener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &countingListener{Listener: listener}
}

// Accept implements net.Listener.
func (l *countingListener) Accept() (net.Conn, error) {
	connection, err := l.Listener.Accept()
	return countedConnection{connection, l}, err
}

type countedConnection struct {
	net.Conn
	by *countingListener
}

// Read implements net.Conn.
func (c countedConnection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.by.received.Add(int64(n))
	return n, err
}

// Write implements net.Conn.
func (c countedConnection) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.by.sent.Add(int64(n))
	return n, err
}
