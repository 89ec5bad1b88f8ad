package trust

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// Bounds on what is read from a directory.
const (
	maxFileSize = 4 << 20 // bytes
	maxFiles    = 10_000
)

// Files keeps a snapshot of the trust resources in the .yaml, .yml and .json files of a directory, without
// subdirectories.
type Files struct {
	dir      string
	log      *slog.Logger
	changed  func()
	read     func(path string) ([]byte, error)
	snapshot atomic.Pointer[trust.Snapshot]
	seen     string // fingerprint of the files of the snapshot; used by the goroutine that runs Watch only
}

// OpenFiles reads the directory, and calls changed after every new snapshot. It fails when the directory cannot be read. A
// file that cannot be read is logged and does not affect the others.
func OpenFiles(dir string, log *slog.Logger, changed func()) (*Files, error) {
	f := &Files{dir: dir, log: log, changed: changed, read: readBounded, seen: "nothing yet"}
	if err := f.reload(); err != nil {
		return nil, fmt.Errorf("trust directory %s: %w", dir, err)
	}
	return f, nil
}

// Snapshot gives the trust of this moment.
func (f *Files) Snapshot() (trust.Snapshot, bool) { return *f.snapshot.Load(), true }

// Watch reloads changed files until ctx ends. It compares names, sizes and times every interval, which works on network and
// projected volumes too, where there are no notifications. While the directory cannot be read, the last snapshot stays; when
// the directory is deleted, the snapshot becomes empty.
func (f *Files) Watch(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch err := f.reload(); {
		case errors.Is(err, fs.ErrNotExist):
			f.publish(resources{}, "gone")
		case err != nil:
			f.log.Error("trust directory cannot be read; the last trust stays", "dir", f.dir, "error", err)
		}
	}
}

// reload reads the files if their fingerprint changed.
func (f *Files) reload() error {
	names, fingerprint, err := f.list()
	if err != nil || (fingerprint == f.seen && f.snapshot.Load() != nil) {
		return err
	}
	found, failed := f.readAll(names)
	f.publish(found, fingerprint+failed)
	return nil
}

// readAll reads the named files. failed is what those that could not be read add to the fingerprint.
func (f *Files) readAll(names []string) (found resources, failed string) {
	for _, name := range names {
		data, err := f.read(filepath.Join(f.dir, name))
		if err != nil {
			found.problems = append(found.problems, Problem{Kind: "file", Name: name, Reason: err.Error()})
			failed += unread(err)
			continue
		}
		found.add(parseFile(name, data))
	}
	return found, failed
}

// unread is added to the fingerprint for a file that could not be read. The next listing lacks it, so the files are read
// again until they can be read. A file that is too long stays unreadable, and adds nothing.
func unread(err error) string {
	var failed *fs.PathError
	if !errors.As(err, &failed) {
		return ""
	}
	return failed.Error() + "\n"
}

func (f *Files) publish(found resources, fingerprint string) {
	if fingerprint == f.seen {
		return
	}
	snapshot, problems := found.applied().Compile()
	for _, p := range append(found.problems, problems...) {
		p.Log(f.log)
	}
	f.seen = fingerprint
	f.snapshot.Store(&snapshot)
	f.log.Info("trust loaded", "dir", f.dir, "policies", len(snapshot.Policies), "stores", len(snapshot.Stores))
	f.changed()
}

// list gives the names of the trust files and a fingerprint that changes when one of them does.
func (f *Files) list() ([]string, string, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, "", err
	}
	var names []string
	var fingerprint strings.Builder
	for _, entry := range entries {
		if !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(entry.Name())) {
			continue
		}
		info, err := os.Stat(filepath.Join(f.dir, entry.Name())) // follows links, as ConfigMap volumes have them
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		names = append(names, entry.Name())
		fmt.Fprintf(&fingerprint, "%s %d %d\n", entry.Name(), info.Size(), info.ModTime().UnixNano())
	}
	if len(names) > maxFiles {
		return nil, "", fmt.Errorf("it holds %d trust files; at most %d are read", len(names), maxFiles)
	}
	return names, fingerprint.String(), nil
}

func readBounded(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("it is over %d bytes", maxFileSize)
	}
	return data, nil
}
