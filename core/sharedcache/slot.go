package sharedcache

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// A sealed value is
//
//	version   1 byte
//	from      8 bytes   when the work began, nanoseconds since 1970, big endian
//	until     8 bytes   from when on it does not count
//	nonce    12 bytes
//	sealed              AES-256-GCM, its tag included, of the text, which blanks fill up to a multiple of 256 bytes
//
// The version and both times are authenticated together with the name.
const (
	boundsSize = 1 + 8 + 8
	headerSize = boundsSize + NonceSize
	padding    = 256
)

// NonceSize is the size of a nonce, bytes. Each is used once; random ones will do, since each name has a key of its own.
const NonceSize = 12

// MaxSealed bounds a sealed value, bytes. Facts with much text are not shared.
const MaxSealed = 64 << 10

// MaxSkew is by how much the clock of another replica may be ahead.
const MaxSkew = 5 * time.Second

// Slot is a place in the server.
type Slot struct {
	Name string // under which the server has it
	aead cipher.AEAD
	key  key
}

func (k key) slot(name, purpose string) Slot {
	block, err := aes.NewCipher(mac(k.seals, purpose, []byte(name)))
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has blocks of 16 bytes
	}
	return Slot{Name: name, aead: aead, key: k}
}

// Lease is the place that says that somebody works on what belongs here. A server of several nodes has both on the same one.
func (s Slot) Lease() Slot { return s.key.slot(s.Name+":lease", "lease") }

// bounds is the header without the nonce.
func bounds(from, until time.Time) []byte {
	header := append(make([]byte, 0, headerSize), Version)
	header = binary.BigEndian.AppendUint64(header, uint64(from.UnixNano()))
	return binary.BigEndian.AppendUint64(header, uint64(until.UnixNano()))
}

// SealText seals a text that counts between two times; false if it is too long.
func (s Slot) SealText(text []byte, from, until time.Time, nonce [NonceSize]byte) ([]byte, bool) {
	padded := append(bytes.Clone(text), bytes.Repeat([]byte(" "), (padding-len(text)%padding)%padding)...)
	if headerSize+len(padded)+s.aead.Overhead() > MaxSealed {
		return nil, false
	}
	header := bounds(from, until)
	return s.aead.Seal(append(header, nonce[:]...), nonce[:], padded, s.authenticated(header)), true
}

// authenticated is what is authenticated beside the text.
func (s Slot) authenticated(header []byte) []byte {
	return append(bytes.Clone(header[:boundsSize]), s.Name...)
}

// Reasons for which a sealed value does not count. Only a false one says something about the server.
var (
	ErrFalse = errors.New("it was not sealed for this place")                      // made up, changed, or moved here from elsewhere
	ErrOther = errors.New("it has another version of the format")                  // a replica of another version wrote it, or somebody did
	ErrOver  = errors.New("its time is over")                                      // or the reader's clock is ahead
	ErrEarly = errors.New("its time has not begun: the clocks of replicas differ") // or the reader's clock is behind
)

// OpenText gives the text of a sealed value that counts now, without the blanks at its end, and its bounds. Errors are those above.
func (s Slot) OpenText(sealed []byte, now time.Time) (text []byte, from, until time.Time, err error) {
	switch {
	case len(sealed) > MaxSealed || len(sealed) < headerSize:
		return nil, from, until, fmt.Errorf("%w: it has %d bytes", ErrFalse, len(sealed))
	case sealed[0] != Version:
		return nil, from, until, ErrOther
	}
	text, err = s.aead.Open(nil, sealed[boundsSize:headerSize], sealed[headerSize:], s.authenticated(sealed))
	if err != nil {
		return nil, from, until, ErrFalse
	}
	from = time.Unix(0, int64(binary.BigEndian.Uint64(sealed[1:]))).UTC()
	until = time.Unix(0, int64(binary.BigEndian.Uint64(sealed[9:]))).UTC()
	switch {
	case from.After(now.Add(MaxSkew)):
		return nil, from, until, ErrEarly
	case !now.Before(until):
		return nil, from, until, ErrOver
	}
	return bytes.TrimRight(text, " "), from, until, nil
}
