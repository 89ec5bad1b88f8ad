package function_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for a signal before it fails.
const patience = 20 * time.Second

// wait returns when a signal comes, and fails the test if none does.
func wait(t testing.TB, signal <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-signal:
	case <-time.After(patience):
		t.Fatalf("%s does not happen", what)
	}
}

// logged is a log handler that signals every record whose message begins with a text.
type logged struct {
	message string
	signal  chan struct{} // with room for more records than a test causes
}

// onLog gives a logger for a service, and the signal for its records whose message begins with a text.
func onLog(message string) (*slog.Logger, <-chan struct{}) {
	handler := logged{message, make(chan struct{}, 1000)}
	return slog.New(handler), handler.signal
}

// Enabled is true.
func (logged) Enabled(context.Context, slog.Level) bool { return true }

// Handle signals a record that has the message.
func (l logged) Handle(_ context.Context, record slog.Record) error {
	if strings.HasPrefix(record.Message, l.message) {
		l.signal <- struct{}{}
	}
	return nil
}

// WithAttrs gives the same handler.
func (l logged) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup gives the same handler.
func (l logged) WithGroup(string) slog.Handler { return l }
