package kubetest

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/util/runtime"
)

// Main is the TestMain of a package that runs clients in synctest bubbles. It fails the package if goroutines are left over. It
// takes out client-go's error handler that sleeps between two errors: that compares a bubble's clock with the clock outside,
// and then sleeps for years.
func Main(m *testing.M) {
	runtime.ErrorHandlers = runtime.ErrorHandlers[:1] // the first one logs
	goleak.VerifyTestMain(m)
}

// Run runs a function in the background, whose context ends with the test, which waits for it.
func Run(t testing.TB, run func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { run(ctx) })
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
}

// Within lets time pass, in a synctest bubble, until a condition holds, and fails the test if that takes longer than limit. The
// condition is looked at only when everybody waits.
func Within(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	const step = 5 * time.Millisecond
	for end := time.Now().Add(limit); ; time.Sleep(step) {
		synctest.Wait()
		switch {
		case holds():
			return
		case time.Now().After(end):
			t.Fatalf("within %s it did not come to this: %s", limit, what)
		}
	}
}

// Log is a log that tests read.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write is part of io.Writer.
func (l *Log) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

// String gives what was logged.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Logger logs to it.
func (l *Log) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }
