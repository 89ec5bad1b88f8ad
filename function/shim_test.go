package function_test

import (
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	shim "github.com/nirmata/kyverno-notation-venafi"
)

// TestFunctionServesTLSBesideItsRuntime serves TLS from Start to Stop, and fails to start if the address is taken.
func TestFunctionServesTLSBesideItsRuntime(t *testing.T) {
	dir := t.TempDir()
	s := &secured{authority: newAuthority(t), chainFile: filepath.Join(dir, "tls.crt"), keyFile: filepath.Join(dir, "tls.key"), address: freeAddress(t)}
	_, _, chain, key := s.issue(t, servedName, false)
	s.write(t, chain, key)
	for name, value := range map[string]string{
		"TRUST_DIR": t.TempDir(), "PLUGINS_DIR": t.TempDir(), "DRAIN_DELAY": "0s", "LOG_LEVEL": "error",
		"TLS_ADDRESS": s.address, "TLS_CERT_FILE": s.chainFile, "TLS_KEY_FILE": s.keyFile,
	} {
		t.Setenv(name, value)
	}
	first := shim.New()
	if err := first.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if ready, err := first.Ready(t.Context()); ready {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if response, err := s.ask(t, nil); err != nil || response.StatusCode != http.StatusOK || response.Proto != "HTTP/2.0" {
		t.Errorf("%+v, %v", response, err)
	}
	second := shim.New()
	if err := second.Start(t.Context(), nil); err == nil {
		t.Error("a second one has the same address")
	}
	if alive, err := first.Alive(t.Context()); !alive {
		t.Errorf("not alive: %v", err)
	}
	for range 2 { // a second one has nothing to do
		if err := second.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := first.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := s.ask(t, nil); err == nil {
		t.Error("it serves after Stop")
	}
	if alive, err := first.Alive(t.Context()); !alive {
		t.Errorf("an orderly end is taken for a failure: %v", err)
	}
}

// freeAddress is a loopback address on which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
