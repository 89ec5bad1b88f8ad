package signingtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// PlatformPath is under which a platform serves all that it does.
const PlatformPath = "/vedsdk/"

// lookupPath is where it serves what it knows, by "?id=".
const lookupPath = "/vedsdk/pks/lookup"

// Platform is a signing platform: it serves the certificates of signers at the
// addresses that their signatures name (x5u).
type Platform struct {
	base   string // "https://host:port"
	server *http.Server
	served chan struct{} // closed when the server accepts no more
	caPEM  []byte

	mu       sync.Mutex
	content  map[string][]byte // by id
	requests int
}

// PlatformAt is a platform that knows nobody, for another server that speaks
// TLS at https://host.
func PlatformAt(host string) *Platform {
	return &Platform{base: "https://" + host, content: map[string][]byte{}}
}

// NewPlatform starts a platform that knows nobody on a loopback port, with a
// certificate that nobody else vouches for.
func NewPlatform() (*Platform, error) {
	certificate, err := loopbackCertificate()
	if err != nil {
		return nil, fmt.Errorf("make the platform's certificate: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("serve the platform: %w", err)
	}
	p := PlatformAt(listener.Addr().String())
	p.served, p.caPEM = make(chan struct{}), encodePEM(certificate.Leaf)
	p.server = &http.Server{
		Handler:           p,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		ErrorLog:          log.New(io.Discard, "", 0),
		ReadHeaderTimeout: 10 * time.Second,
	}
	go func() {
		defer close(p.served)
		_ = p.server.ServeTLS(listener, "", "") // ends with Close
	}()
	return p, nil
}

// loopbackCertificate makes a certificate for loopback that vouches for itself.
func loopbackCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "Signing platform"},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// URL is the platform's own, as tpp_url names it.
func (p *Platform) URL() string { return p.base + "/vedsdk" }

// X5U is where the platform serves a certificate, from now on.
func (p *Platform) X5U(certificate *x509.Certificate) string { return p.Serve(encodePEM(certificate)) }

// Serve has the platform serve any content, and returns the address.
func (p *Platform) Serve(content []byte) string {
	sum := sha256.Sum256(content)
	id := hex.EncodeToString(sum[:8])
	p.mu.Lock()
	defer p.mu.Unlock()
	p.content[id] = content
	return p.base + lookupPath + "?id=" + id
}

// Requests returns how many requests have arrived.
func (p *Platform) Requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

// Write writes what a plugin needs to talk to the platform into a folder: the
// plugin's configuration file, and the CA to trust, for SSL_CERT_FILE.
func (p *Platform) Write(dir string) (config, ca string, err error) {
	config, ca = filepath.Join(dir, "config.ini"), filepath.Join(dir, "platform-ca.pem")
	text := fmt.Sprintf("tpp_url=%s\naccess_token=none\ntpp_project=test\n", p.URL())
	return config, ca, errors.Join(os.WriteFile(config, []byte(text), 0o600), os.WriteFile(ca, p.caPEM, 0o600))
}

// Close stops a platform that NewPlatform started.
func (p *Platform) Close() error {
	err := p.server.Close()
	<-p.served
	return err
}

// ServeHTTP answers a look-up.
func (p *Platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.requests++
	content, known := p.content[r.URL.Query().Get("id")]
	p.mu.Unlock()
	if r.URL.Path != lookupPath || !known {
		http.Error(w, "no such certificate", http.StatusNotFound)
		return
	}
	_, _ = w.Write(content) // fails if the caller is gone
}
