package function

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Serve answers on a listener until ctx ends, and then drains: for DrainDelay it answers on, not ready, while
// callers are being sent elsewhere; for DrainTimeout it waits for what is in flight.
func (f *Function) Serve(ctx context.Context, listener net.Listener) error {
	server := f.server()
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	f.log.Info("serving", "address", listener.Addr().String())
	select {
	case err := <-failed:
		return fmt.Errorf("serving on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	f.Drain()
	f.log.Info("draining", "delay", f.settings.DrainDelay.String(), "timeout", f.settings.DrainTimeout.String())
	time.Sleep(f.settings.DrainDelay)
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.settings.DrainTimeout)
	defer cancel()
	err := server.Shutdown(deadline)
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// server has a bound on every wait. Kyverno opens a connection per call and leaves it idle, so idle ones are
// closed early.
func (f *Function) server() *http.Server {
	return &http.Server{
		Handler:           f.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      f.settings.RequestTimeout + 15*time.Second,
		IdleTimeout:       15 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(f.log.Handler(), slog.LevelWarn),
	}
}
