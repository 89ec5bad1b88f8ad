package function_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/plugintest"
)

// standin is the built stand-in plugin, set once before the tests.
var standin string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "function-test-")
	if err == nil {
		standin, err = plugintest.Build(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "building the stand-in plugin:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m,
		goleak.Cleanup(func(code int) {
			os.RemoveAll(dir)
			os.Exit(code)
		}),
		// The event queue of the distribution registry, which it never closes.
		goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run"),
	)
}
