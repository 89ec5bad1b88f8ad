//go:build e2e

// Package deployment runs the commands of the service as processes against a test environment, as the service accounts of the
// manifests and with only their permissions.
package deployment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
)

// Names in the manifests.
const (
	Namespace      = "kyverno-notation-venafi"
	ServiceAccount = "kyverno-notation-venafi"
	ManagerAccount = "kyverno-notation-venafi-certmanager"
)

const (
	askTime = 15 * time.Second // for one answer
	endTime = 30 * time.Second // for a process that was asked to end
)

// Deployment is the binary of the service, and the test environment that its processes use.
type Deployment struct {
	Env []string // further environment variables of its processes

	bed    *bed.Bed
	dir    string // of the logs
	binary string
}

// Build makes the binary in dir, where the logs of its processes go as well.
func Build(ctx context.Context, b *bed.Bed, dir string) (*Deployment, error) {
	p := &Deployment{bed: b, dir: dir, binary: filepath.Join(dir, "kyverno-notation-venafi")}
	build := exec.CommandContext(ctx, "go", "build", "-o", p.binary, "github.com/nirmata/kyverno-notation-venafi/function/cmd/kyverno-notation-venafi")
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the product: %w: %s", err, output)
	}
	return p, nil
}

// Install applies the installation and waits until trust resources can be made. No controller makes its pods.
func Install(ctx context.Context, b *bed.Bed, manifest string) error {
	if _, err := b.Kubectl(ctx, "", "apply", "-f", manifest); err != nil {
		return err
	}
	_, err := b.Kubectl(ctx, "", "wait", "--for=condition=Established", "--timeout=1m",
		"crd/trustpolicies.notation.nirmata.io", "crd/truststores.notation.nirmata.io")
	return err
}

// Process is a running command of the service. The caller must End it.
type Process struct {
	URL    string        // its plain address
	Secure string        // where the service speaks TLS, as host:port
	Log    string        // file
	Ended  chan struct{} // closed when the process has ended
	PID    int

	command *exec.Cmd
}

// Serve starts a replica of the service.
func (p *Deployment) Serve(ctx context.Context, args ...string) (*Process, error) {
	return p.start(ctx, "serve", ServiceAccount, args)
}

// Manage starts a certificate manager.
func (p *Deployment) Manage(ctx context.Context, args ...string) (*Process, error) {
	return p.start(ctx, "certmanager", ManagerAccount, args)
}

func (p *Deployment) start(ctx context.Context, command, account string, args []string) (*Process, error) {
	kubeconfig, err := p.bed.WriteServiceAccountKubeconfig(ctx, Namespace, account)
	if err != nil {
		return nil, err
	}
	plain, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	secure, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	log, err := os.CreateTemp(p.dir, command+"-*.log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	own := []string{command, "--kubeconfig", kubeconfig, "--namespace", Namespace, "--plainAddress", plain, "--tlsAddress", secure, "--drainDelay", "0s"}
	process := &Process{URL: "http://" + plain, Secure: secure, Log: log.Name(), Ended: make(chan struct{}), command: exec.Command(p.binary, append(own, args...)...)}
	process.command.Stdout, process.command.Stderr = log, log
	process.command.Env = append(os.Environ(), p.Env...)
	process.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := process.command.Start(); err != nil {
		return nil, err
	}
	process.PID = process.command.Process.Pid
	go func() {
		_ = process.command.Wait()
		close(process.Ended)
	}()
	return process, nil
}

// Kept ends a process when the test ends, and logs its output if the test failed.
func Kept(t *testing.T) func(*Process, error) *Process {
	t.Helper()
	return func(p *Process, err error) *Process {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.End(); err != nil {
				t.Error(err)
			}
			if t.Failed() {
				t.Logf("%s:\n%s", filepath.Base(p.Log), p.Logged())
			}
		})
		return p
	}
}

// FreeAddress is a local address on which nothing listens.
func FreeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// End sends SIGTERM and waits until the process has ended. It does nothing for a process that has ended already.
func (p *Process) End() error {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.Ended:
		return nil
	case <-time.After(endTime):
		p.Kill()
		return errors.New("a process did not end when it was asked to")
	}
}

// Kill sends SIGKILL and waits until the process has ended.
func (p *Process) Kill() {
	_ = p.command.Process.Kill()
	<-p.Ended
}

// Logged is the log of the process so far.
func (p *Process) Logged() string {
	text, _ := os.ReadFile(p.Log)
	return string(text)
}

// Ready is nil when the readiness probe of the process succeeds.
func (p *Process) Ready(ctx context.Context) error {
	select {
	case <-p.Ended:
		return fmt.Errorf("the process ended: %s", p.Logged())
	default:
	}
	_, err := p.Get(ctx, "/health/readiness")
	return err
}

// Ask sends a GET request to the plain address and gives the status and the text of the answer.
func (p *Process) Ask(ctx context.Context, path string) (int, string, error) {
	request, err := http.NewRequest(http.MethodGet, p.URL+path, nil)
	if err != nil {
		return 0, "", err
	}
	return Do(ctx, request)
}

// Get is Ask, but any status other than 200 is an error.
func (p *Process) Get(ctx context.Context, path string) (string, error) {
	status, text, err := p.Ask(ctx, path)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%d %s", status, text)
	}
	return text, err
}

// Check posts a request to /checkimages on the plain address, as Kyverno does.
func (p *Process) Check(ctx context.Context, authorization string, body []byte) (int, string, error) {
	return p.Post(ctx, "/checkimages", authorization, body)
}

// Post is Check for another path.
func (p *Process) Post(ctx context.Context, path, authorization string, body []byte) (int, string, error) {
	request, err := http.NewRequest(http.MethodPost, p.URL+path, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	return Do(ctx, request)
}

// PodRequest is the request for a pod with one image.
func PodRequest(image, policy string) []byte {
	return fmt.Appendf(nil, `{"trustPolicy":%q,"object":{"kind":"Pod","spec":{"containers":[{"name":"app","image":%q}]}}}`, policy, image)
}

// Send posts a CloudEvent in binary mode, as Knative's ApiServerSource does. data is the resource of a kind that was
// changed in one of the ways add, update, delete.
func (p *Process) Send(ctx context.Context, token, id, change, kind, data string) (int, string, error) {
	request, err := http.NewRequest(http.MethodPost, p.URL+"/events", strings.NewReader(data))
	if err != nil {
		return 0, "", err
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Authorization": "Bearer " + token,
		"Ce-Specversion": "1.0", "Ce-Id": id, "Ce-Source": "https://10.96.0.1:443", "Ce-Type": "dev.knative.apiserver.resource." + change,
		"Ce-Apiversion": "notation.nirmata.io/v1alpha1", "Ce-Kind": kind, "Ce-Name": "acme",
	} {
		request.Header.Set(name, value)
	}
	return Do(ctx, request)
}

// Do sends a request and gives the status and the text of its answer.
func Do(ctx context.Context, request *http.Request) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	response, err := http.DefaultClient.Do(request.WithContext(ctx))
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

// Patience is for a condition that must come to hold: far more than it takes, since a busy machine may stand still for long.
const Patience = 2 * time.Minute

// Eventually polls a condition until it holds or the time is over, and returns the last error of the condition.
func Eventually(ctx context.Context, limit time.Duration, holds func() error) error {
	err := errors.New("it was not tried")
	for deadline := time.Now().Add(limit); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if err = holds(); err == nil {
			return nil
		}
	}
	return err
}
