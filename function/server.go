package function

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Listen opens the addresses of the settings: for TLS if there is a source of certificates, and for plain HTTP unless
// plainAddress is empty. Serve answers on them, and closes them.
func (f *Function) Listen() ([]net.Listener, error) {
	encrypted, err := f.ListenTLS()
	if err != nil || f.settings.PlainAddress == "" {
		if err == nil && len(encrypted) == 0 {
			err = errors.New("plainAddress is empty and there is no TLS; give one of them an address")
		}
		return encrypted, err
	}
	plain, err := net.Listen("tcp", f.settings.PlainAddress)
	if err != nil {
		for _, listener := range encrypted {
			_ = listener.Close() // the first error is the one to report
		}
		return nil, fmt.Errorf("plainAddress: %w", err)
	}
	return append(encrypted, plain), nil
}

// ListenTLS opens only the address for TLS, for runtimes that serve plain HTTP themselves. The list is empty without a
// source of certificates.
func (f *Function) ListenTLS() ([]net.Listener, error) {
	if f.serving == nil {
		return nil, nil
	}
	listener, err := net.Listen("tcp", f.settings.TLSAddress)
	if err != nil {
		return nil, fmt.Errorf("tlsAddress: %w", err)
	}
	return []net.Listener{tls.NewListener(listener, f.serving.config())}, nil
}

// Serve answers on listeners until ctx ends, and then drains: for DrainDelay it goes on to answer but is not ready, while
// endpoints are updated; then it waits up to DrainTimeout for requests in flight.
func (f *Function) Serve(ctx context.Context, listeners ...net.Listener) error {
	closeProfiles, err := f.serveProfiles()
	if err != nil {
		for _, listener := range listeners {
			_ = listener.Close() // the first error is the one to report
		}
		return err
	}
	defer closeProfiles()
	server := f.server()
	failed := make(chan error, len(listeners))
	var running sync.WaitGroup
	for _, listener := range listeners {
		f.log.Info("serving", "address", listener.Addr().String())
		running.Go(func() {
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serving on %s: %w", listener.Addr(), err)
			}
		})
	}
	defer running.Wait()
	select {
	case err := <-failed:
		return errors.Join(err, server.Close())
	case <-ctx.Done():
	}
	f.Drain()
	f.log.Info("draining", "delay", f.settings.DrainDelay.String(), "timeout", f.settings.DrainTimeout.String())
	time.Sleep(f.settings.DrainDelay)
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.settings.DrainTimeout)
	defer cancel()
	if err := server.Shutdown(deadline); err != nil {
		return errors.Join(err, server.Close())
	}
	return nil
}

// server has a timeout on every wait. Kyverno opens a connection per apiCall with a caBundle and leaves it idle, where it takes
// memory of both, so that idle connections are closed early. Callers who keep theirs pay for it with a handshake after a pause.
func (f *Function) server() *http.Server {
	return &http.Server{
		Handler:        f.Handler(),
		ReadTimeout:    5 * time.Second, // the limiter has deadlines of its own for bodies
		WriteTimeout:   f.settings.RequestTimeout + 15*time.Second,
		IdleTimeout:    5 * time.Second,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       slog.NewLogLogger(f.log.Handler(), slog.LevelWarn),
	}
}
