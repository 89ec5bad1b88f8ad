package plugin

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"
)

// identity changes when a plugin's file does.
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

// Identity names the file that a plugin is at this moment: another file, or another content, has another identity.
// It is "" where no such plugin is installed.
func (m *Manager) Identity(name string) string {
	path, file, err := m.locate(name)
	if err != nil {
		return ""
	}
	return digestOf(path, file.String())
}

// Revision is a value that changes when a plugin is installed, replaced or removed, and when the configuration of
// plugins changes: with it, what a plugin has answered is as good as new. It costs one look at each installed
// plugin's file and is never remembered.
func (m *Manager) Revision() string {
	var parts []string
	entries, err := os.ReadDir(m.options.Dir)
	if err != nil { // no plugins, and a difference between none and not to be seen
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

// String has all that tells two files apart.
func (id identity) String() string {
	return fmt.Sprintf("%d/%d/%d/%d/%d.%d", id.device, id.inode, id.size, id.modified.UnixNano(), id.statusChange.Sec, id.statusChange.Nsec)
}

// digestOf is one short value for many, of which no two lists share one. It also hides them: plugin configuration
// holds secrets.
func digestOf(parts ...string) string {
	hash := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(hash, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(hash.Sum(nil)[:16])
}
