package release

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Program is the package that is released.
const Program = "./function/cmd/kyverno-notation-venafi"

// Binary is the program for one platform.
type Binary struct {
	Platform v1.Platform
	Path     string
	SHA256   string // hexadecimal
	Info     *debug.BuildInfo
}

// Flags are what the program is built with, beside the linker's: no path of the machine, nothing of the checkout's state.
func Flags() []string { return []string{"-trimpath", "-buildvcs=false"} }

// LinkerFlags are those of the linker: no debug information, and the version that the program prints, with its commit and date.
func LinkerFlags(version string, source Source) string {
	return fmt.Sprintf("-s -w -X main.version=%s -X main.commit=%s -X main.date=%s", version, source.Commit, source.Time.Format(time.RFC3339))
}

// Build builds the program for a platform into a folder.
func Build(ctx context.Context, source Source, version string, platform v1.Platform, dir string) (Binary, error) {
	path := binaryPath(dir, platform)
	args := append([]string{"build"}, Flags()...)
	args = append(args, "-ldflags", LinkerFlags(version, source), "-o", path, Program)
	if _, err := output(ctx, source.Dir, environment(platform), "go", args...); err != nil {
		return Binary{}, err
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return Binary{}, err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return Binary{}, err
	}
	sum := sha256.Sum256(content)
	return Binary{Platform: platform, Path: path, SHA256: hex.EncodeToString(sum[:]), Info: info}, nil
}

func binaryPath(dir string, platform v1.Platform) string {
	return filepath.Join(dir, "kyverno-notation-venafi-"+strings.ReplaceAll(platform.String(), "/", "-"))
}

// environment is that of this process with the target, and without what would change the result from machine to machine.
func environment(platform v1.Platform) []string {
	env := []string{
		"CGO_ENABLED=0", "GOOS=" + platform.OS, "GOARCH=" + platform.Architecture, "GOARM=" + strings.TrimPrefix(platform.Variant, "v"),
		"GOFLAGS=-mod=readonly", "GOWORK=off", "GOEXPERIMENT=", "GOFIPS140=off", "GOAMD64=v1", "GOARM64=v8.0", "GODEBUG=",
	}
	if platform.Architecture != "arm" {
		env[3] = "GOARM="
	}
	return append(os.Environ(), env...)
}
