package fair

import (
	"fmt"
	"io"
)

// LongBody is a response body that may turn out long. Past After bytes it acquires memory, by Acquire, which it holds
// until it is closed: so short bodies never wait, and only a bounded number of long ones is in memory at once.
type LongBody struct {
	io.ReadCloser
	After   int                    // bytes
	Acquire func() (func(), error) // waits for memory, and gives what releases it
	What    string                 // in plural, as an error names the other bodies: "lists"

	n       int    // bytes so far
	release func() // nil while the body is short
}

// Read waits for memory when the body turns out long.
func (b *LongBody) Read(into []byte) (n int, err error) {
	if b.n > b.After && b.release == nil {
		if b.release, err = b.Acquire(); err != nil {
			return 0, fmt.Errorf("other %s were read all the time: %w", b.What, err)
		}
	}
	n, err = b.ReadCloser.Read(into)
	b.n += n
	return n, err
}

// Close releases the memory.
func (b *LongBody) Close() error {
	if b.release != nil {
		b.release()
		b.release = nil
	}
	return b.ReadCloser.Close()
}
