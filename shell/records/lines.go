package records

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/nirmata/kyverno-notation-venafi/core/ledger"
	"github.com/nirmata/kyverno-notation-venafi/shell/sealer"
)

// lines writes records to a file, a line each, or to standard output.
type lines struct {
	path string // "" for out
	most int64
	out  io.Writer

	file *os.File // nil for out, and while it cannot be opened
	size int64    // of the file
	text []byte   // that was written last, to be overwritten
	torn bool     // what was written last may have ended within a line
}

func openLines(options Options) (*lines, error) {
	l := &lines{path: options.File, most: options.FileBytes, out: options.Output}
	if l.path == "-" {
		l.path = ""
		return l, nil
	}
	return l, l.open()
}

func (l *lines) open() error {
	file, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	l.file, l.out, l.size = file, file, info.Size()
	last := make([]byte, 1)
	if info.Mode().IsRegular() && l.size > 0 {
		_, err = file.ReadAt(last, l.size-1)
		l.torn = err == nil && last[0] != '\n' // the process that wrote it ended there
	}
	return nil
}

// last gives the last line that is in the file, or in the one that was rotated away last.
func (l *lines) last() (*ledger.Head, error) {
	if l.file == nil || l.size > 0 {
		return tail(l.file)
	}
	rotated, err := os.Open(l.path + ".1")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer rotated.Close()
	return tail(rotated)
}

// tail gives the last line of a file; nil for nil, and for what is no regular file.
func tail(file *os.File) (*ledger.Head, error) {
	if file == nil {
		return nil, nil
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	return sealer.Tail(file, info.Size())
}

// write appends a batch. Where that fails, it takes back what was written of it.
func (l *lines) write(_ context.Context, batch [][]byte) error {
	text := l.text[:0]
	for _, line := range batch {
		text = append(append(text, line...), '\n')
	}
	if l.text = text; cap(text) > 2*maxBatchBytes {
		l.text = nil
	}
	if err := l.rotate(len(text)); err != nil {
		return err
	}
	return l.append(text)
}

func (l *lines) append(text []byte) error {
	if l.torn {
		text = append([]byte("\n"), text...)
	}
	n, err := l.out.Write(text)
	if err == nil {
		l.size, l.torn = l.size+int64(n), false
		return nil
	}
	if l.file == nil || l.file.Truncate(l.size) != nil {
		l.torn = l.torn || n > 0
		l.size += int64(n)
	}
	return err
}

// rotate makes room: the file becomes FILE.1, in the place of an older one.
func (l *lines) rotate(more int) error {
	switch {
	case l.path == "":
		return nil
	case l.file == nil:
		return l.open()
	case l.most == 0 || l.size == 0 || l.size+int64(more) <= l.most:
		return nil
	}
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		return fmt.Errorf("no room in %s: %w", l.path, err)
	}
	err := l.file.Close()
	l.file, l.torn = nil, false
	return errors.Join(err, l.open())
}

func (l *lines) close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}
