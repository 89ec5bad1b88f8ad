package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/samber/lo"
)

// unitAgain is how often the admissions of kept images are sent, and of how many images; all within the time for which a tag is kept.
const unitAgain, unitKept = 10, 200

// unit is what one admission costs.
type unit struct {
	n                                         int
	processor                                 float64 // seconds of the service, plugin processes left out
	requests, processes, resident             float64
	commands, toServer, fromServer, remembers float64 // of what replicas share
}

// units measures what single admissions cost, one after the other, by how much is known: nothing, that another replica knows them, and that
// this replica keeps them.
func (f *fleet) units(ctx context.Context) error {
	flags, err := f.sharing("units")
	if err != nil {
		return err
	}
	one, err := f.serve(ctx, flags...)
	if err != nil {
		return err
	}
	defer one.stop()
	other, err := f.serve(ctx, flags...)
	if err != nil {
		return err
	}
	defer other.stop()
	all := lo.Range(f.images)
	plain, plugin := all[:f.images-f.images/aTenth], all[f.images-f.images/aTenth:]
	var again []int
	for range unitAgain {
		again = append(again, plain[len(plain)-min(unitKept, len(plain)):]...)
	}
	fmt.Printf("\n| an image | admissions | processor of the service, µs | registry requests | plugin processes | commands to what is shared | bytes to it | bytes from it | kept there, bytes | memory, kB |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, u := range []struct {
		name   string
		to     *process
		images []int
	}{
		{"that nobody knows, with plugin", one, plugin},
		{"that nobody knows", one, plain},
		{"that is kept", one, again},
		{"that another replica knows", other, plain},
	} {
		cost, err := f.unit(ctx, u.to, u.images)
		if err != nil {
			return err
		}
		n := float64(cost.n)
		fmt.Printf("| %s | %d | %.0f | %.2f | %.2f | %.2f | %.0f | %.0f | %.0f | %.1f |\n", u.name, cost.n, 1e6*cost.processor/n, cost.requests/n, cost.processes/n,
			cost.commands/n, cost.toServer/n, cost.fromServer/n, cost.remembers/n, cost.resident/n/1024)
	}
	return f.recordSize(ctx)
}

// sharing gives the flags of replicas that share with each other and with nobody else.
func (f *fleet) sharing(name string) (flags []string, err error) {
	key := filepath.Join(f.dir, "key of "+name)
	flags = []string{"--cacheMaxSize=10000", "--sharedCache=redis://" + f.server, "--sharedCacheKeyFile=" + key}
	return flags, os.WriteFile(key, []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZ"+strconv.FormatInt(time.Now().UnixNano(), 10)), 0o600)
}

// unit sends an admission of each image, one after the other.
func (f *fleet) unit(ctx context.Context, to *process, images []int) (u unit, err error) {
	before, err := to.state()
	if err != nil {
		return u, err
	}
	shared := f.information()
	f.registry.Reset()
	for _, image := range images {
		if status, text, err := to.post(ctx, f.admission(image)); err != nil || status != http.StatusOK {
			return u, fmt.Errorf("answer %d %s %w", status, text, err)
		}
	}
	u.n, u.requests = len(images), float64(len(f.registry.Requests()))
	time.Sleep(100 * time.Millisecond) // what is shared in the background
	after, err := to.state()
	if err != nil {
		return u, err
	}
	now := f.information()
	u.processor, u.processes, u.resident = after.processor-before.processor, after.processes-before.processes, after.resident-before.resident
	u.commands, u.toServer, u.fromServer = now["total_commands_processed"]-shared["total_commands_processed"], now["total_net_input_bytes"]-shared["total_net_input_bytes"], now["total_net_output_bytes"]-shared["total_net_output_bytes"]
	u.remembers = now["used_memory"] - shared["used_memory"]
	return u, nil
}

// information is what a real server tells of itself; nothing where there is none.
func (f *fleet) information() map[string]float64 {
	told := map[string]float64{}
	conn, err := net.DialTimeout("tcp", f.server, time.Second)
	if err != nil {
		return told
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := fmt.Fprint(conn, "INFO\r\nQUIT\r\n"); err != nil {
		return told
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if n, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
			told[name] = n
		}
	}
	return told
}

// recordSize measures what is written of a decision about a kept image.
func (f *fleet) recordSize(ctx context.Context) error {
	file := filepath.Join(f.dir, "unit.jsonl")
	p, err := f.serve(ctx, "--recordKept=1", "--decisionLogMaxBytes=0", "--decisionLog", file)
	if err != nil {
		return err
	}
	const n = 1000
	for range n {
		if status, text, err := p.post(ctx, f.admission(0)); err != nil || status != http.StatusOK {
			p.stop()
			return fmt.Errorf("answer %d %s %w", status, text, err)
		}
	}
	p.stop() // after which all is written
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	fmt.Printf("\nThe record of a decision takes %d bytes.\n", info.Size()/n)
	return nil
}
