package kubetest

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
)

// RoundTrip answers a request in memory, in place of a network. The answer is read while it is written; it breaks off when the
// request's context ends, or the server stops.
func (s *Server) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	up := s.up
	s.mu.Unlock()
	if up.Err() != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	reader, writer := io.Pipe()
	context.AfterFunc(up, func() { cancel(errStopped) })
	context.AfterFunc(ctx, func() { _ = writer.CloseWithError(context.Cause(ctx)) })
	answer := &answer{header: http.Header{}, body: writer, begun: make(chan struct{})}
	go func() {
		s.ServeHTTP(answer, r.WithContext(ctx))
		answer.WriteHeader(http.StatusOK)
		_ = writer.Close()
		if r.Body != nil {
			_ = r.Body.Close()
		}
	}()
	select {
	case <-answer.begun:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return &http.Response{
		Status: http.StatusText(answer.status), StatusCode: answer.status, Header: answer.header, ContentLength: -1,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, Body: body{reader, cancel},
	}, nil
}

// CloseIdleConnections does nothing: there are none.
func (s *Server) CloseIdleConnections() {}

// answer is the http.ResponseWriter of one request.
type answer struct {
	header http.Header
	body   *io.PipeWriter
	once   sync.Once
	status int
	begun  chan struct{} // closed when status and header are set
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	a.once.Do(func() {
		a.status = status
		close(a.begun)
	})
}

func (a *answer) Write(text []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(text)
}

// body is an answer's body, whose Close ends the request.
type body struct {
	io.Reader
	cancel context.CancelCauseFunc
}

func (b body) Close() error {
	b.cancel(context.Canceled)
	return nil
}
