package function_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/plugintest"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest/distribution"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// bench is the environment of a test: a registry with images, trust, plugins, and the service that uses them.
type bench struct {
	registry  *registrytest.Registry
	scenario  *scenariotest.Scenario
	config    string // the plugin's configuration file
	ca        string // of the signing platform
	trustDir  string
	pluginDir string
	log       *slog.Logger // of the service; nil discards its log
	service   *function.Function
	url       string
}

// setting changes the settings of the service in a test.
type setting func(*function.Settings)

// cold disables the cache.
func cold(s *function.Settings) { s.CacheEnabled = false }

// registries are the two kinds of registry: with the referrers API, and with fallback tags only.
func registries(t testing.TB) map[string]registrytest.Options {
	t.Helper()
	return map[string]registrytest.Options{
		"referrers API": {},
		"fallback tags": {Handler: distribution.New(t.Context())},
	}
}

// start brings up a registry, and a service with the stand-in plugin in a mode.
func start(t testing.TB, options registrytest.Options, mode string, change setting) *bench {
	t.Helper()
	b := prepare(t, options, mode)
	b.serve(t, change)
	return b
}

// prepare brings up a registry, and makes the trust and plugin directories for a service.
func prepare(t testing.TB, options registrytest.Options, mode string) *bench {
	t.Helper()
	b := &bench{registry: registrytest.New(options), trustDir: t.TempDir(), pluginDir: t.TempDir()}
	t.Cleanup(b.registry.Close)
	var err error
	if b.scenario, err = scenariotest.New(b.registry.Host(), b.registry.Client(), !options.TLS); err != nil {
		t.Fatal(err)
	}
	if b.scenario.Platform, err = signingtest.NewPlatform(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.scenario.Platform.Close() })
	if b.config, b.ca, err = b.scenario.Platform.Write(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if err := b.scenario.WriteTrust(b.trustDir); err != nil {
		t.Fatal(err)
	}
	if err := plugintest.Install(standin, b.pluginDir, "venafi-csp", mode); err != nil {
		t.Fatal(err)
	}
	return b
}

// serve starts the service on loopback and waits until it is ready.
func (b *bench) serve(t testing.TB, change setting) {
	t.Helper()
	settings, _, err := function.LoadSettings("test", []string{
		"--trustDir", b.trustDir, "--defaultTrustPolicy", scenariotest.PolicyName, "--pluginDir", b.pluginDir, "--pluginSandboxPaths", os.TempDir() + ":rw",
		"--allowLoopback", "--insecureRegistries", b.registry.Host(), "--drainDelay", "0s", "--dockerConfig", filepath.Join(t.TempDir(), "none.json"),
		"--pluginConfig", "config=" + b.config,
	}, noEnvironment, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&settings)
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.service, err = function.New(settings, b.environment, b.log)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.url = "http://" + listener.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	b.service.Start(ctx)
	served := make(chan error, 1)
	go func() { served <- b.service.Serve(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("serving: %v", err)
		}
		b.service.Stop()
		http.DefaultClient.CloseIdleConnections()
	})
	b.waitReady(t)
}

func (b *bench) waitReady(t testing.TB) {
	t.Helper()
	wait(t, b.service.Inspected(), "the inspection of the plugins")
	if err := b.service.Ready(); err != nil {
		t.Fatalf("the service is not ready: %v", err)
	}
}

// publish pushes the image of a case, and returns its reference and digest.
func (b *bench) publish(t testing.TB, name string) (reference, digest string) {
	t.Helper()
	for _, c := range scenariotest.Cases() {
		if c.Name == name {
			image, err := b.scenario.Publish(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			return b.scenario.Reference(name), image.Digest.String()
		}
	}
	t.Fatalf("there is no case %q", name)
	return "", ""
}

// environment is the environment of this process, with the CA of the signing platform.
func (b *bench) environment(name string) (string, bool) {
	if name == "SSL_CERT_FILE" {
		return b.ca, true
	}
	return os.LookupEnv(name)
}

func noEnvironment(string) (string, bool) { return "", false }

// reply is an answer of the service.
type reply struct {
	status   int
	text     string // without the id of the decision
	header   http.Header
	decision string // its id; "" for an answer without one
}

// decisionOf is how an answer names its decision: at the end of a denial, and in a field.
var decisionOf = regexp.MustCompile(` \(decision ([0-9A-Z]{26})\)|,"decision":"([0-9A-Z]{26})"`)

// withoutDecision takes the id of the decision out of an answer, and holds that header and text agree on it.
func withoutDecision(t testing.TB, header http.Header, text string) (rest, id string) {
	t.Helper()
	id = header.Get("Decision-Id")
	for _, named := range decisionOf.FindAllStringSubmatch(text, -1) {
		if named[1]+named[2] != id {
			t.Errorf("the header names the decision %q, and the answer another: %s", id, text)
		}
	}
	return decisionOf.ReplaceAllString(text, ""), id
}

// post sends a request to a path.
func (b *bench) post(t testing.TB, path, body string) reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return b.send(t, request)
}

func (b *bench) send(t testing.TB, request *http.Request) reply {
	t.Helper()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	rest, id := withoutDecision(t, response.Header, string(text))
	return reply{status: response.StatusCode, text: rest, header: response.Header, decision: id}
}

// verdict sends a request to /verify.
func (b *bench) verdict(t testing.TB, body string) core.Verdict {
	t.Helper()
	answer := b.post(t, "/verify", body)
	if answer.status != http.StatusOK {
		t.Fatalf("/verify answered %d %s", answer.status, answer.text)
	}
	var verdict core.Verdict
	if err := json.Unmarshal([]byte(answer.text), &verdict); err != nil {
		t.Fatal(err)
	}
	return verdict
}

// pod is the request for a pod with these images, in containers c0, c1, ...
func pod(images ...string) string {
	var containers []string
	for i, image := range images {
		containers = append(containers, fmt.Sprintf(`{"name":"c%d","image":%q}`, i, image))
	}
	return fmt.Sprintf(`{"object":{"kind":"Pod","spec":{"containers":[%s]}}}`, strings.Join(containers, ","))
}
