package function

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener of connections that exist already.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	connection, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return connection, nil
}

func (p pipes) Close() error { return nil }

func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestAnswerWriterDoesNotWaitForCallers writes answers to a caller that reads none.
func TestAnswerWriterDoesNotWaitForCallers(t *testing.T) {
	for sentence, test := range map[string]struct {
		size int // bytes
		want time.Duration
		fail bool
	}{
		"an answer that the server buffers": {buffered, 0, false},
		"a large answer":                    {64 << 10, answerTime, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answered := false
				server := &http.Server{WriteTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					began := time.Now()
					_, err := io.WriteString(answerWriter{w}, strings.Repeat("x", test.size))
					answered = true
					if took := time.Since(began); took != test.want || (err != nil) != test.fail {
						t.Errorf("writing takes %s, and ends with %v", took, err)
					}
				})}
				caller, connection := net.Pipe()
				listener := make(pipes, 1)
				listener <- connection
				go func() { _ = server.Serve(listener) }()
				if _, err := io.WriteString(caller, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
					t.Error(err)
				}
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if !answered {
					t.Error("nothing was answered")
				}
				close(listener)
				_ = caller.Close()
				_ = server.Close()
			})
		})
	}
}
