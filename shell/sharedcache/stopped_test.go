package sharedcache_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	core "github.com/nirmata/kyverno-notation-venafi/core/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/shell/egress"
	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache/redistest"
)

// stoppedAt has this program look into the server at an address, as a process that is stopped while it waits.
const stoppedAt = "SHARED_CACHE_TEST_STOPPED_AT"

// stops is how often it is stopped.
const stops = 10

// looksWhenStopped prints what became of its looks.
func looksWhenStopped(address string) {
	server, err := sharedcache.ParseServer("redis://" + address)
	if err != nil {
		panic(err)
	}
	redis, err := sharedcache.OpenRedis(sharedcache.RedisOptions{Server: server, Egress: egress.Rule{AllowLoopback: true}})
	if err != nil {
		panic(err)
	}
	defer redis.Close()
	ring, err := core.NewKeyring([]string{secret}, "build 1")
	if err != nil {
		panic(err)
	}
	cache := sharedcache.New(sharedcache.Options{Store: redis, Keys: func() core.Keyring { return ring }, Log: slog.New(slog.DiscardHandler)})
	defer cache.Close()
	for i := -1; i < stops; i++ { // the first look makes a connection
		cache.Look(context.Background(), cache.Budget(), lookupOf(fmt.Sprint("app-", i)), func(core.Entry) bool { return true })
	}
	fmt.Print(cache.Count(sharedcache.Hit), " hits, ", cache.Count(sharedcache.Failed), " failed")
}

// TestAProcessThatIsStoppedFindsItsAnswer: it is not the server that was slow when a process gets no processor until an answer and the end of
// its patience are both there. Else no replica of many that start at once on a node would find what another has worked out.
func TestAProcessThatIsStoppedFindsItsAnswer(t *testing.T) {
	server := hostile(t)
	writer := newReplica(t, open(t, "redis://"+server.Address, nil), patiently)
	for i := range stops {
		writer.facts(t.Context(), lookupOf(fmt.Sprint("app-", i)), "writer", 0)
	}
	await(t, func() bool { return writer.Count(sharedcache.Written) == stops })
	var reader atomic.Int64
	server.Set(func(command []string, honest func() []byte) ([]byte, bool) {
		answer := honest()
		if strings.EqualFold(command[0], "get") && string(answer) != string(redistest.Text(nil)) {
			pid := int(reader.Load())
			_ = syscall.Kill(pid, syscall.SIGSTOP) // it runs
			time.Sleep(5 * sharedcache.DefaultWait)
			time.AfterFunc(sharedcache.DefaultWait, func() { _ = syscall.Kill(pid, syscall.SIGCONT) }) // when the answer is there
		}
		return answer, true
	})
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), stoppedAt+"="+server.Address)
	var said strings.Builder
	command.Stdout, command.Stderr = &said, &said
	// The first look asks for what is not there, so the number is known when it is needed.
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	reader.Store(int64(command.Process.Pid))
	if err := command.Wait(); err != nil || said.String() != fmt.Sprint(stops, " hits, 0 failed") {
		t.Errorf("%v: %s", err, said.String())
	}
}
