package collector

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/plugintest"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// TestTheTreeOfOneColdAdmission has a real collector receive the trace of a pod whose image is signed by way of a plugin and carries
// an attestation with a condition, and of another one that is unsigned.
func TestTheTreeOfOneColdAdmission(t *testing.T) {
	sink, endpoint := collect(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	w := newWorld(t)
	url, stop := w.serve(t)
	signed, unsigned := w.signed(t), w.unsigned(t)

	cases := map[string]struct {
		body   string
		status int
		want   string
	}{
		"POST /checkimages 200": {w.request(signed), 200, `
POST /checkimages verified=true
  decide verified=true
  image outcome=ok
    lookup document outcome=ok
      conditions application/vnd.cyclonedx+json outcome=ok
    lookup list outcome=ok
    lookup list outcome=ok
    lookup manifest outcome=ok
    lookup manifest outcome=ok
    lookup manifest outcome=ok
    lookup resolution outcome=ok
    lookup signature outcome=ok
    lookup signature outcome=ok
      plugin venafi-csp outcome=ok
    wait for a seat
  plan
`},
		"POST /checkimages 406": {w.request(unsigned), 406, `
POST /checkimages code=NoSignature verified=false
  decide verified=false
  image outcome=NoSignature
    lookup list outcome=ok
    lookup resolution outcome=ok
    wait for a seat
  plan
`},
	}
	for _, c := range cases {
		response, err := http.Post(url+"/checkimages", "", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != c.status {
			t.Fatalf("answer %d %s", response.StatusCode, text)
		}
	}
	stop() // sends what is left

	trees := treesOf(sink.AllTraces())
	if len(trees) != len(cases) {
		t.Fatalf("%d traces: %v", len(trees), slices.Collect(maps.Keys(trees)))
	}
	for name, c := range cases {
		if got, want := trees[name], strings.TrimPrefix(c.want, "\n"); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
	for _, span := range spansOf(sink.AllTraces()) {
		name, attributes := span.Name(), span.Attributes().AsRaw()
		if strings.HasPrefix(name, "lookup") && attributes["server.address"] != w.registry.Host() {
			t.Errorf("%s names the registry %v", name, attributes["server.address"])
		}
		if text := fmt.Sprint(attributes); strings.Contains(text, "?") || strings.Contains(text, "access_token") || strings.Contains(text, "GPL") {
			t.Errorf("%s has the attributes %s", name, text)
		}
	}
}

// collect starts the collector's receiver of OTLP, and gives what it passes on.
func collect(t *testing.T) (*consumertest.TracesSink, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	factory, sink := otlpreceiver.NewFactory(), new(consumertest.TracesSink)
	config := factory.CreateDefaultConfig()
	given := confmap.NewFromStringMap(map[string]any{"protocols": map[string]any{"http": map[string]any{"endpoint": address}}})
	if err := given.Unmarshal(config); err != nil {
		t.Fatal(err)
	}
	receiver, err := factory.CreateTraces(t.Context(), receivertest.NewNopSettings(factory.Type()), config, sink)
	if err != nil {
		t.Fatal(err)
	}
	if err := receiver.Start(t.Context(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := receiver.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return sink, "http://" + address
}

// world is a registry with images, and trust in who signed them.
type world struct {
	registry  *registrytest.Registry
	scenario  *scenariotest.Scenario
	trustDir  string
	pluginDir string
	config    string // the plugin's configuration file
	ca        string // of the signing platform
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{registry: registrytest.New(registrytest.Options{}), trustDir: t.TempDir(), pluginDir: t.TempDir()}
	t.Cleanup(w.registry.Close)
	standin, err := plugintest.Build(t.Context(), t.TempDir())
	check(t, err)
	check(t, plugintest.Install(standin, w.pluginDir, "venafi-csp", ""))
	w.scenario, err = scenariotest.New(w.registry.Host(), w.registry.Client(), true)
	check(t, err)
	w.scenario.Platform, err = signingtest.NewPlatform()
	check(t, err)
	t.Cleanup(func() { _ = w.scenario.Platform.Close() })
	w.config, w.ca, err = w.scenario.Platform.Write(t.TempDir())
	check(t, err)
	check(t, w.scenario.WriteTrust(w.trustDir))
	return w
}

// serve starts the service; stop ends it.
func (w *world) serve(t *testing.T) (url string, stop func()) {
	t.Helper()
	settings, _, err := function.LoadSettings("test", []string{
		"--trustDir", w.trustDir, "--defaultTrustPolicy", scenariotest.PolicyName, "--pluginDir", w.pluginDir, "--pluginConfig", "config=" + w.config,
		"--allowLoopback", "--insecureRegistries", w.registry.Host(), "--drainDelay", "0s", "--dockerConfig", filepath.Join(t.TempDir(), "none.json"), "--plainAddress", "127.0.0.1:0",
	}, func(string) (string, bool) { return "", false }, nil)
	check(t, err)
	log := make(inspected, 1)
	service, err := function.New(settings, func(name string) (string, bool) {
		if name == "SSL_CERT_FILE" {
			return w.ca, true
		}
		return os.LookupEnv(name)
	}, slog.New(slog.NewTextHandler(log, nil)))
	check(t, err)
	listeners, err := service.Listen()
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	service.Start(ctx)
	served := make(chan error, 1)
	go func() { served <- service.Serve(ctx, listeners...) }()
	select { // its metadata is asked for once, by whoever comes first
	case <-log:
	case <-t.Context().Done():
	}
	return "http://" + listeners[0].Addr().String(), func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		service.Stop()
	}
}

// inspected is a log that signals when the plugin's metadata was read.
type inspected chan struct{}

// Write is part of io.Writer.
func (i inspected) Write(line []byte) (int, error) {
	if strings.Contains(string(line), "plugin found") {
		i <- struct{}{}
	}
	return len(line), nil
}

// signed pushes an image that is signed by way of the plugin, and carries a signed attestation.
func (w *world) signed(t *testing.T) string {
	t.Helper()
	image, err := w.scenario.PushSigned(t.Context(), "signed", w.scenario.Signer(), &signingtest.SignRequest{Plugin: signingtest.Venafi()})
	check(t, err)
	_, err = w.scenario.Attest(t.Context(), "signed", image, "application/vnd.cyclonedx+json", []byte(`{"components":[{"licenses":[{"expression":"MIT"}]}]}`), w.scenario.Signer())
	check(t, err)
	return w.scenario.Reference("signed")
}

func (w *world) unsigned(t *testing.T) string {
	t.Helper()
	_, err := w.scenario.PushSigned(t.Context(), "unsigned", nil, nil)
	check(t, err)
	return w.scenario.Reference("unsigned")
}

// request asks about a pod with an image, which must carry an attestation.
func (w *world) request(image string) string {
	return fmt.Sprintf(`{"attestations":[{"imageReference":"*","type":[{"name":"application/vnd.cyclonedx+json","conditions":{"all":[{"key":"{{ components[].licenses[].expression }}","operator":"AllNotIn","value":["GPL-3.0"]}]}}]}],"object":{"kind":"Pod","spec":{"containers":[{"name":"app","image":%q}]}}}`, image)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func spansOf(all []ptrace.Traces) (spans []ptrace.Span) {
	for _, traces := range all {
		for _, resource := range traces.ResourceSpans().All() {
			for _, scope := range resource.ScopeSpans().All() {
				for _, span := range scope.Spans().All() {
					spans = append(spans, span)
				}
			}
		}
	}
	return spans
}

// treesOf draws the traces: a span on each line, below its parent, with what came of it. They are named by their root and its
// status.
func treesOf(all []ptrace.Traces) map[string]string {
	children := map[string][]ptrace.Span{} // by the parent's ID
	for _, span := range spansOf(all) {
		children[span.ParentSpanID().String()] = append(children[span.ParentSpanID().String()], span)
	}
	var draw func(span ptrace.Span, depth int) string
	draw = func(span ptrace.Span, depth int) string {
		line := strings.Repeat("  ", depth) + span.Name()
		for _, key := range []string{"code", "outcome", "verified"} {
			if value, ok := span.Attributes().Get(key); ok {
				line += fmt.Sprintf(" %s=%s", key, value.AsString())
			}
		}
		var below []string
		for _, child := range children[span.SpanID().String()] {
			below = append(below, "\n"+draw(child, depth+1))
		}
		slices.Sort(below) // lookups are side by side, so their order is by chance
		line += strings.Join(below, "")
		return line
	}
	trees := map[string]string{}
	for _, root := range children[""] {
		status, _ := root.Attributes().Get("http.response.status_code")
		trees[root.Name()+" "+status.AsString()] = draw(root, 0) + "\n"
	}
	return trees
}
