package sandbox

import (
	"fmt"
	"os"
	"sync"

	llsyscall "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Versions of Landlock's interface from which on it restricts more than files.
const (
	restrictsTCP     = 4
	restrictsSignals = 6
)

// Probe tries on a thread that ends what the kernel lacks, once.
var Probe = sync.OnceValue(func() Support {
	var lacks Support
	tried := make(chan error, 1)
	onThreadOfItsOwn(func() {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			tried <- err
			return
		}
		tried <- filterCalls()
	})
	if err := <-tried; err != nil {
		lacks.Essential = append(lacks.Essential, fmt.Sprintf("seccomp (%v)", err))
	}
	version, err := llsyscall.LandlockGetABIVersion()
	if err != nil {
		lacks.Essential = append(lacks.Essential, fmt.Sprintf("Landlock (%v)", err))
	}
	for _, feature := range []struct {
		from int
		name string
	}{
		{restrictsTCP, "Landlock's rules for TCP (Linux 6.7)"},
		{restrictsSignals, "Landlock's scope of signals (Linux 6.12)"},
	} {
		if version < feature.from {
			lacks.Further = append(lacks.Further, feature.name)
		}
	}
	if !mayTrace() {
		lacks.Further = append(lacks.Further, "tracing, by which bounds hold from the first instruction on")
	}
	if adopt() != nil {
		lacks.Further = append(lacks.Further, "orphans as children")
	} else if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid())); err != nil {
		lacks.Further = append(lacks.Further, "lists of children in /proc")
	}
	return lacks
})
