package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// validate has krew's own program look at a manifest.
func validate(t *testing.T, args ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", append([]string{"tool", "validate-krew-manifest"}, args...)...)
	command.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	out, err := command.CombinedOutput()
	return string(out), err
}

// install has krew install the plugin of a manifest for a platform, and gives its folder.
func install(t *testing.T, krew, manifest, platform string) (dir, said string, err error) {
	t.Helper()
	dir = t.TempDir()
	system, arch, _ := strings.Cut(platform, " ")
	command := exec.CommandContext(t.Context(), krew, "install", "--manifest="+manifest)
	command.Env = append(os.Environ(), "KREW_ROOT="+dir, "KREW_OS="+system, "KREW_ARCH="+arch, "KREW_NO_UPGRADE_CHECK=1")
	out, err := command.CombinedOutput()
	return dir, string(out), err
}

// standIn is a program that is told from those of other platforms.
func standIn(_ context.Context, system, arch string) ([]byte, error) {
	return []byte("#!/bin/sh\necho " + system + " " + arch + "\n"), nil
}

// TestManifest is what krew takes, and krew can refuse it.
func TestManifest(t *testing.T) {
	if out, err := validate(t, "-manifest", "knv.yaml", "-skip-install"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	text, err := os.ReadFile("knv.yaml")
	if err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(t.TempDir(), "knv.yaml")
	if err := os.WriteFile(broken, bytes.Replace(text, []byte("arch: arm64"), []byte("arch: amd64"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := validate(t, "-manifest", broken, "-skip-install"); err == nil || !strings.Contains(out, "overlapping") {
		t.Errorf("two archives for one platform: %v, %s", err, out)
	}
}

// TestReleaseInstalls writes a release, and has krew download, verify and install it for each platform. A byte that changes is refused,
// and a second release is the same.
func TestReleaseInstalls(t *testing.T) {
	out := t.TempDir()
	server := httptest.NewServer(http.FileServer(http.Dir(out)))
	t.Cleanup(server.Close)
	r := release{version: "v9.8.7", base: server.URL, root: "../..", out: out}
	if err := r.write(t.Context(), standIn); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(out, "knv.yaml")
	if said, err := validate(t, "-manifest", manifest, "-skip-install"); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	krew := filepath.Join(t.TempDir(), "krew")
	if said, err := exec.CommandContext(t.Context(), "go", "build", "-o", krew, "sigs.k8s.io/krew/cmd/krew").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	for _, platform := range []string{"linux amd64", "linux arm64", "darwin amd64", "darwin arm64", "windows amd64"} {
		dir, said, err := install(t, krew, manifest, platform)
		if err != nil {
			t.Fatalf("%s: %v: %s", platform, err, said)
		}
		found, err := filepath.Glob(filepath.Join(dir, "store", "knv", "v9.8.7", "kubectl-knv*"))
		if err != nil || len(found) != 1 {
			t.Fatalf("%s: %q, %v: %s", platform, found, err, said)
		}
		if program, err := os.ReadFile(found[0]); err != nil || !strings.Contains(string(program), platform) {
			t.Errorf("%s: %s, %v", platform, program, err)
		}
	}
	again := release{version: "v9.8.7", base: server.URL, root: "../..", out: t.TempDir()}
	if err := again.write(t.Context(), standIn); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(out)
	if err != nil || len(files) != 6 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		first, err := os.ReadFile(filepath.Join(out, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if second, err := os.ReadFile(filepath.Join(again.out, file.Name())); err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s differs the second time, %v", file.Name(), err)
		}
	}
	archive := filepath.Join(out, "kubectl-knv-linux-amd64.tar.gz")
	bytesOf, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	bytesOf[len(bytesOf)/2] ^= 1
	if err := os.WriteFile(archive, bytesOf, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, said, err := install(t, krew, manifest, "linux amd64"); err == nil || !strings.Contains(said, "checksum") {
		t.Errorf("a changed archive is installed: %s", said)
	}
}
