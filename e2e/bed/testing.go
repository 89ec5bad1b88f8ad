package bed

import (
	"context"
	"os"
	"testing"
)

// StartForTest starts a bed that the end of the test closes. Its progress goes to stderr, whatever Options.Log is.
func StartForTest(t *testing.T, opts Options) *Bed {
	t.Helper()
	opts.Log = os.Stderr
	b, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// BuildForTest has a builder make something in its cache, alone. The path is what build gives.
func BuildForTest(t *testing.T, builder Builder, build func(context.Context) (path string, err error)) string {
	t.Helper()
	unlock, err := builder.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	path, err := build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return path
}
