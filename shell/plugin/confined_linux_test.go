package plugin_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/plugin"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/sandbox"
)

// TestPluginsReadWhatIsTheirs has a plugin read its own folder, its configuration file, and a secret of the service.
func TestPluginsReadWhatIsTheirs(t *testing.T) {
	if lacks := sandbox.Probe().Essential; len(lacks) > 0 {
		t.Skipf("this kernel lacks %s", strings.Join(lacks, ", "))
	}
	dir, config, secret := t.TempDir(), filepath.Join(t.TempDir(), "config.ini"), filepath.Join(t.TempDir(), "token")
	for _, file := range []string{config, secret} {
		if err := os.WriteFile(file, []byte("tpp_url=https://tpp.example.com\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	scripted(t, dir, "#!/bin/sh\nfor f in \"$0\" "+config+" "+secret+"; do if read -r line < $f; then told=\"$told read\"; else told=\"$told refused\"; fi; done 2>/dev/null\n"+
		"echo \"{\\\"errorCode\\\":\\\"ERROR\\\",\\\"errorMessage\\\":\\\"$told\\\"}\" >&2; exit 1")
	programs, err := plugin.ParseReach([]string{"/bin", "/usr/bin", "/lib", "/lib64", "/usr/lib"})
	if err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[sandbox.Mode]string{sandbox.Require: "read read refused", sandbox.Off: "read read read"} {
		m := plugin.NewManager(plugin.Options{
			Dir: dir, Sandbox: mode, Reach: programs, Timeout: time.Minute,
			Config: func() map[string]string { return map[string]string{"config": config} },
		})
		if err := verify(t.Context(), m, ""); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("mode %q: %v; want %q", mode, err, want)
		}
	}
}
