package function

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/nirmata/kyverno-notation-venafi/core/notation"
)

// Bounds on a configuration directory of notation.
const (
	maxNotationFile  = 1 << 20 // bytes
	maxNotationFiles = 10_000
)

// ReadNotation reads the trust policies and trust stores of a configuration directory of notation, and nothing else of it: keys and
// credentials may be beside them. Like notation it refuses symbolic links, in trust stores and as a policy.
func ReadNotation(dir string) ([]notation.File, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var files []notation.File
	for _, name := range []string{notation.PolicyFile, notation.ImagePolicies, notation.BlobPolicies} {
		file, err := readNotationFile(root, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	err = fs.WalkDir(root.FS(), "truststore", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && name == "truststore":
			return nil
		case err != nil:
			return err
		case entry.IsDir():
			return nil
		case len(files) >= maxNotationFiles:
			return fmt.Errorf("%s holds over %d files", dir, maxNotationFiles)
		}
		file, err := readNotationFile(root, name)
		files = append(files, file)
		return err
	})
	return files, err
}

// readNotationFile reads a regular file.
func readNotationFile(root *os.Root, name string) (notation.File, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return notation.File{}, err
	}
	if !info.Mode().IsRegular() {
		return notation.File{}, fmt.Errorf("%s is no regular file; notation reads no symbolic links", name)
	}
	file, err := root.Open(name)
	if err != nil {
		return notation.File{}, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxNotationFile+1))
	if err == nil && len(data) > maxNotationFile {
		err = fmt.Errorf("%s has over %d bytes", name, maxNotationFile)
	}
	return notation.File{Path: name, Data: data}, err
}

// WriteNotation makes a configuration directory of notation, as a whole or not at all. It refuses a directory that has anything in it.
func WriteNotation(dir string, files []notation.File) (err error) {
	dir = filepath.Clean(dir)
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case len(entries) > 0:
		return fmt.Errorf("%s holds %s already; name a directory that is empty or does not exist", dir, entries[0].Name())
	}
	made, err := os.MkdirTemp(filepath.Dir(dir), ".notation-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(made)
		}
	}()
	if err := os.Chmod(made, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(made)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, file := range files {
		if !fs.ValidPath(file.Path) || strings.Contains(file.Path, `\`) {
			return fmt.Errorf("%q is no path in a directory", file.Path)
		}
		if err := root.MkdirAll(path.Dir(file.Path), 0o755); err != nil {
			return err
		}
		if err := root.WriteFile(file.Path, file.Data, 0o644); err != nil {
			return err
		}
	}
	return os.Rename(made, dir)
}
