package sharedcache

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/sharedcache"
)

// Bounds on what a server answers. The client's library makes room for what an answer says that it will hold, and calls itself for each
// level of a list: without bounds a server could use up memory and stack by a few bytes.
const (
	maxText     = 2 * sharedcache.MaxSealed // bytes of a text
	maxLine     = 4 << 10                   // bytes of a line
	maxElements = 32 << 10                  // of all lists of an answer together
	maxDepth    = 8                         // lists within lists
	maxAnswer   = 2 << 20                   // bytes
)

var errAnswer = errors.New("the answer of the shared cache exceeds a bound or breaks the protocol")

// guardedConn is a connection of which only well-formed answers of the Redis protocol within the bounds are read: those of version 2, and
// of version 3, which the library speaks to sentinels, all but attributes and streams.
type guardedConn struct {
	net.Conn
	scan  scanner
	err   error
	used  bool      // something was read
	until time.Time // of reads; zero for none
}

func guarded(conn net.Conn) net.Conn {
	if conn == nil {
		return nil
	}
	return &guardedConn{Conn: conn}
}

// Read gives no byte of an answer that breaks a bound from there on.
func (g *guardedConn) Read(into []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	n, err := g.look(into)
	g.used = g.used || n > 0
	good, fault := g.scan.take(into[:n])
	if fault != nil {
		g.err = fault
		_ = g.Conn.Close() // no later answer can be told from the rest of this one
		if good == 0 {
			return 0, fault
		}
		return good, nil
	}
	return n, err
}

// SetDeadline is part of net.Conn.
func (g *guardedConn) SetDeadline(t time.Time) error {
	g.until = t
	return g.Conn.SetDeadline(t)
}

// SetReadDeadline is part of net.Conn.
func (g *guardedConn) SetReadDeadline(t time.Time) error {
	g.until = t
	return g.Conn.SetReadDeadline(t)
}

// Times between looks.
const (
	firstLook   = time.Millisecond
	longestLook = 5 * time.Millisecond
	lastLook    = 100 * time.Microsecond
)

// look reads what has come, and looks for it again and again, at least once: Go asks the system which connections have something to read
// when a processor has nothing else to do, or every 10 milliseconds, while it keeps to timers all the time. So a process with much to do
// would see the deadline before the answer that has come long before.
func (g *guardedConn) look(into []byte) (n int, err error) {
	if g.until.IsZero() {
		return g.Conn.Read(into)
	}
	for pause := firstLook; ; pause = min(2*pause, longestLook) {
		wait := max(lastLook, min(pause, time.Until(g.until)))
		if err := g.Conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return 0, err
		}
		n, err = g.Conn.Read(into)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !time.Now().Before(g.until) {
			return n, err
		}
	}
}

// SyscallConn lets the client's pool see, before it uses a connection again, that the server has closed it or has sent what nobody
// asked for. A connection over TLS has unread session tickets until something was read.
func (g *guardedConn) SyscallConn() (syscall.RawConn, error) {
	inner := g.Conn
	if secure, ok := inner.(*tls.Conn); ok && g.used {
		inner = secure.NetConn()
	}
	if conn, ok := inner.(syscall.Conn); ok {
		return conn.SyscallConn()
	}
	return unseen{}, nil
}

// unseen is a connection of which nothing can be seen.
type unseen struct{}

func (unseen) Control(func(uintptr)) error    { return nil }
func (unseen) Read(func(uintptr) bool) error  { return nil }
func (unseen) Write(func(uintptr) bool) error { return nil }

// scanner follows a stream of answers, however it is cut.
type scanner struct {
	line  []byte // the header so far, with its type
	skip  int    // bytes of a text, and its line break, that come next
	open  []int  // elements that each open list still lacks
	total int    // bytes of the answer
	lists int    // elements of its lists
}

// take follows some bytes, and gives how many of them are good.
func (s *scanner) take(some []byte) (good int, err error) {
	for good < len(some) {
		if s.skip > 0 {
			n := min(s.skip, len(some)-good)
			s.skip -= n
			s.total += n
			good += n
			if s.skip == 0 {
				s.ended()
			}
			continue
		}
		s.line = append(s.line, some[good])
		s.total++
		if len(s.line) > maxLine || s.total > maxAnswer {
			return good, fmt.Errorf("%w: it is too long", errAnswer)
		}
		if some[good] == '\n' {
			if err := s.header(); err != nil {
				return good, err
			}
			s.line = s.line[:0]
		}
		good++
	}
	return good, nil
}

// header reads a whole line.
func (s *scanner) header() error {
	if len(s.line) < 3 || s.line[len(s.line)-2] != '\r' {
		return fmt.Errorf("%w: %.20q is no line", errAnswer, s.line)
	}
	switch kind := s.line[0]; kind {
	case '+', '-', ':', ',', '#', '_', '(':
		s.ended()
		return nil
	case '$', '!', '=', '*', '~', '>', '%':
		n, err := length(s.line[1 : len(s.line)-2])
		switch {
		case err != nil:
			return err
		case kind == '%': // pairs
			return s.list(2 * n)
		case kind == '*' || kind == '~' || kind == '>':
			return s.list(n)
		}
		return s.text(n)
	}
	return fmt.Errorf("%w: it begins with %q", errAnswer, s.line[0])
}

func (s *scanner) text(n int) error {
	if n > maxText || s.total+n > maxAnswer {
		return fmt.Errorf("%w: a text has %d bytes", errAnswer, n)
	}
	if n < 0 {
		s.ended()
		return nil
	}
	s.skip = n + len("\r\n")
	return nil
}

func (s *scanner) list(n int) error {
	if n <= 0 {
		s.ended()
		return nil
	}
	if s.lists += n; n > maxElements || s.lists > maxElements || len(s.open) == maxDepth {
		return fmt.Errorf("%w: a list has %d elements, in %d lists", errAnswer, n, len(s.open))
	}
	s.open = append(s.open, n)
	return nil
}

// ended is after a value that is no list, or an empty one: the lists that it completes end too, and maybe the answer.
func (s *scanner) ended() {
	for len(s.open) > 0 {
		last := len(s.open) - 1
		if s.open[last]--; s.open[last] > 0 {
			return
		}
		s.open = s.open[:last]
	}
	s.total, s.lists = 0, 0
}

// length is a count: digits, or -1 for nothing.
func length(digits []byte) (n int, err error) {
	if string(digits) == "-1" {
		return -1, nil
	}
	if len(digits) == 0 || len(digits) > 8 {
		return 0, fmt.Errorf("%w: %.20q is no length", errAnswer, digits)
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, fmt.Errorf("%w: %.20q is no length", errAnswer, digits)
		}
		n = 10*n + int(d-'0')
	}
	return n, nil
}
