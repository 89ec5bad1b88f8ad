package function_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/plugintest"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
)

// TestHandlerRefusesMalformedRequests expects a sentence that names the field.
func TestHandlerRefusesMalformedRequests(t *testing.T) {
	b := start(t, registrytest.Options{}, "", func(s *function.Settings) { s.MaxBodyBytes = 4096 })
	tests := map[string]struct {
		body   string
		status int
		says   string
	}{
		"no body":              {"", 400, "not a JSON object"},
		"not JSON":             {"hello", 400, "not a JSON object"},
		"JSON, but no object":  {"null", 400, "not a JSON object"},
		"neither of two forms": {"{}", 400, "images: is missing"},
		"an unknown field":     {`{"images":{},"attestation":[]}`, 400, "attestation: is not a field of the request"},
		"a wrong type":         {`{"images":{},"trustPolicy":7}`, 400, "trustPolicy"},
		"an unknown policy":    {strings.Replace(pod("x"), "{", `{"trustPolicy":"absent",`, 1), 406, `trust policy "absent" does not exist; known are: audit, demo`},
		"too large a body":     {`{"images":{},"trustPolicy":"` + strings.Repeat("x", 5000) + `"}`, 413, "over 4096 bytes"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			answer := b.post(t, "/checkimages", test.body)
			if answer.status != test.status || !strings.Contains(answer.text, test.says) {
				t.Errorf("answer %d %s\nwant %d, %q", answer.status, answer.text, test.status, test.says)
			}
			if strings.Contains(answer.text, "Go struct") || strings.Contains(answer.text, "core.") {
				t.Errorf("the answer speaks of Go: %s", answer.text)
			}
		})
	}
}

// TestHandlerAnswersProbesAndRefusesUnknownPaths answers health probes, and refuses methods and paths that the contract
// does not have.
func TestHandlerAnswersProbesAndRefusesUnknownPaths(t *testing.T) {
	b := start(t, registrytest.Options{}, "", nil)
	tests := map[string]struct {
		method, path string
		status       int
	}{
		"liveness":                 {"GET", "/health/liveness", 200},
		"readiness":                {"GET", "/health/readiness", 200},
		"a GET of /checkimages":    {"GET", "/checkimages", 405},
		"a path that is not there": {"POST", "/checkimage", 404},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), test.method, b.url+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != test.status {
				t.Errorf("status %d, want %d", response.StatusCode, test.status)
			}
		})
	}
}

// TestCheckImagesDeniesAsJSONOnRequest gives the verdict as JSON to callers that accept it.
func TestCheckImagesDeniesAsJSONOnRequest(t *testing.T) {
	b := start(t, registrytest.Options{}, "", nil)
	reference, _ := b.publish(t, "unsigned")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/checkimages", strings.NewReader(pod(reference)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var verdict core.Verdict
	if err := json.NewDecoder(response.Body).Decode(&verdict); err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusNotAcceptable || verdict.Verified || verdict.Results[0].Code != reason.NoSignature {
		t.Errorf("status %d, %+v", response.StatusCode, verdict)
	}
}

// TestCheckImagesNeedsATrustPolicy sends a request without a trust policy to a service without a default.
func TestCheckImagesNeedsATrustPolicy(t *testing.T) {
	b := start(t, registrytest.Options{}, "", func(s *function.Settings) { s.DefaultTrustPolicy = "" })
	answer := b.post(t, "/checkimages", pod("x"))
	if answer.status != http.StatusBadRequest || !strings.Contains(answer.text, "trustPolicy: is missing and the service has no default") {
		t.Errorf("answer %d %s", answer.status, answer.text)
	}
}

// TestCheckImagesAcceptsKyvernosImages sends Kyverno's {{images}} instead of the object.
func TestCheckImagesAcceptsKyvernosImages(t *testing.T) {
	b := start(t, registrytest.Options{}, "", nil)
	_, digest := b.publish(t, "signed")
	host := b.registry.Host()
	body := fmt.Sprintf(`{"images":{"initContainers":{"setup":{"registry":%[1]q,"name":"signed","path":"acme/signed","tag":"v1",
		"reference":"%[1]s/acme/signed:v1","referenceWithTag":"%[1]s/acme/signed:v1","jsonPointer":"/spec/template/spec/initContainers/0/image"}}}}`, host)
	answer := b.post(t, "/checkimages", body)
	want := fmt.Sprintf(`"path":"/spec/template/spec/initContainers/0/image","image":"%s/acme/signed@%s"`, host, digest)
	if answer.status != http.StatusOK || !strings.Contains(answer.text, want) {
		t.Errorf("answer %d %s\nwant %s", answer.status, answer.text, want)
	}
}

// TestCancelledRequestsEndTheirPlugin cancels a request while a plugin hangs, and expects its processes to end.
func TestCancelledRequestsEndTheirPlugin(t *testing.T) {
	b := start(t, registrytest.Options{}, "verify-signature:hang-child", func(s *function.Settings) {
		s.PluginTimeout, s.RequestTimeout = time.Minute, time.Minute
	})
	reference, _ := b.publish(t, "plugin-signed")
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/checkimages", strings.NewReader(pod(reference)))
	if err != nil {
		t.Fatal(err)
	}
	child := b.onChild(t)
	pids := make(chan []int, 1)
	go func() {
		defer cancel()
		pids <- []int{child(), b.lastProcess(t)}
	}()
	if response, err := http.DefaultClient.Do(request); !errors.Is(err, context.Canceled) {
		if err == nil {
			response.Body.Close()
		}
		t.Fatalf("error %v; want the cancellation", err)
	}
	for _, pid := range <-pids {
		if err := plugintest.Ended(pid, patience); err != nil {
			t.Error(err)
		}
	}
}

// onChild puts a named pipe where the plugin writes the process ID of its child. What it gives waits for that ID; 0 if the plugin
// starts no child.
func (b *bench) onChild(t *testing.T) (wait func() int) {
	t.Helper()
	path := filepath.Join(b.pluginDir, "venafi-csp", "child")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	pipe, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0) // for writing too, so that the plugin waits for no reader
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pipe.Close() })
	return func() (pid int) {
		if err := pipe.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Error(err)
		}
		text := make([]byte, 20)
		n, err := pipe.Read(text)
		if err == nil {
			pid, err = strconv.Atoi(string(text[:n]))
		}
		if err != nil {
			t.Errorf("the plugin starts no child: %v", err)
		}
		return pid
	}
}

// lastProcess gives the process ID of the plugin's last call.
func (b *bench) lastProcess(t *testing.T) int {
	t.Helper()
	calls, err := plugintest.Calls(b.pluginDir, "venafi-csp")
	if err != nil {
		t.Error(err)
		return 0
	}
	pid, err := strconv.Atoi(strings.Fields(calls[len(calls)-1])[1])
	if err != nil {
		t.Error(err)
	}
	return pid
}

// eventually polls a condition on a whole service, which sends no signal: it is seen by its metrics and answers only. The limit is
// far above what a slow machine takes, so that it tells nothing about time.
func eventually(holds func() error) error {
	var err error
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = holds(); err == nil {
			return nil
		}
	}
	return err
}

// TestDrainAnswersRequestsInFlight drains the service while a request waits for the registry.
func TestDrainAnswersRequestsInFlight(t *testing.T) {
	b := start(t, registrytest.Options{}, "", nil)
	reference, _ := b.publish(t, "signed")
	reached, release := b.hold(t, "/signed/")
	answered := make(chan reply, 1)
	go func() { answered <- b.post(t, "/checkimages", pod(reference)) }()
	wait(t, reached, "a registry request")
	b.service.Drain()
	if answer := b.post(t, "/health/readiness", ""); answer.status == http.StatusOK {
		t.Error("a draining service calls itself ready")
	}
	release()
	if answer := <-answered; answer.status != http.StatusOK {
		t.Errorf("answer %d %s", answer.status, answer.text)
	}
}

// TestLogHasOneLinePerRequest reads the log of an admission, a denial and a refused request.
func TestLogHasOneLinePerRequest(t *testing.T) {
	b := prepare(t, registrytest.Options{}, "")
	var log lockedBuffer
	b.log = slog.New(slog.NewJSONHandler(&log, nil))
	b.serve(t, nil)
	signed, digest := b.publish(t, "signed")
	unsigned, _ := b.publish(t, "unsigned")
	for _, body := range []string{pod(signed), pod(unsigned), "{}"} {
		b.post(t, "/checkimages", body)
	}
	var lines []map[string]any
	for _, text := range strings.Split(strings.TrimSpace(log.String()), "\n") {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if line["msg"] == "request" {
			lines = append(lines, line)
		}
	}
	if len(lines) != 3 {
		t.Fatalf("%d lines for 3 requests:\n%s", len(lines), log.String())
	}
	image := lines[0]["images"].([]any)[0].(map[string]any)
	if image["image"] != signed || image["digest"] != digest || image["code"] != "Verified" || lines[0]["status"] != 200.0 || lines[0]["durationMs"] == nil {
		t.Errorf("line %v", lines[0])
	}
	if lines[1]["status"] != 406.0 || lines[2]["status"] != 400.0 || lines[2]["error"] == nil {
		t.Errorf("lines %v and %v", lines[1], lines[2])
	}
}

// TestLogLineIsBoundedAndListsDenialsFirst holds that the log line of a large request lists denied images first, and counts
// those that it omits.
func TestLogLineIsBoundedAndListsDenialsFirst(t *testing.T) {
	b := prepare(t, registrytest.Options{}, "")
	var log lockedBuffer
	b.log = slog.New(slog.NewJSONHandler(&log, nil))
	b.serve(t, nil)
	containers := strings.Repeat(`{"image":"reg.example/`+strings.Repeat("a", 200)+`:v1"},`, 999) + `{"image":"denied.example/app:v1"}`
	b.post(t, "/checkimages", `{"trustPolicy":"absent","imageReferences":["denied.example/*"],"object":{"spec":{"containers":[`+containers+`]}}}`)
	_, text, _ := strings.Cut(log.String(), `"msg":"request"`)
	var line struct {
		Images          []struct{ Code reason.Code }
		ImagesNotLogged int
	}
	if err := json.Unmarshal([]byte(`{"msg":"request"`+text), &line); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if len(line.Images) != 20 || line.ImagesNotLogged != 980 || line.Images[0].Code != reason.TrustPolicyNotFound || len(text) > 32<<10 {
		t.Errorf("%d bytes, %d images, %d not logged, the first is %+v", len(text), len(line.Images), line.ImagesNotLogged, line.Images[0])
	}
}

// TestRegistryNamesAreCanonical verifies an image of one registry under other spellings of its name.
func TestRegistryNamesAreCanonical(t *testing.T) {
	b := start(t, registrytest.Options{}, "", nil)
	reference, digest := b.publish(t, "signed")
	for _, name := range []string{"127.0.0.1:0", "[::ffff:7f00:1]:", "[0:0:0:0:0:ffff:7f00:1]:00"} {
		other := strings.Replace(reference, "127.0.0.1:", name, 1)
		if got := b.verdict(t, pod(other)).Results[0]; got.Code != reason.Verified || got.Value != strings.TrimSuffix(reference, ":v1")+"@"+digest {
			t.Errorf("%s: %+v", other, got)
		}
	}
}

// lockedBuffer is a buffer that a logger writes to while a test reads.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends.
func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String gives what was written.
func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// TestTrustFilesAreReloaded changes, breaks and deletes trust files while the service runs.
func TestTrustFilesAreReloaded(t *testing.T) {
	b := prepare(t, registrytest.Options{}, "")
	var loaded <-chan struct{}
	b.log, loaded = onLog("trust loaded")
	b.serve(t, nil)
	reference, _ := b.publish(t, "signed")
	policy := filepath.Join(b.trustDir, "trustpolicy-demo.yaml")
	good, err := os.ReadFile(policy)
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		sentence string
		act      func() error
		want     reason.Code
	}{
		{"at first it is trusted", func() error { return nil }, reason.Verified},
		{"a level that does not exist breaks the policy", func() error {
			return os.WriteFile(policy, bytes.Replace(good, []byte("level: strict"), []byte("level: lax"), 1), 0o644)
		}, reason.TrustPolicyInvalid},
		{"restored, it is trusted again", func() error { return os.WriteFile(policy, good, 0o644) }, reason.Verified},
		{"a deleted store takes its trust away", func() error {
			return os.Rename(filepath.Join(b.trustDir, "truststore-acme.yaml"), filepath.Join(b.trustDir, "acme.off"))
		}, reason.TrustStoreUnavailable},
		{"restored, it trusts again", func() error {
			return os.Rename(filepath.Join(b.trustDir, "acme.off"), filepath.Join(b.trustDir, "truststore-acme.yaml"))
		}, reason.Verified},
		{"a broken file beside it does not matter", func() error {
			return os.WriteFile(filepath.Join(b.trustDir, "broken.yaml"), []byte("{ not: [yaml"), 0o644)
		}, reason.Verified},
		{"a deleted policy is unknown", func() error { return os.Remove(policy) }, reason.TrustPolicyNotFound},
	}
	for _, step := range steps {
		if err := step.act(); err != nil {
			t.Fatal(err)
		}
		wait(t, loaded, step.sentence)
		for got := b.verdict(t, pod(reference)).Results[0]; got.Code != step.want; got = b.verdict(t, pod(reference)).Results[0] {
			wait(t, loaded, fmt.Sprintf("%s: code %s, want %s: %s", step.sentence, got.Code, step.want, got.Reason)) // a file may be read half written
		}
	}
}
