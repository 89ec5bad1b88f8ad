package plugin

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// identity tells a plugin's file from another one, and from a changed one.
type identity struct {
	inode, size  int64
	device       uint64
	modified     time.Time
	statusChange syscall.Timespec
}

func identify(info fs.FileInfo) identity {
	id := identity{size: info.Size(), modified: info.ModTime()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		id.inode, id.device, id.statusChange = int64(stat.Ino), stat.Dev, stat.Ctim
	}
	return id
}

// Identity identifies the plugin's file of this moment: it changes when the file is replaced or written. It is "" where
// no such plugin is installed.
func (m *Manager) Identity(name string) string {
	path, file, err := m.locate(name)
	if err != nil {
		return ""
	}
	return digestOf(path, file.String())
}

// Revision changes when a plugin is installed, replaced or removed, and when the plugin configuration changes. An answer
// of a plugin stays valid for as long as the revision is the same. It is worked out at every call, from the state of each
// installed plugin's file.
func (m *Manager) Revision() string {
	var parts []string
	entries, err := os.ReadDir(m.options.Dir)
	if err != nil { // a directory that cannot be read differs from an empty one
		parts = append(parts, "unread", err.Error())
	}
	for _, entry := range entries {
		if id := m.Identity(entry.Name()); id != "" {
			parts = append(parts, "plugin", entry.Name(), id)
		}
	}
	config := m.Config()
	for _, key := range slices.Sorted(maps.Keys(config)) {
		parts = append(parts, "config", key, config[key])
	}
	if info, err := os.Stat(config[configKey]); err == nil {
		parts = append(parts, "file", identify(info).String())
	}
	return digestOf(parts...)
}

// contents remembers what Content found.
type contents struct {
	mu               sync.Mutex
	revision, digest string
}

// Content identifies by what the files hold what a revision identifies by their state, so that it is the same in every replica. It
// is "" where that cannot be told: a file cannot be read, or is not that of the revision any more. Files are read once for a revision.
func (m *Manager) Content(revision string) string {
	m.contents.mu.Lock()
	defer m.contents.mu.Unlock()
	if m.contents.revision == revision {
		return m.contents.digest
	}
	digest, err := m.readContent()
	if err != nil || m.Revision() != revision { // it is read again at the next call
		return ""
	}
	m.contents.revision, m.contents.digest = revision, digest
	return digest
}

func (m *Manager) readContent() (string, error) {
	entries, err := os.ReadDir(m.options.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var parts []string
	for _, entry := range entries {
		path, _, err := m.locate(entry.Name())
		if err != nil {
			continue // no plugin
		}
		content, err := digestOfFile(path)
		if err != nil {
			return "", err
		}
		parts = append(parts, "plugin", entry.Name(), content)
	}
	config := m.Config()
	for _, key := range slices.Sorted(maps.Keys(config)) {
		parts = append(parts, "config", key, config[key])
	}
	if content, err := digestOfFile(config[configKey]); err == nil {
		parts = append(parts, "file", content)
	}
	return digestOf(parts...), nil
}

func digestOfFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// String holds all fields.
func (id identity) String() string {
	return fmt.Sprintf("%d/%d/%d/%d/%d.%d", id.device, id.inode, id.size, id.modified.UnixNano(), id.statusChange.Sec, id.statusChange.Nsec)
}

// digestOf is a short value that differs for every list of parts. It also hides them, since plugin configuration holds
// secrets.
func digestOf(parts ...string) string {
	hash := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(hash, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(hash.Sum(nil)[:16])
}
