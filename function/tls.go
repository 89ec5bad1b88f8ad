package function

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// serving holds the serving certificate, which can be replaced at any time without closing connections.
type serving struct {
	log       *slog.Logger
	clientCAs *x509.CertPool // callers must have a certificate of one of these; nil serves all callers
	current   atomic.Pointer[tls.Certificate]
}

// errNoCertificate is why the service is not ready, and why handshakes fail.
var errNoCertificate = errors.New("the serving certificate is not there yet; try again")

// newServing reads the file of client CAs, if there is one.
func newServing(clientCAFile string, log *slog.Logger) (*serving, error) {
	s := &serving{log: log}
	if clientCAFile == "" {
		return s, nil
	}
	text, err := os.ReadFile(clientCAFile)
	if err != nil {
		return nil, fmt.Errorf("tlsClientCAFile: %w", err)
	}
	s.clientCAs = x509.NewCertPool()
	if !s.clientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("tlsClientCAFile: %s holds no PEM certificate", clientCAFile)
	}
	return s, nil
}

// replace makes a PEM certificate chain and its key the serving certificate. One that cannot be used is logged, and the
// previous one stays.
func (s *serving) replace(chain, key []byte) {
	certificate, err := tls.X509KeyPair(chain, key)
	if err != nil {
		s.log.Error("serving certificate cannot be used; the one before stays", "error", err)
		return
	}
	s.current.Store(&certificate)
	s.log.Info("serving certificate loaded", "subject", certificate.Leaf.Subject.String(), "notAfter", certificate.Leaf.NotAfter)
	if time.Now().After(certificate.Leaf.NotAfter) {
		s.log.Error("serving certificate has expired; callers will refuse it")
	}
}

// ready is an error while there is no certificate. A nil serving, without TLS, is ready.
func (s *serving) ready() error {
	if s != nil && s.current.Load() == nil {
		return errNoCertificate
	}
	return nil
}

// notAfter is when the certificate expires, in seconds since 1970; 0 while there is none.
func (s *serving) notAfter() float64 {
	if certificate := s.current.Load(); certificate != nil {
		return float64(certificate.Leaf.NotAfter.Unix())
	}
	return 0
}

// config is a TLS configuration that presents the current certificate in each handshake.
func (s *serving) config() *tls.Config {
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if certificate := s.current.Load(); certificate != nil {
				return certificate, nil
			}
			return nil, errNoCertificate
		},
	}
	if s.clientCAs != nil {
		config.ClientCAs, config.ClientAuth = s.clientCAs, tls.RequireAndVerifyClientCert
	}
	return config
}

// certificateFiles are a certificate chain and its key in files.
type certificateFiles struct {
	chain, key string
	seen       string // sizes and modification times of the files when they were read; only for the goroutine of watch
}

// load reads the files if they changed, and gives them to s, which checks them. It fails when they cannot be read.
func (f *certificateFiles) load(s *serving) error {
	var look string
	for _, name := range []string{f.chain, f.key} {
		info, err := os.Stat(name) // follows links, as Secret volumes have them
		if err != nil {
			return fmt.Errorf("serving certificate: %w", err)
		}
		look += fmt.Sprintf("%d %d\n", info.Size(), info.ModTime().UnixNano())
	}
	if look == f.seen {
		return nil
	}
	chain, err := os.ReadFile(f.chain)
	if err != nil {
		return fmt.Errorf("serving certificate: %w", err)
	}
	key, err := os.ReadFile(f.key)
	if err != nil {
		return fmt.Errorf("serving certificate: %w", err)
	}
	f.seen = look
	s.replace(chain, key)
	return nil
}

// watch loads the files at every interval until ctx ends.
func (f *certificateFiles) watch(ctx context.Context, s *serving, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := f.load(s); err != nil {
			s.log.Error("serving certificate cannot be read; the one before stays", "error", err)
		}
	}
}
