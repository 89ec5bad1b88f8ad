package trust

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

func TestReloadReadsAFileAgainAfterAFailure(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"good", "hidden"} {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(scenariotest.TrustPolicy(name, "strict", "ca:acme")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var log strings.Builder
	changes, hidden := 0, true
	files := &Files{dir: dir, log: slog.New(slog.NewTextHandler(&log, nil)), changed: func() { changes++ }, seen: "nothing yet"}
	files.read = func(path string) ([]byte, error) {
		if hidden && filepath.Base(path) == "hidden.yaml" {
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
		}
		return readBounded(path)
	}
	look := func(policies, wantChanges int) {
		t.Helper()
		for range 3 {
			if err := files.reload(); err != nil {
				t.Fatal(err)
			}
		}
		if snapshot, _ := files.Snapshot(); len(snapshot.Policies) != policies || changes != wantChanges {
			t.Errorf("%d policies after %d changes; want %d after %d", len(snapshot.Policies), changes, policies, wantChanges)
		}
	}
	look(1, 1)
	hidden = false
	look(2, 2)
	hidden = true // it is not looked at while nothing of it changes
	look(2, 2)
	if n := strings.Count(log.String(), "permission denied"); n != 1 {
		t.Errorf("it was told of %d times:\n%s", n, log.String())
	}
}
