// Command krew makes what a release offers to krew, kubectl's manager of plugins: an archive with the program for each platform of
// knv.yaml, and that manifest with the version, the addresses and the checksums of the archives. The same sources give the same bytes.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"sigs.k8s.io/krew/pkg/index"
	"sigs.k8s.io/yaml"
)

// release says what is made.
type release struct {
	version string // such as v0.1.0
	base    string // address below which the archives will be
	root    string // folder of the repository
	out     string // folder that archives and manifest are written to
}

func main() {
	var r release
	flag.StringVar(&r.version, "version", "", "Version, such as v0.1.0.")
	flag.StringVar(&r.base, "base", "", "Address below which the archives are; else that of the release at GitHub.")
	flag.StringVar(&r.root, "root", ".", "Folder of the repository.")
	flag.StringVar(&r.out, "out", ".build/krew", "Folder that is written to.")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := r.write(ctx, r.build); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// builder gives the program for a platform.
type builder func(ctx context.Context, os, arch string) ([]byte, error)

// write writes the archives and the manifest.
func (r release) write(ctx context.Context, build builder) error {
	text, err := os.ReadFile(filepath.Join(r.root, "config", "krew", "knv.yaml"))
	if err != nil {
		return err
	}
	var plugin index.Plugin
	if err := yaml.UnmarshalStrict(text, &plugin); err != nil {
		return fmt.Errorf("knv.yaml: %w", err)
	}
	licence, err := os.ReadFile(filepath.Join(r.root, "LICENSE"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	for i := range plugin.Spec.Platforms {
		platform := &plugin.Spec.Platforms[i]
		name := filepath.Base(platform.URI)
		program, err := build(ctx, platform.Selector.MatchLabels["os"], platform.Selector.MatchLabels["arch"])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		archive, err := archived(map[string][]byte{platform.Bin: program, "LICENSE": licence}, platform.Bin, "LICENSE")
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(r.out, name), archive, 0o644); err != nil {
			return err
		}
		platform.Sha256 = fmt.Sprintf("%x", sha256.Sum256(archive))
		platform.URI = strings.ReplaceAll(platform.URI, "/"+plugin.Spec.Version+"/", "/"+r.version+"/")
		if r.base != "" {
			platform.URI = strings.TrimSuffix(r.base, "/") + "/" + name
		}
	}
	plugin.Spec.Version = r.version
	if text, err = yaml.Marshal(plugin); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, "knv.yaml"), text, 0o644)
}

// archived packs files, in this order, without anything of the time and the machine.
func archived(files map[string][]byte, order ...string) ([]byte, error) {
	var archive bytes.Buffer
	packed := gzip.NewWriter(&archive)
	into := tar.NewWriter(packed)
	for _, name := range order {
		header := &tar.Header{Name: name, Mode: 0o755, Size: int64(len(files[name])), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if err := into.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := into.Write(files[name]); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(into.Close(), packed.Close()); err != nil {
		return nil, err
	}
	return archive.Bytes(), nil
}

// build builds the program, as the image has it.
func (r release) build(ctx context.Context, system, arch string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "kubectl-knv-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "kubectl-knv")
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+r.version, "-o", file, "./function/cmd/kyverno-notation-venafi")
	command.Dir, command.Stderr = r.root, os.Stderr
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+arch)
	if err := command.Run(); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}
