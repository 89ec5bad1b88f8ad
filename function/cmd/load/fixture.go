package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// fixture is a registry with images, and two services that trust their signer: cold, without a cache, and warm, with the
// default settings.
type fixture struct {
	options    options
	dir        string
	registry   *registrytest.Registry
	scenario   *scenariotest.Scenario
	config, ca string // the plugin's configuration file, and its platform's CA
	cold, warm *process
}

func newFixture(ctx context.Context, o options) (fx *fixture, err error) {
	fx = &fixture{options: o, registry: registrytest.New(registrytest.Options{})}
	defer func() {
		if err != nil {
			fx.close()
		}
	}()
	if fx.dir, err = os.MkdirTemp("", "load-"); err != nil {
		return fx, err
	}
	if fx.scenario, err = scenariotest.New(fx.registry.Host(), fx.registry.Client(), true); err != nil {
		return fx, err
	}
	if fx.scenario.Platform, err = signingtest.NewPlatform(); err != nil {
		return fx, err
	}
	secrets := filepath.Join(fx.dir, "platform")
	if err = os.Mkdir(secrets, 0o700); err != nil {
		return fx, err
	}
	if fx.config, fx.ca, err = fx.scenario.Platform.Write(secrets); err != nil {
		return fx, err
	}
	if err = os.Setenv("SSL_CERT_FILE", fx.ca); err != nil { // the services inherit it and pass it to the plugin
		return fx, err
	}
	if err = fx.scenario.WriteTrust(fx.dir); err != nil {
		return fx, err
	}
	if fx.cold, err = fx.serve(ctx, "--cacheEnabled=false"); err != nil {
		return fx, err
	}
	fx.warm, err = fx.serve(ctx)
	return fx, err
}

func (fx *fixture) close() {
	for _, p := range []*process{fx.cold, fx.warm} {
		if p != nil {
			p.stop()
		}
	}
	if fx.scenario != nil && fx.scenario.Platform != nil {
		_ = fx.scenario.Platform.Close() // no client is left
	}
	fx.registry.Close()
	_ = os.RemoveAll(fx.dir)
}

// push pushes a signed image and returns its reference.
func (fx *fixture) push(ctx context.Context, name string, plugin bool) (string, error) {
	request := &signingtest.SignRequest{}
	if plugin {
		request.Plugin = signingtest.Venafi()
	}
	_, err := fx.scenario.PushSigned(ctx, name, fx.scenario.Signer(), request)
	return fx.scenario.Reference(name), err
}

// pushMany pushes n signed images and returns their references.
func (fx *fixture) pushMany(ctx context.Context, prefix string, n int, plugin bool) ([]string, error) {
	references := make([]string, n)
	for i := range references {
		var err error
		if references[i], err = fx.push(ctx, fmt.Sprintf("%s-%d", prefix, i), plugin); err != nil {
			return nil, err
		}
	}
	return references, nil
}

// process is a server in a process of its own, so that its memory can be measured apart from the load generator's.
type process struct {
	command *exec.Cmd
	url     string
	client  *http.Client
}

func (fx *fixture) serve(ctx context.Context, flags ...string) (*process, error) {
	return start(ctx, fx.options.service, func(address string) []string {
		return append([]string{"serve", "--plainAddress", address, "--trustDir", fx.dir, "--defaultTrustPolicy", scenariotest.PolicyName,
			"--pluginDir", fx.options.plugins, "--pluginConfig", "config=" + fx.config, "--allowLoopback", "--insecureRegistries", fx.registry.Host(), "--drainDelay", "0s",
			"--dockerConfig", filepath.Join(fx.dir, "none.json"), "--logLevel", "error"}, flags...)
	}, "/health/readiness")
}

// start runs a server on a free loopback port, and waits until the path ready answers 200.
func start(ctx context.Context, binary string, arguments func(address string) []string, ready string) (*process, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	_ = listener.Close() // so that the process can listen on the port
	command := exec.CommandContext(ctx, binary, arguments(address)...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 20 * time.Second
	command.Stderr = os.Stderr
	command.Env = append(os.Environ(), "GOMEMLIMIT="+worstLimit) // as the manifests set it
	if err := command.Start(); err != nil {
		return nil, err
	}
	p := &process{command: command, url: "http://" + address, client: &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 256},
	}}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if status, _, err := p.get(ready); err == nil && status == http.StatusOK {
			return p, nil
		}
		if time.Now().After(deadline) {
			p.stop()
			return nil, fmt.Errorf("%s does not become ready", binary)
		}
	}
}

func (p *process) stop() {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	_ = p.command.Wait() // its output went to stderr
	p.client.CloseIdleConnections()
}

func (p *process) get(path string) (int, string, error) {
	response, err := p.client.Get(p.url + path)
	if err != nil {
		return 0, "", err
	}
	return read(response)
}

func (p *process) post(ctx context.Context, body string) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/checkimages", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	request.Header["Idempotency-Key"] = nil // not sent: net/http then repeats what meets the end of an idle connection
	response, err := p.client.Do(request)
	if err != nil {
		return 0, "", err
	}
	return read(response)
}

func read(response *http.Response) (int, string, error) {
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

// state is a part of the metrics of a service.
type state struct {
	processes, mallocs, entries float64 // plugin processes and allocations since the start, and cached outcomes
	files, goroutines           float64
	resident                    float64                     // bytes
	processor                   float64                     // seconds since the start
	shared                      [len(sharedResults)]float64 // looks into what replicas share, by result
}

func (p *process) state() (state, error) {
	_, text, err := p.get("/metrics")
	if err != nil {
		return state{}, err
	}
	var s state
	wanted := map[string]*float64{
		`kyverno_notation_venafi_plugin_calls_total{event="started"}`: &s.processes,
		"kyverno_notation_venafi_cache_entries":                       &s.entries,
		"go_memstats_mallocs_total":                                   &s.mallocs,
		"go_goroutines":                                               &s.goroutines,
		"process_open_fds":                                            &s.files,
		"process_resident_memory_bytes":                               &s.resident,
		"process_cpu_seconds_total":                                   &s.processor,
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if result, ok := strings.CutPrefix(name, `kyverno_notation_venafi_shared_cache_total{result="`); ok {
			if i := slices.Index(sharedResults[:], strings.TrimSuffix(result, `"}`)); i >= 0 {
				s.shared[i], _ = strconv.ParseFloat(value, 64) // as a number is always written
			}
		}
		if into, ok := wanted[name]; ok {
			if *into, err = strconv.ParseFloat(value, 64); err != nil {
				return state{}, fmt.Errorf("metric %s: %w", name, err)
			}
			delete(wanted, name)
		}
	}
	if len(wanted) > 0 {
		return state{}, errors.New("metrics are missing")
	}
	return s, nil
}
