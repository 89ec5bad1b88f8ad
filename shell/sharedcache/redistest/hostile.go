package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Hostile is a server in memory, of which Answer makes whatever a test wants. Without one it is honest. It keeps all that it was ever
// given.
type Hostile struct {
	Address string

	mu      sync.Mutex
	answer  Answer
	values  map[string]value
	history map[string][][]byte
	asked   map[string]int
	conns   map[net.Conn]bool

	listener net.Listener
	serving  sync.WaitGroup
}

type value struct {
	text  []byte
	until time.Time // zero for ever
}

// Answer gives the bytes that are answered to a command; false leaves it to the honest server. It may wait. honest is what that would
// have answered, and done.
type Answer func(command []string, honest func() []byte) (answer []byte, own bool)

// Hang is an answer that does not come: the connection stays open.
var Hang = []byte("\x00hang")

// Cut is an answer after which the connection is closed.
func Cut(some []byte) []byte { return append([]byte("\x00cut"), some...) }

// NewHostile makes a server that listens on a loopback port. Close it in the end.
func NewHostile() (*Hostile, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := &Hostile{Address: listener.Addr().String(), listener: listener, values: map[string]value{}, history: map[string][][]byte{}, asked: map[string]int{}, conns: map[net.Conn]bool{}}
	h.serving.Go(h.accept)
	return h, nil
}

// Set sets what the server answers from now on; nil for an honest server.
func (h *Hostile) Set(answer Answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = answer
}

// History gives all values that were ever set under a name, the oldest first.
func (h *Hostile) History(name string) [][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([][]byte(nil), h.history[name]...)
}

// Names gives all names that values were set under, without leases.
func (h *Hostile) Names() (names []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name := range h.history {
		if !strings.HasSuffix(name, ":lease") {
			names = append(names, name)
		}
	}
	return names
}

// Asked gives how often a command came.
func (h *Hostile) Asked(command string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked[command]
}

// Forget loses all values.
func (h *Hostile) Forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.values)
}

// Close ends all connections.
func (h *Hostile) Close() {
	_ = h.listener.Close() // nobody connects any more
	h.mu.Lock()
	for conn := range h.conns {
		_ = conn.Close()
	}
	h.mu.Unlock()
	h.serving.Wait()
}

func (h *Hostile) accept() {
	for {
		conn, err := h.listener.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns[conn] = true
		h.mu.Unlock()
		h.serving.Go(func() {
			h.serve(conn)
			_ = conn.Close() // the client sees it
			h.mu.Lock()
			defer h.mu.Unlock()
			delete(h.conns, conn)
		})
	}
}

func (h *Hostile) serve(conn net.Conn) {
	reader := bufio.NewReader(conn)
	for {
		command, err := readCommand(reader)
		if err != nil {
			return
		}
		h.mu.Lock()
		h.asked[strings.ToUpper(command[0])]++
		answer := h.answer
		h.mu.Unlock()
		honest := func() []byte { return h.honest(command) }
		var text []byte
		own := false
		if answer != nil {
			text, own = answer(command, honest)
		}
		if !own {
			text = honest()
		}
		if string(text) == string(Hang) {
			_, _ = io.Copy(io.Discard, reader) // until the client has enough
			return
		}
		rest, cut := strings.CutPrefix(string(text), "\x00cut")
		if _, err := io.WriteString(conn, rest); err != nil || cut {
			return
		}
	}
}

// Text is a text in the protocol; nil for none.
func Text(text []byte) []byte {
	if text == nil {
		return []byte("$-1\r\n")
	}
	return fmt.Appendf(nil, "$%d\r\n%s\r\n", len(text), text)
}

// honest does what Redis does for the commands that the service uses.
func (h *Hostile) honest(command []string) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch name := strings.ToUpper(command[0]); {
	case name == "HELLO":
		return []byte("*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n")
	case name == "GET" && len(command) == 2:
		return Text(h.get(command[1]))
	case name == "DEL" && len(command) == 2:
		delete(h.values, command[1])
		return []byte(":1\r\n")
	case name == "SET" && len(command) >= 3:
		return h.set(command)
	case name == "PING":
		return []byte("+PONG\r\n")
	}
	return []byte("-ERR unknown command\r\n")
}

func (h *Hostile) get(name string) []byte {
	found, ok := h.values[name]
	if !ok || !found.until.IsZero() && time.Now().After(found.until) {
		return nil
	}
	return found.text
}

func (h *Hostile) set(command []string) []byte {
	put, only := value{text: []byte(command[2])}, false
	for i, option := range command[3:] {
		switch strings.ToUpper(option) {
		case "NX":
			only = true
		case "PX", "EX":
			n, _ := strconv.Atoi(command[min(i+4, len(command)-1)])
			unit := map[bool]time.Duration{true: time.Millisecond, false: time.Second}[strings.EqualFold(option, "PX")]
			put.until = time.Now().Add(time.Duration(n) * unit)
		}
	}
	if only && h.get(command[1]) != nil {
		return []byte("$-1\r\n")
	}
	h.values[command[1]] = put
	h.history[command[1]] = append(h.history[command[1]], put.text)
	return []byte("+OK\r\n")
}

// readCommand reads a list of texts.
func readCommand(reader *bufio.Reader) (command []string, err error) {
	n, err := readLength(reader, '*')
	for range n {
		var size int
		if size, err = readLength(reader, '$'); err != nil {
			break
		}
		text := make([]byte, size+2)
		if _, err = io.ReadFull(reader, text); err != nil {
			break
		}
		command = append(command, string(text[:size]))
	}
	if err == nil && len(command) == 0 {
		err = errors.New("an empty command")
	}
	return command, err
}

func readLength(reader *bufio.Reader, kind byte) (int, error) {
	line, err := reader.ReadString('\n')
	if err != nil || line[0] != kind {
		return 0, fmt.Errorf("%q is no length: %w", line, err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(line[1:]))
	if err != nil || n < 0 || n > 1<<20 {
		return 0, fmt.Errorf("%q is no length", line)
	}
	return n, nil
}
