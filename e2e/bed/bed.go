package bed

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Options says what a bed consists of. The zero value is etcd and the API server, silent.
type Options struct {
	Kyverno       bool      // run Kyverno's admission controller as well
	Reports       bool      // beside it, run Kyverno's reports controller, and let both make reports
	Log           io.Writer // progress, one line per step; nil for none
	APIServerArgs []string  // flags added to the bed's own
	KyvernoArgs   []string  // flags added to the bed's own
	ReportsArgs   []string  // the same for the reports controller, such as --backgroundScanInterval=10s
	KyvernoEnv    []string  // "NAME=value", added to the bed's own, for both controllers
	ToolsDir      string    // holds the modules that pin the programs; empty finds it from the working directory
	CacheDir      string    // holds the built programs; empty is DefaultCacheDir
}

func (o Options) log() io.Writer {
	if o.Log == nil {
		return io.Discard
	}
	return o.Log
}

// Bed is a running control plane. Its methods may be called from several goroutines.
type Bed struct {
	opts    Options
	tools   Tools
	dir     string
	lock    *os.File // held as long as dir is in use
	log     io.Writer
	pki     pki
	token   string // of the administrator
	client  *http.Client
	spawner *spawner

	apiPort, etcdPort, peerPort, kyvernoPort, metricsPort, reportsMetricsPort int

	mu       sync.Mutex
	children map[string]*child // by name
	closed   bool
	signals  chan os.Signal
}

// Start builds what is missing, starts the parts and returns when all are ready. Whatever it started is gone again when
// it returns an error. Until Close it answers SIGINT and SIGTERM by closing the bed and then raising the signal again.
func Start(ctx context.Context, opts Options) (*Bed, error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	tools, err := Build(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("programs of the bed: %w", err)
	}
	b, err := newBed(opts, tools)
	if err != nil {
		return nil, fmt.Errorf("bed: %w", err)
	}
	if err := b.startAll(ctx); err != nil {
		return nil, fmt.Errorf("start bed: %w", errors.Join(err, b.Close()))
	}
	go b.closeOnSignal()
	return b, nil
}

func newBed(opts Options, tools Tools) (*Bed, error) {
	dir, lock, err := newDataDir()
	if err != nil {
		return nil, err
	}
	b := &Bed{
		opts: opts, tools: tools, dir: dir, lock: lock, log: opts.log(),
		token:    rand.Text(),
		spawner:  newSpawner(),
		children: map[string]*child{},
		signals:  make(chan os.Signal, 1),
	}
	signal.Notify(b.signals, os.Interrupt, syscall.SIGTERM)
	if err := b.prepare(); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// prepare writes the files that the parts read.
func (b *Bed) prepare() (err error) {
	if b.pki, err = newPKI(b.dir); err != nil {
		return err
	}
	for _, port := range []*int{&b.apiPort, &b.etcdPort, &b.peerPort, &b.kyvernoPort, &b.metricsPort, &b.reportsMetricsPort} {
		if *port, err = freePort(); err != nil {
			return err
		}
	}
	if b.client, err = b.newClient(); err != nil {
		return err
	}
	users := b.token + `,admin,admin,"system:masters"` + "\n"
	if err := os.WriteFile(filepath.Join(b.dir, "users.csv"), []byte(users), 0o600); err != nil {
		return fmt.Errorf("users: %w", err)
	}
	_, err = b.WriteKubeconfig("admin", b.token)
	return err
}

func (b *Bed) startAll(ctx context.Context) error {
	steps := []step{{"etcd", b.startEtcd}, {"kube-apiserver", b.StartAPIServer}}
	if b.opts.Kyverno {
		steps = append(steps, step{"install of Kyverno", b.installKyverno}, step{"kyverno", b.StartKyverno})
	}
	if b.opts.Kyverno && b.opts.Reports {
		steps = append(steps, step{"reports controller of Kyverno", b.startReports})
	}
	for _, s := range steps {
		began := time.Now()
		if err := s.run(ctx); err != nil {
			return err
		}
		fmt.Fprintf(b.log, "bed: %s ready after %s\n", s.name, time.Since(began).Round(100*time.Millisecond))
	}
	return nil
}

type step struct {
	name string
	run  func(context.Context) error
}

// Close kills all parts and removes their data. A second call does nothing.
func (b *Bed) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	signal.Stop(b.signals)
	close(b.signals)
	for _, c := range b.children { // nothing of theirs is to be kept, so without grace
		c.stop(0)
	}
	b.spawner.close()
	if err := errors.Join(os.RemoveAll(b.dir), b.lock.Close()); err != nil {
		return fmt.Errorf("close bed: %w", err)
	}
	return nil
}

// closeOnSignal leaves the signal's effect on the process as it would have been, only later: once the bed no longer
// listens, raising the signal again ends the process unless someone else handles it.
func (b *Bed) closeOnSignal() {
	sig, open := <-b.signals
	if !open {
		return
	}
	if err := b.Close(); err != nil {
		fmt.Fprintf(b.log, "bed: %v\n", err)
	}
	_ = syscall.Kill(os.Getpid(), sig.(syscall.Signal)) // a process may always signal itself
}

// Dir holds the bed's data, one log per part (LogFile) and the kubeconfigs. Close removes it.
func (b *Bed) Dir() string { return b.dir }

// LogFile is what a part, named as in Processes, wrote so far.
func (b *Bed) LogFile(name string) string { return filepath.Join(b.dir, name+".log") }

// Processes are the parts that were started and not stopped.
func (b *Bed) Processes() []Process {
	b.mu.Lock()
	defer b.mu.Unlock()
	processes := []Process{}
	for _, c := range b.children {
		processes = append(processes, c.Process)
	}
	return processes
}

// run starts a part and keeps it for Close.
func (b *Bed) run(name string, env []string, program string, args ...string) (*child, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, fmt.Errorf("start %s: the bed is closed", name)
	}
	if c := b.children[name]; c != nil && c.alive() == nil {
		return nil, fmt.Errorf("start %s: it runs already", name)
	}
	c, err := b.spawner.spawn(name, b.LogFile(name), env, program, args...)
	if err != nil {
		return nil, err
	}
	b.children[name] = c
	return c, nil
}

// keep starts a part again whenever it ends, until it is stopped or the bed closed.
func (b *Bed) keep(c *child) {
	for c != nil {
		<-c.exited
		time.Sleep(restartPause)
		c = b.restart(c)
	}
}

// restart returns nil if the part was meant to end or cannot be started.
func (b *Bed) restart(c *child) *child {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.children[c.Name] != c {
		return nil
	}
	next, err := c.again()
	if err != nil {
		fmt.Fprintf(b.log, "bed: %v\n", err)
		return nil
	}
	fmt.Fprintf(b.log, "bed: %s ended (%v) and was started again\n", c.Name, c.err)
	b.children[c.Name] = next
	return next
}

func (b *Bed) stop(name string, grace time.Duration) error {
	b.mu.Lock()
	c := b.children[name]
	delete(b.children, name)
	b.mu.Unlock()
	if c == nil {
		return fmt.Errorf("stop %s: it does not run", name)
	}
	c.stop(grace)
	return nil
}

// restartPause keeps a part that ends at once from using up the machine.
const restartPause = time.Second

const dataDirPattern = "kyverno-notation-venafi-bed-"

// newDataDir also removes what beds left behind whose process was killed. A bed holds a lock on a file in its
// directory; one that is very young may not have taken it yet.
func newDataDir() (string, *os.File, error) {
	old, err := filepath.Glob(filepath.Join(os.TempDir(), dataDirPattern+"*"))
	if err != nil {
		return "", nil, fmt.Errorf("data directory: %w", err)
	}
	for _, dir := range old {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		if lock, err := lockDataDir(dir); err == nil {
			_ = errors.Join(os.RemoveAll(dir), lock.Close()) // another user's, perhaps: not this run's concern
		}
	}
	dir, err := os.MkdirTemp("", dataDirPattern)
	if err != nil {
		return "", nil, fmt.Errorf("data directory: %w", err)
	}
	lock, err := lockDataDir(dir)
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return dir, lock, nil
}

func lockDataDir(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock %s: %w", file.Name(), errors.Join(err, file.Close()))
	}
	return file, nil
}

// freePort picks below the range from which the kernel takes the ports of outgoing connections (32768 and up on Linux),
// so that a port stays free while the part that owns it is stopped.
func freePort() (int, error) {
	for range 100 {
		port := 10000 + mathrand.IntN(22000)
		listener, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
		if err == nil {
			return port, listener.Close()
		}
	}
	return 0, errors.New("no free port on " + loopback)
}
