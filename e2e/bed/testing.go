package bed

import (
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
