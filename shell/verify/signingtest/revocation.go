package signingtest

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ocsp"
)

// maxOCSPRequest bounds a request in bytes; one certificate takes some 100.
const maxOCSPRequest = 16 << 10

// RevocationServer says on a loopback port which certificates of a CA are
// revoked, by CRL (RFC 5280 section 5) and by OCSP (RFC 6960). Certificates
// point at it through CRLURL and OCSPURL.
type RevocationServer struct {
	ca       *CA
	server   *http.Server
	listener net.Listener
	served   chan struct{} // closed when the server accepts no more
	requests atomic.Int64
	down     atomic.Bool

	mu        sync.Mutex
	responder *Signer              // who signs OCSP answers; nil is the CA
	revoked   map[string]time.Time // when, by serial number in decimal
	number    int64                // of the last CRL
	next      time.Duration        // from an answer to its next update
}

// NewRevocationServer starts a server for the certificates that ca issues.
func NewRevocationServer(ca *CA) (*RevocationServer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("serve the revocations of %s: %w", ca.Certificate.Subject, err)
	}
	s := &RevocationServer{
		ca:       ca,
		listener: listener,
		served:   make(chan struct{}),
		revoked:  map[string]time.Time{},
		next:     time.Hour,
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /crl", s.serveCRL)
	mux.HandleFunc("GET /crl.pem", s.serveCRL)
	mux.HandleFunc("POST /ocsp", s.serveOCSP)
	mux.HandleFunc("GET /ocsp/", s.serveOCSP)
	s.server = &http.Server{
		Handler:           s.admit(mux),
		ErrorLog:          log.New(io.Discard, "", 0),
		ReadHeaderTimeout: 10 * time.Second,
	}
	go func() {
		defer close(s.served)
		_ = s.server.Serve(listener) // ends with Close
	}()
	return s, nil
}

// CRLURL is where the server serves the CRL.
func (s *RevocationServer) CRLURL() string { return "http://" + s.listener.Addr().String() + "/crl" }

// PEMCRLURL is where the server serves the CRL as PEM.
func (s *RevocationServer) PEMCRLURL() string { return s.CRLURL() + ".pem" }

// OCSPURL is where the server answers OCSP requests.
func (s *RevocationServer) OCSPURL() string { return "http://" + s.listener.Addr().String() + "/ocsp" }

// Revoke revokes the certificate with a serial number, as of a minute ago.
func (s *RevocationServer) Revoke(serial *big.Int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked[serial.String()] = time.Now().Add(-time.Minute)
}

// SetNextUpdate sets for how long an answer is good; at first it is an hour.
func (s *RevocationServer) SetNextUpdate(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = d
}

// SetResponder has OCSP answers signed by someone other than the CA, whose
// certificate they bring.
func (s *RevocationServer) SetResponder(responder *Signer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.responder = responder
}

// SetDown makes the server answer 503 to everything, or serve again.
func (s *RevocationServer) SetDown(down bool) { s.down.Store(down) }

// Requests returns how many requests have arrived.
func (s *RevocationServer) Requests() int { return int(s.requests.Load()) }

// Close stops the server; a request that is being answered has five seconds.
func (s *RevocationServer) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.server.Close())
	}
	<-s.served
	return err
}

// admit counts the request and turns it away while the server is down.
func (s *RevocationServer) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if s.down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *RevocationServer) serveCRL(w http.ResponseWriter, r *http.Request) {
	list, err := s.crl(time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if strings.HasSuffix(r.URL.Path, ".pem") {
		list = pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list})
	}
	w.Header().Set("Content-Type", "application/pkix-crl")
	_, _ = w.Write(list) // fails if the caller is gone
}

// crl signs a list of everything that is revoked.
func (s *RevocationServer) crl(now time.Time) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.number++
	list := &x509.RevocationList{
		Number:     big.NewInt(s.number),
		ThisUpdate: now.Add(-time.Minute),
		NextUpdate: now.Add(s.next),
	}
	for serial, when := range s.revoked {
		number, _ := new(big.Int).SetString(serial, 10)
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber:   number,
			RevocationTime: when,
			ReasonCode:     ocsp.KeyCompromise,
		})
	}
	return x509.CreateRevocationList(rand.Reader, list, s.ca.Certificate, s.ca.key)
}

func (s *RevocationServer) serveOCSP(w http.ResponseWriter, r *http.Request) {
	encoded, err := ocspRequest(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	request, err := ocsp.ParseRequest(encoded)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	response, err := s.status(request.SerialNumber, time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/ocsp-response")
	_, _ = w.Write(response) // fails if the caller is gone
}

// ocspRequest returns the request of a POST, or that in the path of a GET, RFC
// 6960 appendix A.1.
func ocspRequest(r *http.Request) ([]byte, error) {
	if r.Method == http.MethodPost {
		return io.ReadAll(io.LimitReader(r.Body, maxOCSPRequest))
	}
	return base64.StdEncoding.DecodeString(strings.TrimPrefix(r.URL.Path, "/ocsp/"))
}

// status signs what is known of a certificate.
func (s *RevocationServer) status(serial *big.Int, now time.Time) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	response := ocsp.Response{
		Status:       ocsp.Good,
		SerialNumber: serial,
		ThisUpdate:   now.Add(-time.Minute),
		NextUpdate:   now.Add(s.next),
	}
	if when, revoked := s.revoked[serial.String()]; revoked {
		response.Status, response.RevokedAt = ocsp.Revoked, when
		response.RevocationReason = ocsp.KeyCompromise
	}
	if s.responder != nil {
		response.Certificate = s.responder.Certificate
		return ocsp.CreateResponse(s.ca.Certificate, s.responder.Certificate, response, s.responder.Key)
	}
	return ocsp.CreateResponse(s.ca.Certificate, s.ca.Certificate, response, s.ca.key)
}
