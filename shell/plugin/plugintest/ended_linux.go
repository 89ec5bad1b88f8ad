package plugintest

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Ended waits until a process has ended, which one has that nobody has reaped yet. It fails if that takes longer than limit.
func Ended(pid int, limit time.Duration) error {
	process, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(process) }()
	for until := time.Now().Add(limit); ; {
		ended, err := unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, int(max(0, time.Until(until).Milliseconds())))
		switch {
		case errors.Is(err, unix.EINTR): // by a signal of the Go runtime
		case err != nil:
			return fmt.Errorf("watch process %d: %w", pid, err)
		case ended == 0:
			return fmt.Errorf("process %d still runs after %s", pid, limit)
		default:
			return nil
		}
	}
}
