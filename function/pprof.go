package function

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"
)

// serveProfiles answers with Go's profiles on pprofAddress, until done is called; it does nothing where that is empty. The
// address is on loopback unless it names another host, since profiles tell what is in memory, and nobody is authenticated.
func (f *Function) serveProfiles() (done func(), err error) {
	if f.settings.PprofAddress == "" {
		return func() {}, nil
	}
	host, port, err := net.SplitHostPort(f.settings.PprofAddress)
	if err != nil {
		return nil, fmt.Errorf("pprofAddress: %w", err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(cmp.Or(host, "127.0.0.1"), port))
	if err != nil {
		return nil, fmt.Errorf("pprofAddress: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	server := &http.Server{
		Handler:        boundedProfiles(mux),
		ReadTimeout:    5 * time.Second,
		IdleTimeout:    5 * time.Second,
		WriteTimeout:   (maxProfileSeconds + 10) * time.Second,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(f.log.Handler(), slog.LevelWarn),
	}
	f.log.Info("serving profiles", "address", listener.Addr().String())
	go func() { _ = server.Serve(listener) }() // it ends by done
	return func() { _ = server.Close() }, nil
}

// maxProfileSeconds bounds how long a profile is recorded.
const maxProfileSeconds = 120

// boundedProfiles refuses longer profiles, since pprof itself extends the time to write for them.
func boundedProfiles(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text := r.FormValue("seconds"); text != "" {
			if seconds, err := strconv.ParseFloat(text, 64); err != nil || !(seconds <= maxProfileSeconds) {
				sendText(w, http.StatusBadRequest, fmt.Sprintf("seconds must be a number up to %d", maxProfileSeconds))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
