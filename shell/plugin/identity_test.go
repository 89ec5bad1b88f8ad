package plugin_test

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/plugin"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/plugintest"
)

func TestRevisionChangesWithPluginsAndConfiguration(t *testing.T) {
	executable := func(dir string) string { return filepath.Join(dir, "venafi-csp", "notation-venafi-csp") }
	tests := map[string]struct {
		change func(t *testing.T, dir string, config map[string]string) error
		same   bool
	}{
		"nothing": {func(*testing.T, string, map[string]string) error { return nil }, true},
		"a file beside it": {func(_ *testing.T, dir string, _ map[string]string) error {
			return os.WriteFile(filepath.Join(dir, "README"), nil, 0o644)
		}, true},
		"the plugin is gone": {func(_ *testing.T, dir string, _ map[string]string) error { return os.Remove(executable(dir)) }, false},
		"it cannot be run":   {func(_ *testing.T, dir string, _ map[string]string) error { return os.Chmod(executable(dir), 0o644) }, false},
		"it is another file": {func(_ *testing.T, dir string, _ map[string]string) error { return replace(executable(dir)) }, false},
		"the directory goes": {func(_ *testing.T, dir string, _ map[string]string) error { return os.RemoveAll(dir) }, false},
		"another one joins": {func(_ *testing.T, dir string, _ map[string]string) error {
			return plugintest.Install(standin, dir, "other", "")
		}, false},
		"a new key":           {func(_ *testing.T, _ string, config map[string]string) error { config["b"] = ""; return nil }, false},
		"a new value":         {func(_ *testing.T, _ string, config map[string]string) error { config["a"] = "2"; return nil }, false},
		"a key less":          {func(_ *testing.T, _ string, config map[string]string) error { delete(config, "a"); return nil }, false},
		"a value that spills": {func(_ *testing.T, _ string, config map[string]string) error { config["a"] = "16:config"; return nil }, false},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			dir, config := t.TempDir(), map[string]string{"a": "1"}
			if err := plugintest.Install(standin, dir, "venafi-csp", ""); err != nil {
				t.Fatal(err)
			}
			if err := replace(executable(dir)); err != nil { // the stand-in is linked, and its own mode may not change
				t.Fatal(err)
			}
			m := plugin.NewManager(plugin.Options{Dir: dir, Reach: reach(t), Config: func() map[string]string { return maps.Clone(config) }, Timeout: 5 * time.Second})
			before := m.Revision()
			if err := test.change(t, dir, config); err != nil {
				t.Fatal(err)
			}
			if after := m.Revision(); (after == before) != test.same {
				t.Errorf("%s, then %s; the same should be %t", before, after, test.same)
			}
		})
	}
}

func TestIdentityChangesWithTheFile(t *testing.T) {
	m, dir := installed(t, "")
	before := m.Identity("venafi-csp")
	if before == "" || before != m.Identity("venafi-csp") {
		t.Errorf("identity %q, then %q", before, m.Identity("venafi-csp"))
	}
	if err := replace(filepath.Join(dir, "venafi-csp", "notation-venafi-csp")); err != nil {
		t.Fatal(err)
	}
	if after := m.Identity("venafi-csp"); after == "" || after == before {
		t.Errorf("identity %q of the new file, %q of the old", after, before)
	}
	for _, name := range []string{"absent", "../venafi-csp", ""} {
		if id := m.Identity(name); id != "" {
			t.Errorf("%q has the identity %q", name, id)
		}
	}
}

// replace puts a copy in a file's place, as an upgrade does.
func replace(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o755); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
