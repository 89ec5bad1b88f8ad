package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/plugintest"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// program is the name that it is shipped under.
const program = "kyverno-notation-venafi"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		program:       main,
		"kubectl-knv": main,
	})
}

// TestScripts runs the command lines in testdata/script. $REGISTRY holds every image of the scenario, $TRUST its
// trust resources, $PLUGINS the stand-in plugin and $LOG a log of decision records with its keys.
func TestScripts(t *testing.T) {
	shared := t.TempDir()
	images := registrytest.New(registrytest.Options{})
	t.Cleanup(images.Close)
	platform, err := signingtest.NewPlatform()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = platform.Close() })
	if err := fill(t.Context(), images, platform, shared); err != nil {
		t.Fatal(err)
	}
	config, ca, err := platform.Write(shared)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeLog(shared); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": status, "expand": expand},
		Setup: func(env *testscript.Env) error {
			env.Setenv("REGISTRY", images.Host())
			env.Setenv("INSECURE_REGISTRIES", images.Host())
			env.Setenv("ALLOW_LOOPBACK", "true")
			env.Setenv("LOG", shared)
			env.Setenv("TRUST", filepath.Join(shared, "trust"))
			env.Setenv("PLUGINS", filepath.Join(shared, "plugins"))
			env.Setenv("PLUGINS_DIR", filepath.Join(shared, "plugins"))
			env.Setenv("PLUGIN_CONFIG", "config="+config)
			env.Setenv("SSL_CERT_FILE", ca)
			return nil
		},
	})
}

func fill(ctx context.Context, images *registrytest.Registry, platform *signingtest.Platform, dir string) error {
	s, err := scenariotest.New(images.Host(), images.Client(), true)
	if err != nil {
		return err
	}
	s.Platform = platform
	if err := os.Mkdir(filepath.Join(dir, "trust"), 0o755); err != nil {
		return err
	}
	if err := s.WriteTrust(filepath.Join(dir, "trust")); err != nil {
		return err
	}
	if err := s.PublishAll(ctx); err != nil {
		return err
	}
	binary, err := plugintest.Build(ctx, dir)
	if err != nil {
		return fmt.Errorf("building the stand-in plugin: %w", err)
	}
	return plugintest.Install(binary, filepath.Join(dir, "plugins"), "venafi-csp", "")
}

// status runs the program with the arguments behind the first, which is the exit status wanted.
func status(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec("kyverno-notation-venafi", args[1:]...)
	var exit *exec.ExitError
	got := 0
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if want, _ := strconv.Atoi(args[0]); got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// expand replaces variables in a file.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o644))
}
