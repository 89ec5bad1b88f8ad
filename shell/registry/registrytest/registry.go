// Package registrytest runs a real OCI registry inside the process, for tests,
// benchmarks and the demonstration. It listens on a loopback port, counts what
// it is asked, and misbehaves on demand (see Fault).
//
//	reg := registrytest.New(registrytest.Options{})
//	defer reg.Close()
//	reg.SetFault(registrytest.FailTimes(2, http.StatusTooManyRequests, nil))
//	... push to and pull from reg.Host() ...
//	reg.Requests() // what arrived, in order
//
// https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
package registrytest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
)

// Options configures a Registry. The zero value is an open registry that
// speaks plain HTTP and has the referrers API.
type Options struct {
	// Handler serves the distribution API. Nil is go-containerregistry's
	// registry in memory, with the referrers API; see the subpackage
	// distribution for one without.
	Handler http.Handler

	// TLS serves HTTPS, with a certificate of a private CA (see CAPEM).
	TLS bool

	// Auth says how callers prove who they are. The credentials below are of
	// no use without it.
	Auth Auth

	// Username and Password are the one account of AuthBasic and AuthToken.
	Username, Password string

	// IdentityToken is accepted by AuthToken as a refresh token.
	IdentityToken string

	// TokenLifetime is how long a bearer token is good; zero is 5 minutes.
	TokenLifetime time.Duration
}

// Request is one request as it arrived, whatever became of it.
type Request struct {
	Method string
	Path   string
}

// Registry is a listening registry. Its methods may be called concurrently.
type Registry struct {
	server   *http.Server
	listener net.Listener
	served   chan struct{} // closed when the server accepts no more
	conns    sync.WaitGroup
	cancel   context.CancelFunc // ends the contexts of running requests
	caPEM    []byte             // empty without TLS
	handler  http.Handler

	mu       sync.Mutex
	requests []Request
	fault    Fault // nil is none
}

// New starts a registry on a free loopback port. It panics if there is none,
// as net/http/httptest does: there is nothing a caller could do instead.
func New(options Options) *Registry {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(fmt.Sprintf("registry: listen on loopback: %v", err))
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Registry{
		listener: listener,
		served:   make(chan struct{}),
		cancel:   cancel,
	}
	r.handler = r.protect(options)
	r.server = &http.Server{
		Handler:           http.HandlerFunc(r.serve),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         r.track,
		ErrorLog:          log.New(io.Discard, "", 0),
		ReadHeaderTimeout: 10 * time.Second,
	}
	if options.TLS {
		r.secure()
	}
	go r.accept()
	return r
}

// accept serves until Close.
func (r *Registry) accept() {
	defer close(r.served)
	serve := r.server.Serve
	if r.caPEM != nil {
		serve = func(l net.Listener) error { return r.server.ServeTLS(l, "", "") }
	}
	if err := serve(r.listener); !errors.Is(err, http.ErrServerClosed) {
		panic(fmt.Sprintf("registry: serve %s: %v", r.Host(), err))
	}
}

// InMemory is the default handler: go-containerregistry's, whose own referrers API falls short of the
// specification, hence the repair.
func InMemory() http.Handler {
	return repairReferrers(ggcr.New(
		ggcr.WithReferrersSupport(true),
		ggcr.Logger(log.New(io.Discard, "", 0)),
	))
}

// serve counts the request and lets the fault have it before the registry.
func (r *Registry) serve(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	r.requests = append(r.requests, Request{Method: request.Method, Path: request.URL.Path})
	fault := r.fault
	r.mu.Unlock()
	if fault == nil {
		r.handler.ServeHTTP(w, request)
		return
	}
	fault(w, request, r.handler)
}

// track counts the connections, so that Close can wait for the last of them.
// The server reports a new connection before it accepts the next one, and a
// closed one when its goroutine ends.
func (r *Registry) track(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		r.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		r.conns.Done()
	}
}

// Host returns the "host:port" at which the registry listens, as it stands in
// a reference.
func (r *Registry) Host() string { return r.listener.Addr().String() }

// URL returns the root of the registry with its scheme.
func (r *Registry) URL() string {
	if r.caPEM == nil {
		return "http://" + r.Host()
	}
	return "https://" + r.Host()
}

// CAPEM returns the certificate of the CA to trust, and nothing without TLS.
func (r *Registry) CAPEM() []byte { return slices.Clone(r.caPEM) }

// Client returns a new client that trusts this registry. It keeps no
// connection alive, so that nothing of it outlives its last request.
func (r *Registry) Client() *http.Client {
	transport := &http.Transport{DisableKeepAlives: true}
	if r.caPEM != nil {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(r.caPEM)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport}
}

// Requests returns every request since the start or the last Reset, in the
// order of arrival.
func (r *Registry) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// Reset forgets the requests. The content and the fault stay.
func (r *Registry) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = nil
}

// SetFault makes the registry misbehave from the next request on; nil makes it
// behave again.
func (r *Registry) SetFault(fault Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = fault
}

// Close ends every connection and returns when their goroutines have ended.
func (r *Registry) Close() {
	r.cancel()
	_ = r.server.Close() // its only error is of a listener that is gone already
	<-r.served
	r.conns.Wait()
}
