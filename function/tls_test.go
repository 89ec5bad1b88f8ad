package function_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/function"
)

const servedName = "svc.kyverno-notation-venafi.svc"

// authority issues certificates of the service and of its clients.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.certificate, a.key, a.pem, _ = a.issue(t, "authority", true)
	return a
}

// issue gives a certificate for a name, of the authority itself if it has none yet.
func (a *authority) issue(t *testing.T, name string, ca bool) (*x509.Certificate, *ecdsa.PrivateKey, []byte, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{servedName},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: ca, IsCA: ca, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

// secured is a service over TLS.
type secured struct {
	*authority
	chainFile, keyFile string
	service            *function.Function
	address            string // of TLS
	plain              string // "" where it is closed
}

// write puts a certificate where the service looks for it.
func (s *secured) write(t *testing.T, chain, key []byte) {
	t.Helper()
	for name, text := range map[string][]byte{s.chainFile: chain, s.keyFile: key} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func secure(t *testing.T, change setting) *secured {
	t.Helper()
	return secureWithLog(t, change, slog.New(slog.DiscardHandler))
}

func secureWithLog(t *testing.T, change setting, log *slog.Logger) *secured {
	t.Helper()
	dir := t.TempDir()
	s := &secured{authority: newAuthority(t), chainFile: filepath.Join(dir, "tls.crt"), keyFile: filepath.Join(dir, "tls.key")}
	_, _, chain, key := s.issue(t, servedName, false)
	s.write(t, chain, key)
	settings, _, err := function.LoadSettings("test", []string{
		"--trustDir", t.TempDir(), "--pluginDir", t.TempDir(), "--drainDelay", "0s", "--plainAddress", "127.0.0.1:0",
		"--tlsAddress", "127.0.0.1:0", "--tlsCertFile", s.chainFile, "--tlsKeyFile", s.keyFile,
	}, noEnvironment, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&settings)
	}
	if s.service, err = function.New(settings, noEnvironment, log); err != nil {
		t.Fatal(err)
	}
	listeners, err := s.service.Listen()
	if err != nil {
		t.Fatal(err)
	}
	s.address = listeners[0].Addr().String()
	if len(listeners) > 1 {
		s.plain = listeners[1].Addr().String()
	}
	ctx, stop := context.WithCancel(t.Context())
	s.service.Start(ctx)
	served := make(chan error, 1)
	go func() { served <- s.service.Serve(ctx, listeners...) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("serving: %v", err)
		}
		s.service.Stop()
	})
	return s
}

// ask sends a request over a new connection, which it verifies as Kyverno does. The response has the certificate of the server.
func (s *secured) ask(t *testing.T, change func(*tls.Config)) (*http.Response, error) {
	t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: servedName}
	config.RootCAs.AppendCertsFromPEM(s.pem)
	if change != nil {
		change(config)
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get("https://" + s.address + "/health/liveness")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response, err
}

func TestTLSAuthenticatesBothSides(t *testing.T) {
	tests := map[string]struct {
		change setting
		client func(*tls.Config)
		fails  string // part of the client's error; "" for an answer
	}{
		"a caller who trusts the CA":       {nil, nil, ""},
		"a caller who trusts another":      {nil, func(c *tls.Config) { c.RootCAs = x509.NewCertPool() }, "unknown authority"},
		"a caller who wants another name":  {nil, func(c *tls.Config) { c.ServerName = "example.com" }, "example.com"},
		"a caller who knows TLS 1.1 only":  {nil, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, "protocol version"},
		"a caller who knows TLS 1.2 only":  {nil, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, ""},
		"plain HTTP is closed":             {func(s *function.Settings) { s.PlainAddress = "" }, nil, ""},
		"clients need a certificate":       {clientsOf(t, newAuthority(t)), nil, "/health/liveness"}, // how it fails depends on who is faster,
		"a client has one of another CA's": {clientsOf(t, newAuthority(t)), clientCertificate(t, newAuthority(t)), "/health/liveness"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			s := secure(t, test.change)
			response, err := s.ask(t, test.client)
			switch {
			case test.fails == "" && (err != nil || response.StatusCode != http.StatusOK || response.ProtoMajor != 2):
				t.Errorf("%+v, %v", response, err)
			case test.fails != "" && (err == nil || !strings.Contains(err.Error(), test.fails)):
				t.Errorf("error %v; want one with %q", err, test.fails)
			}
			if closed := s.plain == ""; closed != strings.HasPrefix(sentence, "plain HTTP") {
				t.Errorf("plain HTTP is served at %q", s.plain)
			}
		})
	}
	clients := newAuthority(t)
	if response, err := secure(t, clientsOf(t, clients)).ask(t, clientCertificate(t, clients)); err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("a client with a certificate: %+v, %v", response, err)
	}
}

// clientsOf demands certificates of an authority from clients.
func clientsOf(t *testing.T, a *authority) setting {
	t.Helper()
	file := filepath.Join(t.TempDir(), "clients.crt")
	if err := os.WriteFile(file, a.pem, 0o600); err != nil {
		t.Fatal(err)
	}
	return func(s *function.Settings) { s.TLSClientCAFile = file }
}

func clientCertificate(t *testing.T, a *authority) func(*tls.Config) {
	t.Helper()
	_, _, chain, key := a.issue(t, "client", false)
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *tls.Config) { c.Certificates = []tls.Certificate{pair} }
}

// TestTLSCertificatesAreReplaced holds that the certificate is replaced without a restart, and only by a usable one.
func TestTLSCertificatesAreReplaced(t *testing.T) {
	log, examined := onLog("serving certificate ") // loaded, or cannot be used
	s := secureWithLog(t, nil, log)
	wait(t, examined, "the first certificate")
	shown := func() string {
		response, err := s.ask(t, nil)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(response.TLS.PeerCertificates[0].SerialNumber)
	}
	first := shown()
	next, _, chain, key := s.issue(t, servedName, false)
	for sentence, broken := range map[string][2][]byte{
		"a key of another certificate": {chain, mustKey(s.issue(t, servedName, false))},
		"nonsense":                     {[]byte("nonsense"), key},
		"nothing":                      {nil, nil},
	} {
		s.write(t, broken[0], broken[1])
		wait(t, examined, "the refusal of "+sentence)
		if got := shown(); got != first {
			t.Errorf("%s: the certificate %s is shown; want %s still", sentence, got, first)
		}
	}
	s.write(t, chain, key)
	for shown() != fmt.Sprint(next.SerialNumber) {
		wait(t, examined, "the next certificate")
	}
}

func mustKey(_ *x509.Certificate, _ *ecdsa.PrivateKey, _, key []byte) []byte { return key }

func TestListenRefusesInvalidTLSSettings(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "absent")
	tests := map[string]struct {
		flags []string
		says  string
	}{
		"a certificate without its key": {[]string{"--tlsCertFile", "x"}, "tlsKeyFile"},
		"files that are not there":      {[]string{"--tlsCertFile", absent, "--tlsKeyFile", absent}, "serving certificate"},
		"no address at all":             {[]string{"--plainAddress", ""}, "plainAddress is empty"},
	}
	for sentence, test := range tests {
		settings, _, err := function.LoadSettings("test", append([]string{"--trustDir", t.TempDir(), "--pluginDir", t.TempDir()}, test.flags...), noEnvironment, nil)
		var service *function.Function
		if err == nil {
			service, err = function.New(settings, noEnvironment, slog.New(slog.DiscardHandler))
		}
		if err == nil {
			_, err = service.Listen()
			service.Stop()
		}
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", sentence, err)
		}
	}
}
