package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
)

const (
	readyTime   = 3 * time.Minute  // for one wait on the cluster
	kubectlTime = 6 * time.Minute  // for one kubectl call, waits included
	removeTime  = 5 * time.Minute  // for a namespace: its controller looks again after half of the pods' grace of 300 s
	helmTime    = 10 * time.Minute // to build Helm
	importTime  = 2 * time.Minute  // for one image
	sendTime    = 3 * time.Minute  // for one run of the load generator
	endTime     = 30 * time.Second // for the first process and all others to be gone
)

// Options says where things are. The zero value is right for the command line.
type Options struct {
	Log             io.Writer // progress, one line per step; nil for none
	CacheDir        string    // empty is bed.DefaultCacheDir
	ToolsDir        string    // empty finds it from the working directory
	InstallPackages bool      // ask Debian for the packages that are missing
}

func (o Options) log() io.Writer {
	if o.Log == nil {
		return io.Discard
	}
	return o.Log
}

// Cluster is a running one.
type Cluster struct {
	layout
	log        io.Writer
	supervisor bed.Process
	built      built

	loadgen        sync.Once // builds
	loadgenProgram string
	loadgenErr     error
}

// Up brings up the cluster, or what is missing of it: a second call finishes what an interrupted one left. If the
// cluster crashed, it starts anew.
func Up(ctx context.Context, opts Options) (*Cluster, error) {
	c := &Cluster{log: opts.log()}
	steps := []Step{
		{"machine", func(ctx context.Context) error { return c.prepare(ctx, opts) }},
		{"programs", func(ctx context.Context) (err error) { c.built, err = build(ctx, opts); return err }},
		{"node started", c.startNode},
		{"API server", c.awaitAPI},
		{"images", c.importImages},
		{"node ready", c.awaitNode},
		{"DNS", c.installDNS},
		{"Knative's definitions", c.installKnativeDefinitions},
		{"Knative and Traefik", c.installKnative},
	}
	began := time.Now()
	if err := c.Do(ctx, steps...); err != nil {
		return nil, err
	}
	fmt.Fprintf(c.log, "cluster: up after %s\n", time.Since(began).Round(100*time.Millisecond))
	return c, nil
}

// Attach returns the cluster that is up.
func Attach(opts Options) (*Cluster, error) {
	l, err := newLayout(opts.CacheDir)
	if err != nil {
		return nil, err
	}
	s, err := l.readState()
	if err != nil {
		return nil, err
	}
	if !s.Supervisor.Running() {
		return nil, errors.New("no cluster is up; `make cluster-up` starts one")
	}
	c := &Cluster{layout: l, log: opts.log(), supervisor: s.Supervisor}
	return c, c.readBuilt()
}

// Supervisor is the cluster's first process.
func (c *Cluster) Supervisor() bed.Process { return c.supervisor }

// Step is a part of the way, and its name in the progress.
type Step struct {
	Name string
	Run  func(context.Context) error
}

// Do takes the steps in order and says how long each took.
func (c *Cluster) Do(ctx context.Context, steps ...Step) error {
	for _, s := range steps {
		began := time.Now()
		if err := s.Run(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		fmt.Fprintf(c.log, "cluster: %s after %s\n", s.Name, time.Since(began).Round(100*time.Millisecond))
	}
	return nil
}

func (c *Cluster) prepare(ctx context.Context, opts Options) (err error) {
	if opts.InstallPackages {
		if err := installPackages(ctx, c.log); err != nil {
			return err
		}
	}
	if err := checkHost(); err != nil {
		return err
	}
	c.layout, err = newLayout(opts.CacheDir)
	return err
}

// startNode leaves a running node alone. What is left of one that crashed is removed first.
func (c *Cluster) startNode(ctx context.Context) error {
	unlock, err := bed.LockFile(ctx, c.lockFile(), c.log)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := c.readState()
	if err != nil {
		return err
	}
	if c.supervisor = s.Supervisor; s.Supervisor.Running() {
		return nil
	}
	if err := c.remove(ctx, s); err != nil {
		return err
	}
	if err := os.MkdirAll(c.path("logs"), 0o755); err != nil {
		return err
	}
	if err := errors.Join(c.writePKI(), c.writeConfigs(), c.writeBuilt()); err != nil {
		return err
	}
	if err := c.writeState(state{Sysctls: readSysctls()}); err != nil {
		return err
	}
	if err := makeCgroups(); err != nil {
		return err
	}
	return c.startSupervisor()
}

// startSupervisor runs this program again in new namespaces. It learns what to do only once its id is written down.
func (c *Cluster) startSupervisor() error {
	out, err := os.OpenFile(c.path("logs", "supervisor.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command("/proc/self/exe", SuperviseCommand)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	orders, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }()
	if c.supervisor, err = bed.Identify("cluster", cmd.Process.Pid); err != nil {
		return err
	}
	s, err := c.readState()
	if err != nil {
		return err
	}
	s.Supervisor = c.supervisor
	if err := c.writeState(s); err != nil {
		return err
	}
	err = json.NewEncoder(orders).Encode(map[string]any{"Logs": c.path("logs"), "Resolver": c.path(nodeResolver), "Parts": c.parts(c.built.Programs)})
	return errors.Join(err, orders.Close())
}

// Down ends the cluster and removes all that it changed. Without a cluster it does nothing.
func Down(ctx context.Context, opts Options) error {
	l, err := newLayout(opts.CacheDir)
	if err != nil {
		return err
	}
	c := &Cluster{layout: l, log: opts.log()}
	if err := os.MkdirAll(l.cache, 0o755); err != nil {
		return err
	}
	unlock, err := bed.LockFile(ctx, l.lockFile(), c.log)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := l.readState()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := c.remove(ctx, s); err != nil {
		return err
	}
	fmt.Fprintf(c.log, "cluster: gone after %s\n", time.Since(began).Round(100*time.Millisecond))
	return nil
}

// remove kills the first process, which takes all others with it, and undoes what namespaces do not contain.
func (c *Cluster) remove(ctx context.Context, s state) error {
	if err := s.Supervisor.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	err := poll(ctx, endTime, "the cluster's processes to end", func(context.Context) error {
		if s.Supervisor.Running() {
			return fmt.Errorf("process %d runs", s.Supervisor.PID)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if s.Sysctls == nil { // nothing was ever started
		return nil
	}
	if err := errors.Join(removeCgroups(), restoreSysctls(s.Sysctls), os.RemoveAll(c.data)); err != nil {
		return err
	}
	return os.Remove(c.stateFile())
}

// Kubectl runs kubectl as the administrator and returns what it wrote to stdout. An error holds what it wrote to
// stderr.
func (c *Cluster) Kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, kubectlTime)
	defer cancel()
	cmd := c.KubectlCommand(ctx, args...)
	stdout, stderr := bytes.Buffer{}, bytes.Buffer{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// KubectlCommand is kubectl as the administrator, not yet started.
func (c *Cluster) KubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	return c.Command(ctx, c.built.Programs.Kubectl,
		append([]string{"--kubeconfig=" + c.kubeconfig("admin"), "--cache-dir=" + c.path("kubectl")}, args...)...)
}

// Command runs a program of the machine in the cluster's network, with the machine's files.
func (c *Cluster) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", c.supervisor.PID), "--", program}, args...)...)
}

// finish runs a command to its end. An error names what it was for and holds what it wrote.
func finish(cmd *exec.Cmd, subject string) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", subject, err, bytes.TrimSpace(out))
	}
	return nil
}

// Apply applies YAML or JSON manifests, which may be there already.
func (c *Cluster) Apply(ctx context.Context, manifests string) error {
	_, err := c.Kubectl(ctx, manifests, "apply", "--server-side", "--force-conflicts", "-f", "-")
	return err
}

func (c *Cluster) awaitAPI(ctx context.Context) error {
	err := poll(ctx, readyTime, "the API server", func(ctx context.Context) error {
		if !c.supervisor.Running() {
			return nil // there is nothing to wait for
		}
		_, err := c.Kubectl(ctx, "", "get", "--raw=/readyz", "--request-timeout=2s")
		return err
	})
	if err == nil && !c.supervisor.Running() {
		err = fmt.Errorf("the cluster ended, see %s", c.path("logs", "supervisor.log"))
	}
	return err
}

func (c *Cluster) awaitNode(ctx context.Context) error {
	err := poll(ctx, readyTime, "the node to register", func(ctx context.Context) error {
		_, err := c.Kubectl(ctx, "", "get", "node", nodeName)
		return err
	})
	if err != nil {
		return err
	}
	_, err = c.Kubectl(ctx, "", "wait", "--for=condition=Ready", "node/"+nodeName, "--timeout="+readyTime.String())
	return err
}

// rollout waits until all Deployments of a namespace run as they should.
func (c *Cluster) rollout(ctx context.Context, namespace string) error {
	_, err := c.Kubectl(ctx, "", "wait", "--for=condition=Available", "deployment", "--all", "--namespace="+namespace, "--timeout="+readyTime.String())
	return err
}

// poll calls done five times a second until it returns nil. The error of the last try explains a missed deadline.
func poll(ctx context.Context, limit time.Duration, subject string, done func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := done(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", subject, context.Cause(ctx), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
