package release

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// SourceURL is where the source is published.
const SourceURL = "https://github.com/nirmata/kyverno-notation-venafi"

// Source is a checkout whose files are those of a commit.
type Source struct {
	Dir    string
	Commit string    // 40 hexadecimal digits
	Time   time.Time // when it was committed; UTC, whole seconds
}

// ReadSource reads the commit that is checked out in a folder. A checkout with changes is an error, since provenance could not name what
// was built; files that git ignores are none.
func ReadSource(ctx context.Context, dir string) (Source, error) {
	changes, err := output(ctx, dir, nil, "git", "status", "--porcelain")
	if err != nil {
		return Source{}, err
	}
	if changes != "" {
		return Source{}, fmt.Errorf("the checkout has changes that are not committed:\n%s", changes)
	}
	said, err := output(ctx, dir, nil, "git", "log", "-1", "--format=%H %ct")
	if err != nil {
		return Source{}, err
	}
	commit, seconds, _ := strings.Cut(said, " ")
	at, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return Source{}, fmt.Errorf("the commit's time: %w", err)
	}
	return Source{Dir: dir, Commit: commit, Time: time.Unix(at, 0).UTC()}, nil
}

// output runs a program in a folder and gives what it prints, without white space at its ends. A nil environment is that of this
// process.
func output(ctx context.Context, dir string, env []string, program string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, program, args...)
	command.Dir, command.Env = dir, env
	printed, err := command.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(command.Args, " "), err, exit.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(command.Args, " "), err)
	}
	return strings.TrimSpace(string(printed)), nil
}
