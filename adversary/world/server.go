package world

import (
	"io"
	"log"
	"net"
	"net/http"
	"regexp"
	"sync"
	"time"
)

// Server is the network in which the worlds are: an HTTP proxy on loopback behind which every host name is a registry of
// one of the worlds. What it is asked for and no world has does not exist.
type Server struct {
	server   *http.Server
	listener net.Listener
	served   chan struct{}
	worlds   sync.Map // by name

	mu      sync.Mutex
	strange []Call // that no world was there for
}

// Call is a request, or an attempt to reach a host by TLS.
type Call struct {
	Host          string
	Path          string
	Authorization string
}

// NewServer starts to listen.
func NewServer() (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{listener: listener, served: make(chan struct{})}
	s.server = &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.served)
		_ = s.server.Serve(listener) // until Close
	}()
	return s, nil
}

// URL is the proxy's.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Close ends it.
func (s *Server) Close() {
	_ = s.server.Close()
	<-s.served
}

// Add makes a world's registries reachable.
func (s *Server) Add(w *World) { s.worlds.Store(w.Name, w) }

// Remove takes them away.
func (s *Server) Remove(w *World) { s.worlds.Delete(w.Name) }

var worldName = regexp.MustCompile(`\bw[0-9]+\b`)

// ServeHTTP finds the world that a request is for, by its host or else by the repository.
func (s *Server) ServeHTTP(to http.ResponseWriter, request *http.Request) {
	call := Call{request.Host, request.URL.Path, request.Header.Get("Authorization")}
	if request.Method == http.MethodConnect {
		s.note(call)
		http.Error(to, "no TLS here", http.StatusBadGateway)
		return
	}
	name := worldName.FindString(request.Host)
	if name == "" {
		name = worldName.FindString(request.URL.Path)
	}
	found, ok := s.worlds.Load(name)
	if !ok {
		s.note(call)
		http.NotFound(to, request)
		return
	}
	found.(*World).ServeHTTP(to, request)
}

func (s *Server) note(call Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.strange) < 1000 {
		s.strange = append(s.strange, call)
	}
}

// Strange gives, and forgets, what was asked of hosts that are in no world.
func (s *Server) Strange() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.strange
	s.strange = nil
	return calls
}
