package function

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/pprof"
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
	mux.HandleFunc("GET /debug/pprof/{$}", listProfiles)
	mux.HandleFunc("GET /debug/pprof/profile", recordCPU)
	mux.HandleFunc("GET /debug/pprof/{name}", sendProfile)
	server := &http.Server{
		Handler:        mux,
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

// maxProfileSeconds bounds how long the use of the processors is recorded.
const maxProfileSeconds = 120

// listProfiles names the profiles. They are served by hand, since net/http/pprof links what shows them as pages.
func listProfiles(w http.ResponseWriter, _ *http.Request) {
	for _, profile := range pprof.Profiles() {
		fmt.Fprintln(w, profile.Name(), profile.Count())
	}
	_, _ = io.WriteString(w, "profile?seconds=30\n") // an error means that the caller closed the connection
}

// sendProfile sends one profile: in the format of go tool pprof, or with ?debug=1 as text.
func sendProfile(w http.ResponseWriter, r *http.Request) {
	profile := pprof.Lookup(r.PathValue("name"))
	debug, err := strconv.Atoi(cmp.Or(r.FormValue("debug"), "0"))
	switch {
	case profile == nil:
		sendText(w, http.StatusNotFound, "there is no such profile")
	case err != nil:
		sendText(w, http.StatusBadRequest, "debug must be a number")
	default:
		_ = profile.WriteTo(w, debug) // an error means that the caller closed the connection
	}
}

// recordCPU records the use of the processors for some seconds, 30 if the caller does not say.
func recordCPU(w http.ResponseWriter, r *http.Request) {
	seconds, err := strconv.Atoi(cmp.Or(r.FormValue("seconds"), "30"))
	if err != nil || seconds < 1 || seconds > maxProfileSeconds {
		sendText(w, http.StatusBadRequest, fmt.Sprintf("seconds must be a number from 1 to %d", maxProfileSeconds))
		return
	}
	if err := pprof.StartCPUProfile(w); err != nil {
		sendText(w, http.StatusConflict, err.Error())
		return
	}
	defer pprof.StopCPUProfile()
	select {
	case <-time.After(time.Duration(seconds) * time.Second):
	case <-r.Context().Done():
	}
}
