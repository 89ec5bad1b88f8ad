package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	framework "github.com/notaryproject/notation-plugin-framework-go/plugin"
	"go.uber.org/goleak"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/plugintest"
)

// standin is the built stand-in plugin, set once before the tests.
var standin string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "plugin-test-")
	if err == nil {
		standin, err = plugintest.Build(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "building the stand-in plugin:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// installed gives a manager over a directory with the stand-in in a mode.
func installed(t *testing.T, mode string) (*plugin.Manager, string) {
	t.Helper()
	dir := t.TempDir()
	if err := plugintest.Install(standin, dir, "venafi-csp", mode); err != nil {
		t.Fatal(err)
	}
	return plugin.NewManager(plugin.Options{Dir: dir, Reach: reach(t), Config: func() map[string]string { return nil }, Timeout: 5 * time.Second}), dir
}

// metadata asks the stand-in what it is.
func metadata(t *testing.T, m *plugin.Manager) (*framework.GetMetadataResponse, error) {
	t.Helper()
	found, err := m.Get(t.Context(), "venafi-csp")
	if err != nil {
		t.Fatal(err)
	}
	return found.GetMetadata(t.Context(), &framework.GetMetadataRequest{})
}

func calls(t *testing.T, dir string) int {
	t.Helper()
	made, err := plugintest.Calls(dir, "venafi-csp")
	if err != nil {
		t.Fatal(err)
	}
	return len(made)
}

func TestGetRefusesInvalidNames(t *testing.T) {
	m, dir := installed(t, "")
	for _, name := range []string{"plain", "folder"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "plain", "notation-plain"), []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder", "notation-folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "..", "../venafi-csp", "venafi-csp/../venafi-csp", "/etc", "a b", "absent", "plain", "folder"} {
		var failure *plugin.Error
		if _, err := m.Get(t.Context(), name); !errors.As(err, &failure) || failure.Code != reason.PluginMissing {
			t.Errorf("%q: %v; want %s", name, err, reason.PluginMissing)
		}
	}
	if names, err := m.List(t.Context()); err != nil || fmt.Sprint(names) != "[venafi-csp]" {
		t.Errorf("listed %q, %v", names, err)
	}
}

func TestGetMetadataAsksOnce(t *testing.T) {
	m, dir := installed(t, "slow:100ms")
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			if _, err := metadata(t, m); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	if n := calls(t, dir); n != 1 {
		t.Errorf("%d processes for 20 callers", n)
	}
	executable := filepath.Join(dir, "venafi-csp", "notation-venafi-csp")
	if err := os.Chtimes(executable, time.Now(), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := metadata(t, m); err != nil {
		t.Fatal(err)
	}
	if n := calls(t, dir); n != 2 {
		t.Errorf("%d processes after the file changed; want 2", n)
	}
}

func TestGetMetadataGoesOnWhenACallerGivesUp(t *testing.T) {
	m, _ := installed(t, "slow:300ms")
	found, err := m.Get(t.Context(), "venafi-csp")
	if err != nil {
		t.Fatal(err)
	}
	impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var failure *plugin.Error
	if _, err := found.GetMetadata(impatient, &framework.GetMetadataRequest{}); !errors.As(err, &failure) || failure.Code != reason.PluginTimeout {
		t.Errorf("the impatient caller: %v", err)
	}
	if _, err := metadata(t, m); err != nil {
		t.Errorf("the patient caller: %v", err)
	}
	if n := m.Stats().Started; n != 1 {
		t.Errorf("%d processes; want 1", n)
	}
}

func TestInspectReportsEveryPlugin(t *testing.T) {
	tests := map[string]struct {
		mode, version string
		capable       bool
		fails         string
	}{
		"a plugin that verifies":                             {"", "0.3.2", true, ""},
		"a plugin that does not":                             {"no-capability", "0.9.0", false, ""},
		"a plugin that verifies without saying so, as 0.3.3": {"0.3.3", "0.3.3", true, ""},
		"a plugin that crashes":                              {"crash", "", false, "exit status 2"},
		"a plugin that answers garbage":                      {"garbage", "", false, "not the protocol's JSON"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			m, _ := installed(t, test.mode)
			found, err := m.Inspect(t.Context())
			if err != nil || len(found) != 1 {
				t.Fatalf("%+v, %v", found, err)
			}
			got := found[0]
			if got.Version != test.version || got.Capable != test.capable || (got.Err != nil) != (test.fails != "") {
				t.Errorf("%+v; want version %s, capable %t, failure %q", got, test.version, test.capable, test.fails)
			}
			if got.Err != nil && !strings.Contains(got.Err.Error(), test.fails) {
				t.Errorf("failure %v; want %q", got.Err, test.fails)
			}
		})
	}
	none := plugin.NewManager(plugin.Options{Dir: filepath.Join(t.TempDir(), "absent")})
	if found, err := none.Inspect(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("without a directory: %v, %v", found, err)
	}
}

func TestProcessesGetAReducedEnvironment(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\n/usr/bin/env > " + filepath.Join(dir, "env") + "\nexit 1\n"
	if err := os.MkdirAll(filepath.Join(dir, "spy"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "spy", "notation-spy"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SECRET_OF_THE_SERVICE", "hidden")
	m := plugin.NewManager(plugin.Options{Dir: dir, Reach: reach(t), Config: func() map[string]string { return nil }, Timeout: 5 * time.Second, Env: []string{"SSL_CERT_FILE=/ca.pem"}})
	if _, err := m.Inspect(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(seen), "SECRET_OF_THE_SERVICE") || !strings.Contains(string(seen), "SSL_CERT_FILE=/ca.pem") {
		t.Errorf("the plugin sees %s", seen)
	}
}
