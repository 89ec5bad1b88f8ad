package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/plugintest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"demo": main})
}

// TestScripts runs the command lines in testdata/script. $PLUGINS holds the stand-in plugin.
func TestScripts(t *testing.T) {
	plugins := filepath.Join(t.TempDir(), "plugins")
	binary, err := plugintest.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := plugintest.Install(binary, plugins, "venafi-csp", ""); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PLUGINS", plugins)
			return nil
		},
	})
}

func TestExitStatus(t *testing.T) {
	tests := map[string]struct {
		err  error
		want int
	}{
		"the verdicts are as expected":  {nil, 0},
		"a verdict is not":              {fmt.Errorf("%w: 1 of 18 differ", errUnexpected), 1},
		"there was no verdict to judge": {errors.New("no plugin"), 2},
	}
	for sentence, test := range tests {
		if got := report(test.err, io.Discard, io.Discard); got != test.want {
			t.Errorf("%s: status %d, want %d", sentence, got, test.want)
		}
	}
}
