package function_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
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

// measuredConnection is how a caller reaches the service, and what its calls cost.
type measuredConnection struct {
	name   string
	config *tls.Config // of the service; nil for plain HTTP
	kept   bool        // else each call makes a new one

	listener   *countingListener
	processor  []time.Duration // per call, in each turn
	allocated  uint64          // objects
	calls      int
	makeClient func() *http.Client
	client     *http.Client
}

// turnOf calls are measured together.
const turnOf = 20

// BenchmarkConnection measures what a call with a cached image costs by the connection that Kyverno makes for it: a new one, as for
// an apiCall with a caBundle, or one that it keeps, as for an apiCall without and for CEL policies. The new ones are compared
// with what the service could offer instead. They take turns, so that what else the machine does meets all alike. Service and
// caller share the process, so time and allocations are those of both ends; sent and received are the service's bytes.
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
	roots, _, err := ca.PEM()
	if err != nil {
		b.Fatal(err)
	}
	service := start(b, registrytest.Options{}, "", servingWith(b, serving))
	reference, _ := service.publish(b, "signed")
	connections := offered(b, service.service.TLSConfig, policy, ca)
	for _, c := range connections {
		c.serve(b, service.service.Handler(), roots)
		for range turnOf { // caches the image, and finds the heap's size
			c.call(b, pod(reference))
		}
		c.listener.sent.Store(0)
		c.listener.received.Store(0)
	}
	for b.Loop() {
		for _, c := range connections {
			c.turn(b, pod(reference))
		}
	}
	b.ReportMetric(0, "ns/op") // all of them together say nothing
	fmt.Print("\n", costs(connections))
}

// offered are the connections that the service offers, and others that it could.
func offered(b *testing.B, shipped func() *tls.Config, policy certificates.Policy, ca *certificates.Pair) []*measuredConnection {
	_, ed25519Key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	instead := func(change func(*tls.Config)) *tls.Config {
		config := shipped()
		change(config)
		return config
	}
	certified := func(key crypto.Signer, chain ...[]byte) *tls.Config {
		certificate := servingFor(b, policy, ca, key)
		certificate.Certificate = append(certificate.Certificate, chain...)
		return instead(func(c *tls.Config) { c.Certificates, c.GetCertificate = []tls.Certificate{certificate}, nil })
	}
	ecdsaKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	return []*measuredConnection{
		{name: "plain HTTP, kept", kept: true},
		{name: "plain HTTP, new"},
		{name: "TLS, kept", config: shipped(), kept: true},
		{name: "TLS, new", config: shipped()},
		{name: "X25519 without ML-KEM", config: instead(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} })},
		{name: "HTTP/1.1", config: instead(func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} })},
		{name: "TLS 1.2", config: instead(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })},
		{name: "no session tickets", config: instead(func(c *tls.Config) { c.SessionTicketsDisabled = true })},
		{name: "Ed25519 key", config: certified(ed25519Key)},
		{name: "RSA key, 2048 bits", config: certified(rsaKey)},
		{name: "the CA sent too", config: certified(ecdsaKey, ca.Certificate.Raw)},
	}
}

// serve answers on a listener of the connection's own.
func (c *measuredConnection) serve(b *testing.B, handler http.Handler, roots []byte) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	c.listener = &countingListener{Listener: listener}
	served := net.Listener(c.listener)
	if c.config != nil {
		served = tls.NewListener(served, c.config)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Second, IdleTimeout: 5 * time.Second}
	go func() { _ = server.Serve(served) }() // until it is closed
	b.Cleanup(func() { _ = server.Close() })
	c.makeClient = func() *http.Client { return apiCallClient(roots) }
	c.client = c.makeClient()
}

// turn makes calls and adds up what they cost.
func (c *measuredConnection) turn(b *testing.B, body string) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := processorTime(b)
	for range turnOf {
		c.call(b, body)
	}
	c.processor = append(c.processor, (processorTime(b)-began)/turnOf)
	runtime.ReadMemStats(&after)
	c.allocated += after.Mallocs - before.Mallocs
	c.calls += turnOf
}

func (c *measuredConnection) call(b *testing.B, body string) {
	if !c.kept {
		c.client = c.makeClient()
	}
	scheme := "https://"
	if c.config == nil {
		scheme = "http://"
	}
	response, err := c.client.Post(scheme+c.listener.Addr().String()+"/checkimages", "", strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
		b.Fatalf("%d %s, %v", response.StatusCode, text, err)
	}
}

// costs is a table of medians and means per call.
func costs(connections []*measuredConnection) string {
	text := &strings.Builder{}
	fmt.Fprintf(text, "%-22s %12s %11s %6s %9s\n", "connection", "processor us", "allocations", "sent", "received")
	for _, c := range connections {
		slices.Sort(c.processor)
		fmt.Fprintf(text, "%-22s %12d %11d %6d %9d\n", c.name, c.processor[len(c.processor)/2].Microseconds(), int(c.allocated)/c.calls,
			int(c.listener.sent.Load())/c.calls, int(c.listener.received.Load())/c.calls)
	}
	return text.String()
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

// apiCallClient is the client that Kyverno makes for an apiCall with a caBundle. Its connections are left idle.
func apiCallClient(roots []byte) *http.Client {
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
