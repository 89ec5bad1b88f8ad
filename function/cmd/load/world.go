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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// world is a registry with images, and services that trust their signer: one that keeps nothing, so that every
// admission is cold, and one as it comes.
type world struct {
	options    options
	dir        string
	registry   *registrytest.Registry
	scenario   *scenariotest.Scenario
	config, ca string // the plugin's configuration file, and its platform's CA
	cold, warm *process
}

func newWorld(ctx context.Context, o options) (w *world, err error) {
	w = &world{options: o, registry: registrytest.New(registrytest.Options{})}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.dir, err = os.MkdirTemp("", "load-"); err != nil {
		return w, err
	}
	if w.scenario, err = scenariotest.New(w.registry.Host(), w.registry.Client(), true); err != nil {
		return w, err
	}
	if w.scenario.Platform, err = signingtest.NewPlatform(); err != nil {
		return w, err
	}
	secrets := filepath.Join(w.dir, "platform")
	if err = os.Mkdir(secrets, 0o700); err != nil {
		return w, err
	}
	if w.config, w.ca, err = w.scenario.Platform.Write(secrets); err != nil {
		return w, err
	}
	if err = os.Setenv("SSL_CERT_FILE", w.ca); err != nil { // for the services, which give it to the plugin
		return w, err
	}
	if err = w.scenario.WriteTrust(w.dir); err != nil {
		return w, err
	}
	if w.cold, err = w.serve(ctx, "--cacheEnabled=false"); err != nil {
		return w, err
	}
	w.warm, err = w.serve(ctx)
	return w, err
}

func (w *world) close() {
	for _, p := range []*process{w.cold, w.warm} {
		if p != nil {
			p.stop()
		}
	}
	if w.scenario != nil && w.scenario.Platform != nil {
		_ = w.scenario.Platform.Close() // nobody asks it any more
	}
	w.registry.Close()
	_ = os.RemoveAll(w.dir)
}

// push signs an image on the spot and gives its reference.
func (w *world) push(ctx context.Context, name string, plugin bool) (string, error) {
	request := &signingtest.SignRequest{}
	if plugin {
		request.Plugin = signingtest.Venafi()
	}
	_, err := w.scenario.PushSigned(ctx, name, w.scenario.Signer(), request)
	return w.scenario.Reference(name), err
}

// pushMany gives references of n signed images.
func (w *world) pushMany(ctx context.Context, prefix string, n int, plugin bool) ([]string, error) {
	references := make([]string, n)
	for i := range references {
		var err error
		if references[i], err = w.push(ctx, fmt.Sprintf("%s-%d", prefix, i), plugin); err != nil {
			return nil, err
		}
	}
	return references, nil
}

// process is a server that was started, in a process of its own so that its memory can be told from ours.
type process struct {
	command *exec.Cmd
	url     string
	client  *http.Client
}

func (w *world) serve(ctx context.Context, flags ...string) (*process, error) {
	return start(ctx, w.options.service, func(address string) []string {
		return append([]string{"serve", "--plainAddress", address, "--trustDir", w.dir, "--defaultTrustPolicy", scenariotest.PolicyName,
			"--pluginDir", w.options.plugins, "--pluginConfig", "config=" + w.config, "--allowLoopback", "--insecureRegistries", w.registry.Host(), "--drainDelay", "0s",
			"--dockerConfig", filepath.Join(w.dir, "none.json"), "--logLevel", "error"}, flags...)
	}, "/health/readiness")
}

// start runs a server on a free port of loopback, and waits until a path answers.
func start(ctx context.Context, binary string, arguments func(address string) []string, ready string) (*process, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	_ = listener.Close() // the port is for the process
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
	_ = p.command.Wait() // what it has to say it said
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

// state is what a service says of itself.
type state struct {
	processes, mallocs, entries float64 // plugin processes and allocations since the start, outcomes kept
	files, goroutines           float64
	resident                    float64 // bytes
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
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
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
