// Command simulate runs sequences of the simulation in one process per processor, and adds up what they report:
//
//	simulate -sequences 1000000 -seed 1
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// batch is how many sequences a process runs, so that the report grows, and a process that ends early loses little.
const batch = 5000

func main() {
	sequences := flag.Int("sequences", 1_000_000, "sequences to run")
	seed := flag.Int("seed", 1, "seed of the first")
	parallel := flag.Int("parallel", runtime.NumCPU(), "processes")
	flag.Parse()
	if err := run(*sequences, *seed, *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "simulate:", err)
		os.Exit(1)
	}
}

// totals are sums of what the processes report, by name.
type totals struct {
	mu     sync.Mutex
	sums   map[string]float64
	failed int
}

// summed finds "12.5 virtual days" and the like.
var summed = regexp.MustCompile(`([0-9.]+) (sequences of certificates|sequences|virtual days|faults injected|violations|requests|admitted|denied|failed|not ready|with a replica that died|events|answers taken over|lies of the server|certificates held against bundles)\b`)

func run(sequences, seed, parallel int) error {
	dir, err := os.MkdirTemp("", "simulate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "simulation.test")
	if output, err := exec.Command("go", "test", "-c", "-o", binary, "./simulation").CombinedOutput(); err != nil {
		return fmt.Errorf("building: %w\n%s", err, output)
	}
	t, began := &totals{sums: map[string]float64{}}, time.Now()
	work := make(chan [2]int)
	var processes sync.WaitGroup
	for range parallel {
		processes.Go(func() {
			for part := range work {
				t.process(binary, part[0], part[1])
			}
		})
	}
	for done := 0; done < sequences; done += batch {
		work <- [2]int{seed + done, min(batch, sequences-done)}
	}
	close(work)
	processes.Wait()
	fmt.Printf("in %s: %s\n", time.Since(began).Round(time.Second), t)
	if t.failed > 0 {
		return fmt.Errorf("%d processes failed", t.failed)
	}
	return nil
}

// process runs sequences in a process, and adds what it reports.
func (t *totals) process(binary string, seed, sequences int) {
	command := exec.Command(binary, "-test.v", "-test.timeout", "4h", "-test.run", "^(TestSimulation|TestCertificates)$", "-sequences", strconv.Itoa(sequences), "-seed", strconv.Itoa(seed))
	command.Dir = "simulation"
	output, err := command.CombinedOutput()
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.failed++
		fmt.Printf("seeds from %d: %v\n%s\n", seed, err, output)
	}
	lines := bufio.NewScanner(strings.NewReader(string(output)))
	for lines.Scan() {
		if !strings.Contains(lines.Text(), "virtual days") {
			continue
		}
		certificates := strings.Contains(lines.Text(), "of certificates")
		for _, found := range summed.FindAllStringSubmatch(lines.Text(), -1) {
			n, _ := strconv.ParseFloat(found[1], 64) // the expression lets only numbers through
			name := found[2]
			if certificates && name != "sequences of certificates" {
				name += " there"
			}
			t.sums[name] += n
		}
	}
	fmt.Println(t)
}

// String is the report.
func (t *totals) String() string {
	var parts []string
	for _, name := range []string{
		"sequences", "virtual days", "faults injected", "violations", "requests", "admitted", "denied", "failed", "not ready", "with a replica that died", "events", "answers taken over", "lies of the server",
		"sequences of certificates", "virtual days there", "faults injected there", "violations there", "certificates held against bundles there",
	} {
		parts = append(parts, fmt.Sprintf("%.0f %s", t.sums[name], name))
	}
	return strings.Join(parts, ", ")
}
