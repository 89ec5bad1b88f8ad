package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/notaryproject/notation-plugin-framework-go/plugin"
)

// Modes of misbehaviour. "<command>:<mode>" in the file `mode` restricts a mode
// to one command of the protocol.
const (
	modeHang         = "hang"          // sleeps for an hour
	modeHangChild    = "hang-child"    // so does a child that holds stdout open
	modeCrash        = "crash"         // exits with 2 and says nothing
	modeGarbage      = "garbage"       // answers what is not JSON, exits with 0
	modeFlood        = "flood"         // answers 100 MiB
	modeFloodStderr  = "flood-stderr"  // fails with 100 MiB of error
	modeWrongVersion = "wrong-version" // is older than signatures ask for
	modeNotSemver    = "not-semver"    // has a version that is not SemVer
	modeNoCapability = "no-capability" // is of a version that declares to verify nothing
	modeRefuse       = "refuse"        // does not trust the identity
	modeAgree        = "agree"         // lies: it trusts everyone, and asks nobody
	mode030          = "0.3.0"         // is this version, which looks up revocation as well
	mode033          = "0.3.3"         // is this version, which verifies without saying so
	modeSlow         = "slow"          // "slow:<duration>" answers after that time
)

const (
	hangFor   = time.Hour
	floodSize = 100 << 20 // bytes

	// commandLinger makes the process the child of hang-child. It ends by
	// itself after lingerFor, in case that nobody ends it before.
	commandLinger plugin.Command = "linger"
	lingerFor                    = 2 * time.Minute
)

// mode is how this process misbehaves. The zero mode does not.
type mode struct {
	name  string
	delay time.Duration // of modeSlow
}

// readMode reads the file `mode` beside the executable. No file, an empty one,
// and one that is meant for another command all give the zero mode.
func readMode(home string, command plugin.Command) (mode, error) {
	content, err := os.ReadFile(filepath.Join(home, "mode"))
	if errors.Is(err, os.ErrNotExist) {
		return mode{}, nil
	}
	if err != nil {
		return mode{}, fmt.Errorf("read the mode: %w", err)
	}
	return parseMode(strings.TrimSpace(string(content)), command)
}

// parseMode understands "<mode>" and "<command>:<mode>".
func parseMode(text string, command plugin.Command) (mode, error) {
	for _, only := range []plugin.Command{plugin.CommandGetMetadata, plugin.CommandVerifySignature} {
		rest, restricted := strings.CutPrefix(text, string(only)+":")
		if !restricted {
			continue
		}
		if only != command {
			return mode{}, nil
		}
		text = rest
	}
	name, argument, _ := strings.Cut(text, ":")
	switch name {
	case modeSlow:
		delay, err := time.ParseDuration(argument)
		if err != nil {
			return mode{}, fmt.Errorf("mode %q: %w", text, err)
		}
		return mode{name: name, delay: delay}, nil
	case "", modeHang, modeHangChild, modeCrash, modeGarbage, modeFlood, modeFloodStderr,
		modeWrongVersion, modeNotSemver, modeNoCapability, modeRefuse, modeAgree, mode030, mode033:
		return mode{name: name}, nil
	default:
		return mode{}, fmt.Errorf("mode %q is not known", text)
	}
}

// misbehave acts out the modes that concern the process rather than its
// answer. It says whether that was all, and then with which exit code.
func (m mode) misbehave(executable string, stdout, stderr io.Writer) (code int, ended bool) {
	switch m.name {
	case modeSlow:
		time.Sleep(m.delay)
		return 0, false
	case modeHang:
		time.Sleep(hangFor)
		return 0, true
	case modeHangChild:
		if err := startLingering(executable); err != nil {
			return refuse(stderr, err), true
		}
		time.Sleep(hangFor)
		return 0, true
	case modeCrash:
		return 2, true
	case modeGarbage:
		fmt.Fprintln(stdout, "this is not JSON")
		return 0, true
	case modeFlood:
		flood(stdout)
		return 0, true
	case modeFloodStderr:
		flood(stderr)
		return 1, true
	}
	return 0, false
}

// flood writes floodSize bytes, or as many as the reader takes.
func flood(w io.Writer) {
	chunk := bytes.Repeat([]byte("x"), 1<<20)
	for range floodSize / len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// startLingering starts a child that inherits stdout, and writes its process
// id to the file `child` beside the executable. Whoever ends only this process
// and then waits for the end of its output waits for the child.
func startLingering(executable string) error {
	child := exec.Command(executable, string(commandLinger))
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	if err := child.Start(); err != nil {
		return fmt.Errorf("start the lingering child: %w", err)
	}
	file := filepath.Join(filepath.Dir(executable), "child")
	if err := os.WriteFile(file, []byte(strconv.Itoa(child.Process.Pid)), 0o600); err != nil {
		return fmt.Errorf("record the lingering child: %w", err)
	}
	return nil
}

// linger is the whole life of that child.
func linger() int {
	time.Sleep(lingerFor)
	return 0
}
