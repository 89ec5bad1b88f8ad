// Package plugintest builds the stand-in plugin and installs it where Notation
// looks for plugins: <plugin directory>/<name>/notation-<name>.
// https://github.com/notaryproject/specifications/blob/v1.1.0/specs/plugin-extensibility.md#installation
package plugintest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	module  = "github.com/nirmata/kyverno-notation-venafi"
	command = module + "/shell/plugin/plugintest/standin"

	// buildTimeout bounds a build with an empty build cache on a busy machine.
	buildTimeout = 3 * time.Minute
)

// Build compiles the stand-in into dir and returns the path of the binary. It
// needs the go command and a working directory inside the module. Build once
// per test binary and install as often as needed.
func Build(ctx context.Context, dir string) (binary string, err error) {
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	root, err := goCommand(ctx, "", "list", "-m", "-f", "{{.Dir}}", module)
	if err != nil {
		return "", fmt.Errorf("find module %s: %w", module, err)
	}
	binary, err = filepath.Abs(filepath.Join(dir, "standin"))
	if err != nil {
		return "", fmt.Errorf("place the stand-in in %s: %w", dir, err)
	}
	if _, err := goCommand(ctx, root, "build", "-o", binary, command); err != nil {
		return "", fmt.Errorf("build %s: %w", command, err)
	}
	return binary, nil
}

// goCommand runs the go command in a directory and returns what it printed.
func goCommand(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.WaitDelay = 5 * time.Second
	output, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(string(failed.Stderr)))
	}
	return strings.TrimSpace(string(output)), err
}

// Install makes <pluginDir>/<name>/notation-<name> of a built stand-in, with
// the given mode and an empty record of calls. It replaces an installed one.
func Install(binary, pluginDir, name, mode string) error {
	home := filepath.Join(pluginDir, name)
	if err := os.MkdirAll(home, 0o755); err != nil {
		return fmt.Errorf("install plugin %s: %w", name, err)
	}
	executable := filepath.Join(home, "notation-"+name)
	if err := os.Remove(executable); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("replace plugin %s: %w", name, err)
	}
	if err := place(binary, executable); err != nil {
		return fmt.Errorf("install plugin %s: %w", name, err)
	}
	if err := os.WriteFile(filepath.Join(home, "calls"), nil, 0o644); err != nil {
		return fmt.Errorf("start the record of plugin %s: %w", name, err)
	}
	return SetMode(pluginDir, name, mode)
}

// SetMode changes how an installed stand-in behaves from its next process on.
// An empty mode is good behaviour.
func SetMode(pluginDir, name, mode string) error {
	if err := os.WriteFile(filepath.Join(pluginDir, name, "mode"), []byte(mode), 0o644); err != nil {
		return fmt.Errorf("set the mode of plugin %s: %w", name, err)
	}
	return nil
}

// place hard-links the binary, or copies it where the file system forbids
// that. A link also spares the "text file busy" of an executable that was
// written just now while another goroutine forked.
func place(binary, executable string) (err error) {
	if os.Link(binary, executable) == nil {
		return nil
	}
	source, err := os.Open(binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	target, err := os.OpenFile(executable, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	_, err = io.Copy(target, source)
	return err
}

// Calls returns one line "<command> <pid>" for each process of an installed
// stand-in since it was installed, in the order of their start.
func Calls(pluginDir, name string) ([]string, error) {
	content, err := os.ReadFile(filepath.Join(pluginDir, name, "calls"))
	if err != nil {
		return nil, fmt.Errorf("read the calls of plugin %s: %w", name, err)
	}
	return strings.FieldsFunc(string(content), func(r rune) bool { return r == '\n' }), nil
}
