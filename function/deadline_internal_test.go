package function

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

func TestDeadlineEndsAsContextsDo(t *testing.T) {
	type key struct{}
	caller := context.WithValue(context.Background(), key{}, "value")
	tests := map[string]struct {
		parent func() (context.Context, context.CancelFunc)
		after  time.Duration
		want   error
	}{
		"before its time": {func() (context.Context, context.CancelFunc) { return caller, func() {} }, time.Second, nil},
		"at its time":     {func() (context.Context, context.CancelFunc) { return caller, func() {} }, 2 * time.Second, context.DeadlineExceeded},
		"when the caller gives up": {func() (context.Context, context.CancelFunc) {
			c, cancel := context.WithCancel(caller)
			cancel()
			return c, cancel
		}, 0, context.Canceled},
		"at an earlier time of its parent": {func() (context.Context, context.CancelFunc) { return context.WithTimeout(caller, time.Second) }, time.Second, context.DeadlineExceeded},
	}
	for sentence, test := range tests {
		for _, waits := range []bool{false, true} {
			t.Run(sentence, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					parent, end := test.parent()
					defer end()
					want, cancel := context.WithTimeout(parent, 2*time.Second)
					defer cancel()
					got := &deadline{Context: parent, at: time.Now().Add(2 * time.Second)}
					defer got.release()
					var child context.Context
					if waits {
						var cancel context.CancelFunc
						before := runtime.NumGoroutine()
						child, cancel = context.WithCancel(got)
						defer cancel()
						if n := runtime.NumGoroutine(); n > before {
							t.Errorf("a context made of it takes %d goroutines", n-before)
						}
					}
					time.Sleep(test.after)
					synctest.Wait()
					if got.Err() != test.want || want.Err() != test.want {
						t.Errorf("it ends with %v, that of package context with %v; want %v", got.Err(), want.Err(), test.want)
					}
					if waits && child.Err() != test.want {
						t.Errorf("a context made of it ends with %v", child.Err())
					}
					select {
					case <-got.Done():
						if test.want == nil {
							t.Error("it is done")
						}
					default:
						if test.want != nil {
							t.Error("it is not done")
						}
					}
					at, ok := got.Deadline()
					if wantAt, wantOK := want.Deadline(); !at.Equal(wantAt) || ok != wantOK || got.Value(key{}) != "value" {
						t.Errorf("its deadline is %s, %t, its value %v", at, ok, got.Value(key{}))
					}
				})
			})
		}
	}
}

func TestDeadlineIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := &deadline{Context: context.Background(), at: time.Now().Add(time.Hour)}
		done := ctx.Done()
		ctx.release()
		select {
		case <-done:
		default:
			t.Error("those who wait for it are not released")
		}
		if ctx.Err() != context.Canceled {
			t.Error(ctx.Err())
		}
	})
}
