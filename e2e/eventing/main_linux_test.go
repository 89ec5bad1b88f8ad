//go:build e2e && e2e_eventing

package eventing

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
)

// What the test tells itself when it runs itself again.
const (
	programsVariable = "E2E_EVENTING_PROGRAMS" // directory with the programs of Knative Eventing
	moduleVariable   = "E2E_EVENTING_MODULE"   // directory of its module
	dirVariable      = "E2E_EVENTING_DIR"      // directory for files, which outlives the namespaces
)

// endTime is for a test that was asked to end, and ends processes itself.
const endTime = time.Minute

// programs are the main packages of the module knative.dev/eventing by the Deployment that runs them. The adapter's is made by the
// controller, under another name.
var programs = map[string]string{
	"eventing-controller":  "controller",
	"eventing-webhook":     "webhook",
	"mt-broker-controller": "mtchannel_broker",
	"mt-broker-ingress":    "broker/ingress",
	"mt-broker-filter":     "broker/filter",
	"imc-controller":       "in_memory/channel_controller",
	"imc-dispatcher":       "in_memory/channel_dispatcher",
	adapterProgram:         "apiserver_receive_adapter",
}

const adapterProgram = "apiserversource-adapter"

func TestMain(m *testing.M) {
	if os.Getenv(programsVariable) != "" {
		os.Exit(inside(m))
	}
	code, err := outside()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e-eventing:", err)
		code = 1
	}
	os.Exit(code)
}

// outside builds what needs a network, and runs this program again in namespaces of its own. It gives its exit status.
func outside() (int, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "e2e-eventing-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	env, err := build(ctx)
	if err != nil {
		return 1, err
	}
	// The kernel kills the child when this thread ends, so it must be there as long as the process.
	runtime.LockOSThread()
	child := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	child.Stdin, child.Stdout, child.Stderr = nil, os.Stdout, os.Stderr
	child.Env = append(os.Environ(), append(env, dirVariable+"="+dir, "TMPDIR="+dir)...) // what is left there is removed, however it ends
	child.SysProcAttr = namespaces()
	child.Cancel = func() error { return child.Process.Signal(syscall.SIGTERM) }
	child.WaitDelay = endTime
	err = child.Run()
	if child.ProcessState != nil && child.ProcessState.Exited() {
		return child.ProcessState.ExitCode(), nil
	}
	return 1, err
}

// namespaces are those of the child. Without root it is root in a user namespace. It has a process group of its own, so that a
// signal from a terminal reaches it once, from its parent.
func namespaces() *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		attributes.Cloneflags |= syscall.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}
	}
	return attributes
}

// build fills the caches with all that will be built or run inside, and gives the variables that tell where it is.
func build(ctx context.Context) ([]string, error) {
	options := bed.Options{Log: os.Stderr}
	if _, err := bed.Build(ctx, options); err != nil {
		return nil, err
	}
	builder, err := bed.NewBuilder(ctx, options)
	if err != nil {
		return nil, err
	}
	unlock, err := builder.Lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var dir string
	for name, of := range programs {
		path, err := builder.Program(ctx, "eventing", name, "knative.dev/eventing/cmd/"+of)
		if err != nil {
			return nil, err
		}
		dir = filepath.Dir(path)
	}
	module, err := builder.ModuleDir(ctx, "eventing", "knative.dev/eventing")
	if err != nil {
		return nil, err
	}
	const product = "github.com/nirmata/kyverno-notation-venafi/"
	command := exec.CommandContext(ctx, "go", "build", product+"function/cmd/kyverno-notation-venafi", product+"shell/plugin/plugintest/standin")
	if output, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the service: %w: %s", err, output)
	}
	return []string{programsVariable + "=" + dir, moduleVariable + "=" + module}, nil
}

// cluster is what the tests share.
type cluster struct {
	*fixture.Fixture
	*node
	knative *knative
	service *forwarder // the Service svc
}

// shared is set once, before the tests.
var shared cluster

// inside makes the node and runs the tests in it.
func inside(m *testing.M) int {
	n, err := newNode(os.Getenv(dirVariable))
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e-eventing: the node:", err)
		return 1
	}
	return fixture.Main(m, fixture.Options{
		Replicas: 2, WithoutKyverno: true,
		// Pods reach the API server by its Service only.
		APIServerArgs: []string{"--service-account-jwks-uri=https://" + apiServerName + "/openid/v1/jwks"},
		Then: func(ctx context.Context, fx *fixture.Fixture) error {
			shared = cluster{Fixture: fx, node: n}
			return shared.start(ctx)
		},
	}, func(*fixture.Fixture) {})
}
