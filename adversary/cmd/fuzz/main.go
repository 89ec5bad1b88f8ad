// Command fuzz runs every fuzz target of the module for a time, one after the other, and the quickest again until there were
// so many executions in all. It prints what came of each, and fails when one of them found something.
//
//	go run ./adversary/cmd/fuzz --each 1m --executions 1000000
package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/samber/lo"
)

// target is one fuzz target.
type target struct {
	dir  string // of its package, below the root
	name string
}

// outcome is what came of a target.
type outcome struct {
	target
	executions, interesting, corpus int
	took                            time.Duration
	failure                         string // the end of the output; "" where nothing was found
}

func main() {
	executions := flag.Int("executions", 1_000_000, "executions of all targets together")
	each := flag.String("each", "1m", "for which a target is run at a time, or how often, as in 300x")
	only := flag.String("run", "", "regular expression of the targets to run")
	workers := flag.Int("parallel", 0, "workers of a target; 0 for one for each processor. With one, and GODEBUG=fuzzseed=1, a run repeats another")
	unguided := flag.Bool("unguided", false, "mutate the seeds without a look at what they cover, for which all packages would be built anew")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	outcomes, err := run(ctx, *executions, limits{each: *each, workers: *workers}, *unguided, *only)
	report(os.Stdout, outcomes)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
	if slices.ContainsFunc(outcomes, func(o outcome) bool { return o.failure != "" }) {
		os.Exit(1)
	}
}

// limits of the run of a target.
type limits struct {
	each     string // for go test's -fuzztime
	workers  int    // 0 for the default
	unguided string // folder for tests without instruments for coverage; "" has them built with
}

func run(ctx context.Context, executions int, each limits, unguided bool, only string) ([]outcome, error) {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return nil, err
	}
	if unguided {
		if each.unguided, err = os.MkdirTemp("", "fuzz-"); err != nil {
			return nil, err
		}
		defer os.RemoveAll(each.unguided)
	}
	targets, err := find(os.DirFS("."))
	targets = slices.DeleteFunc(targets, func(t target) bool { return !wanted.MatchString(t.name) })
	if err != nil || len(targets) == 0 {
		return nil, fmt.Errorf("no fuzz targets below the working directory: %w", err)
	}
	var outcomes []outcome
	for _, t := range targets {
		outcomes = append(outcomes, t.fuzz(ctx, each))
		executions -= outcomes[len(outcomes)-1].executions
		if ctx.Err() != nil {
			return outcomes, ctx.Err()
		}
	}
	for executions > 0 && ctx.Err() == nil {
		quickest := slices.MaxFunc(outcomes, func(a, b outcome) int { return cmp.Compare(a.rate(), b.rate()) })
		again := quickest.fuzz(ctx, each)
		if again.failure != "" {
			return append(outcomes, again), ctx.Err()
		}
		executions -= again.executions
		outcomes = append(outcomes, again)
	}
	return outcomes, ctx.Err()
}

// rate is in executions a second.
func (o outcome) rate() float64 { return float64(o.executions) / o.took.Seconds() }

var declaration = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(\w+ \*testing\.F\)`)

// find lists the targets of a module: modules within it are others.
func find(root fs.FS) (targets []target, err error) {
	err = fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			_, other := fs.Stat(root, filepath.Join(path, "go.mod"))
			if path != "." && (other == nil || strings.HasPrefix(entry.Name(), ".")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := fs.ReadFile(root, path)
		for _, found := range declaration.FindAllSubmatch(text, -1) {
			targets = append(targets, target{filepath.Dir(path), string(found[1])})
		}
		return err
	})
	return targets, err
}

// progress is a line of go test.
var progress = regexp.MustCompile(`execs: (\d+) \([^)]*\)(?:, new interesting: (\d+) \(total: (\d+)\))?`)

// endedLate tells that go test failed because a worker was still busy when the time was over, and not because of an input
// (https://go.dev/issue/75804): then the target fails by itself, and gives that as its only reason.
func endedLate(lines []string) bool {
	failed := func(line string) bool { return strings.HasPrefix(line, "--- FAIL") }
	i := slices.IndexFunc(lines, failed)
	return i >= 0 && i+1 < len(lines) && lines[i+1] == "context deadline exceeded" && !slices.ContainsFunc(lines[i+1:], failed)
}

// command is what runs a target: go test, which builds instruments into all packages, or a test that was built without.
func (t target) command(ctx context.Context, each limits) (*exec.Cmd, error) {
	arguments := []string{"-test.run=^$", "-test.fuzz=^" + t.name + "$", "-test.fuzztime=" + each.each, "-test.fuzzminimizetime=5s"}
	if each.workers > 0 {
		arguments = append(arguments, "-test.parallel="+strconv.Itoa(each.workers))
	}
	if each.unguided == "" {
		return exec.CommandContext(ctx, "go", append([]string{"test", "./" + t.dir}, arguments...)...), nil
	}
	binary := filepath.Join(each.unguided, strings.ReplaceAll(t.dir, "/", "-")+".test")
	if _, err := os.Stat(binary); err != nil { // of the first target of its package
		if output, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, "./"+t.dir).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, output)
		}
	}
	command := exec.CommandContext(ctx, binary, append(arguments, "-test.fuzzcachedir="+filepath.Join(each.unguided, "corpus"))...)
	command.Dir = t.dir
	return command, nil
}

// fuzz runs a target for a time, or so often.
func (t target) fuzz(ctx context.Context, each limits) outcome {
	began, o := time.Now(), outcome{target: t}
	command, err := t.command(ctx, each)
	if err != nil {
		o.failure = err.Error()
		return o
	}
	output, err := command.StdoutPipe()
	command.Stderr = command.Stdout // where a test writes its progress, unless it is run by go test
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		o.failure = err.Error()
		return o
	}
	fmt.Fprintf(os.Stderr, "%s %s\n", t.dir, t.name)
	var last []string
	for lines, more := bufio.NewReader(output), true; more; { // no Scanner, as a line may have any length
		line, err := lines.ReadString('\n')
		more = err == nil
		last = append(last[max(0, len(last)-30):], strings.TrimSpace(line[:min(len(line), 4000)]))
		if match := progress.FindStringSubmatch(line); match != nil {
			o.executions, _ = strconv.Atoi(match[1])
			o.interesting, _ = strconv.Atoi(match[2])
			o.corpus, _ = strconv.Atoi(match[3])
		}
	}
	err = command.Wait()
	if endedLate(last) {
		err = nil
	}
	if err == nil && o.executions == 0 {
		err = errors.New("nothing was executed; give it more time")
	}
	if err != nil {
		o.failure = strings.Join(append(last, err.Error()), "\n")
	}
	o.took = time.Since(began)
	return o
}

func report(to io.Writer, outcomes []outcome) {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "target\texecutions\tnew interesting\tcorpus\tseconds\tfound")
	total, findings, corpora := 0, 0, map[target]int{} // the last of a target that was run again
	for _, o := range outcomes {
		found := "nothing"
		if o.failure != "" {
			found = "A FAILURE"
			findings++
		}
		total, corpora[o.target] = total+o.executions, o.corpus
		fmt.Fprintf(table, "%s %s\t%d\t%d\t%d\t%.0f\t%s\n", o.dir, o.name, o.executions, o.interesting, o.corpus, o.took.Seconds(), found)
	}
	fmt.Fprintf(table, "all\t%d\t\t%d\t\t%d failures\n", total, lo.Sum(lo.Values(corpora)), findings)
	_ = table.Flush() // to a terminal or a file, whose loss shows
	for _, o := range outcomes {
		if o.failure != "" {
			fmt.Fprintf(to, "\n%s %s:\n%s\n", o.dir, o.name, o.failure)
		}
	}
}
