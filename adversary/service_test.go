package adversary_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/adversary/world"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/plugintest"
)

// network is what all tests share: the registries' proxy, everyone who signs, and the directory of plugins.
type network struct {
	server    *world.Server
	signers   *world.Signers
	pluginDir string
}

// shared is set once before the tests.
var shared network

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "adversary-")
	if err == nil {
		shared, err = newNetwork(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "preparing the worlds:", err)
		os.Exit(1)
	}
	code := m.Run()
	shared.server.Close()
	os.RemoveAll(dir)
	os.Exit(code)
}

func newNetwork(dir string) (n network, err error) {
	if n.server, err = world.NewServer(); err != nil {
		return n, err
	}
	// Before the first request: net/http reads it once. Registries are reached through it, whatever their names are.
	os.Setenv("HTTP_PROXY", n.server.URL())
	os.Setenv("HTTPS_PROXY", n.server.URL())
	os.Setenv("NO_PROXY", "")
	if n.signers, err = world.NewSigners(); err != nil {
		return n, err
	}
	binary, err := plugintest.Build(context.Background(), dir)
	if err != nil {
		return n, err
	}
	n.pluginDir = filepath.Join(dir, "plugins")
	return n, plugintest.Install(binary, n.pluginDir, "venafi-csp", "agree") // with everyone: it is for the service to know better
}

// service is the service over some trust resources.
type service struct {
	function *function.Function
	handler  http.Handler
}

// startService starts one with a file of trust resources for each name, and the hosts that are spoken to in plain HTTP.
func startService(t testing.TB, trust map[string][]byte, hosts []string, change func(*function.Settings)) *service {
	t.Helper()
	dir := t.TempDir()
	for name, text := range trust {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	settings, _, err := function.LoadSettings("adversary", []string{
		"--trustDir", dir, "--pluginDir", shared.pluginDir, "--insecureRegistries", strings.Join(hosts, ","),
		"--dockerConfig", filepath.Join(dir, "none.json"), "--requestTimeout", "3s", "--pluginX5UHosts", world.Platform, "--cacheMaxSize", "10000",
	}, func(string) (string, bool) { return "", false }, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&settings)
	}
	f, err := function.New(settings, os.LookupEnv, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f.Start(t.Context())
	t.Cleanup(f.Stop)
	for deadline := time.Now().Add(20 * time.Second); f.Ready() != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the service does not become ready: %v", f.Ready())
		}
	}
	return &service{f, f.Handler()}
}

// answer is what came back: patches where everything was admitted, or else a verdict on each image.
type answer struct {
	Status  int
	Text    string
	Results []result `json:"results"`
}

type result struct {
	Path     string `json:"path"`
	Image    string `json:"image"`
	Verified bool   `json:"verified"`
	Code     string `json:"code"`
	Reason   string `json:"reason"`
	Op       string `json:"op"`
	Value    string `json:"value"`
}

// ask sends a request. On a denial it wants the verdict as JSON.
func (s *service) ask(path string, body []byte) answer {
	request := httptest.NewRequest(http.MethodPost, path, strings.NewReader(string(body)))
	request.Header.Set("Accept", "application/json")
	recorder := httptest.NewRecorder()
	s.handler.ServeHTTP(recorder, request)
	a := answer{Status: recorder.Code, Text: recorder.Body.String()}
	_ = json.Unmarshal(recorder.Body.Bytes(), &a) // a refusal is text
	return a
}
