package plugin

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/sandbox"
)

func TestParseSandbox(t *testing.T) {
	for name, want := range map[string]sandbox.Mode{"prefer": sandbox.Prefer, "require": sandbox.Require, "off": sandbox.Off} {
		if mode, err := ParseSandbox(name); mode != want || err != nil {
			t.Errorf("%s: %q, %v", name, mode, err)
		}
	}
	for _, name := range []string{"", "Require", "on", "none"} {
		if _, err := ParseSandbox(name); err == nil {
			t.Errorf("%q is read", name)
		}
	}
}

func TestParseReach(t *testing.T) {
	reach, err := ParseReach([]string{"/lib", " /var/cache/plugin:rw"})
	if err != nil || !slices.Equal(reach.execute, []string{"/lib"}) || !slices.Equal(reach.write, []string{"/var/cache/plugin"}) {
		t.Errorf("%+v, %v", reach, err)
	}
	for _, setting := range []string{"", "lib", "./lib:rw", ":rw"} {
		if _, err := ParseReach([]string{setting}); err == nil {
			t.Errorf("%q is read", setting)
		}
	}
}

// TestPolicyNamesWhatAPluginNeeds checks the whole policy of a configured plugin beside what is public.
func TestPolicyNamesWhatAPluginNeeds(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config.ini")
	if err := os.WriteFile(config, []byte("tpp_url=https://tpp.example.com:8443/vedsdk\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := NewManager(Options{
		Dir: dir, Config: func() map[string]string { return map[string]string{"config": config} }, X5UHosts: []string{"signer.example.com:9443", "other.example.com"},
		Env: []string{"SSL_CERT_FILE=/own/ca.pem", "SSL_CERT_DIR=/a:/b", "HTTPS_PROXY=http://proxy:3128", "http_proxy=proxy.example.com:8080", "NO_PROXY=x:1"},
	})
	got := m.policy(filepath.Join(dir, "venafi-csp", "notation-venafi-csp"))
	if want := []string{filepath.Join(dir, "venafi-csp")}; !slices.Equal(got.Execute, want) {
		t.Errorf("it executes %s; want %s", got.Execute, want)
	}
	if want := []string{"/own/ca.pem", "/a", "/b", config}; !slices.Equal(got.Read[len(publicFiles):], want) {
		t.Errorf("it reads %s; want %s", got.Read[len(publicFiles):], want)
	}
	if len(got.Write) > 0 {
		t.Errorf("it writes %s", got.Write)
	}
	slices.Sort(got.Ports)
	if want := []uint16{443, 443, 3128, 8080, 8443, 9443}; !slices.Equal(got.Ports, want) {
		t.Errorf("it connects to %d; want %d", got.Ports, want)
	}
}

func TestPortOf(t *testing.T) {
	for address, want := range map[string][]uint16{
		"https://host": {443}, "http://host/": {80}, "host:3128": {3128}, "socks5://host": {1080}, "https://[::1]:8443": {8443},
		"": nil, "https://": nil, "ftp://host": nil, "https://host:99999": {443}, "https://host:0": nil,
	} {
		if got := portOf(address); !slices.Equal(got, want) {
			t.Errorf("%s: %d; want %d", address, got, want)
		}
	}
}
