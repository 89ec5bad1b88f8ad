package adversary_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/nirmata/kyverno-notation-venafi"

// imports gives what the Go files below a directory import, by file.
func imports(t *testing.T, dir string, tests bool) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || !tests && strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, imported := range file.Imports {
			found[path] = append(found[path], strings.Trim(imported.Path.Value, `"`))
		}
		return nil
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %d files, %v", dir, len(found), err)
	}
	return found
}

// TestTheOracleIsOnItsOwn holds that it has no code in common with what it judges.
func TestTheOracleIsOnItsOwn(t *testing.T) {
	for path, imported := range imports(t, "oracle", true) {
		for _, name := range imported {
			if strings.HasPrefix(name, module) || strings.Contains(name, "notaryproject") || strings.Contains(name, "kyverno") || strings.Contains(name, "distribution/reference") || strings.HasPrefix(name, "oras.land") {
				t.Errorf("%s imports %s", path, name)
			}
		}
	}
}

// TestTheServiceHasNoAdversary holds that none of this is in the service's binary.
func TestTheServiceHasNoAdversary(t *testing.T) {
	for _, dir := range []string{"../core", "../shell", "../function"} {
		for path, imported := range imports(t, dir, false) {
			for _, name := range imported {
				if strings.HasPrefix(name, module+"/adversary") {
					t.Errorf("%s imports %s", path, name)
				}
			}
		}
	}
}
