package function_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// TestConcurrentRequestsShareOneVerification counts the lookups of 100 requests at once for one cold image.
func TestConcurrentRequestsShareOneVerification(t *testing.T) {
	b := start(t, registrytest.Options{}, "", nil)
	reference, _ := b.publish(t, "plugin-signed")
	b.registry.Reset()
	before := b.processes(t)
	var callers sync.WaitGroup
	for range 100 {
		callers.Go(func() {
			if answer := b.post(t, "/checkimages", pod(reference)); answer.status != http.StatusOK {
				t.Errorf("answer %d %s", answer.status, answer.text)
			}
		})
	}
	callers.Wait()
	if asked, processes := len(b.registry.Requests()), b.processes(t)-before; asked != 4 || processes != 1 {
		t.Errorf("%d registry requests and %d plugin processes; want 4 and 1", asked, processes)
	}
}

// hold has registry requests whose path contains part wait until release is called. reached signals each of them.
func (b *bench) hold(t *testing.T, part string) (reached <-chan struct{}, release func()) {
	t.Helper()
	arrived, open := make(chan struct{}, 1000), make(chan struct{})
	var once sync.Once
	release = func() { once.Do(func() { close(open) }) }
	t.Cleanup(release)
	b.registry.SetFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, part) {
			arrived <- struct{}{}
			<-open
		}
		next.ServeHTTP(w, r)
	})
	return arrived, release
}

// TestExcessLoadIsRefusedAtOnce refuses cold images over the bound when none may wait, and still answers from the cache.
func TestExcessLoadIsRefusedAtOnce(t *testing.T) {
	b := start(t, registrytest.Options{}, "", func(s *function.Settings) { s.MaxVerifications, s.MaxQueued = 1, 0 })
	cached, _ := b.publish(t, "signed")
	cold, _ := b.publish(t, "plugin-signed")
	other, _ := b.publish(t, "unsigned")
	if answer := b.post(t, "/checkimages", pod(cached)); answer.status != http.StatusOK {
		t.Fatalf("answer %d %s", answer.status, answer.text)
	}
	reached, release := b.hold(t, "/plugin-signed/blobs/")
	first := make(chan reply, 1)
	go func() { first <- b.post(t, "/checkimages", pod(cold)) }()
	<-reached
	if answer := b.post(t, "/checkimages", pod(other)); answer.status != http.StatusServiceUnavailable || answer.header.Get("Retry-After") == "" || !strings.Contains(answer.text, "too many images") {
		t.Errorf("over the bound: %d %s, Retry-After %q", answer.status, answer.text, answer.header.Get("Retry-After"))
	}
	if answer := b.post(t, "/checkimages", pod(cached)); answer.status != http.StatusOK {
		t.Errorf("what is kept: %d %s", answer.status, answer.text)
	}
	if text := b.metrics(t); !strings.Contains(text, "kyverno_notation_venafi_verifications_refused_total 1\n") ||
		!strings.Contains(text, `kyverno_notation_venafi_cache_lookups_total{kind="outcome",result="hit"} 1`) {
		t.Errorf("metrics:\n%s", text)
	}
	release()
	if answer := <-first; answer.status != http.StatusOK {
		t.Errorf("the one before: %d %s", answer.status, answer.text)
	}
}

// metrics gets the metrics of the service.
func (b *bench) metrics(t *testing.T) string {
	t.Helper()
	response, err := http.Get(b.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestMaxRequestsIsEnforced refuses a request over --maxRequests.
func TestMaxRequestsIsEnforced(t *testing.T) {
	b := start(t, registrytest.Options{}, "", func(s *function.Settings) { s.MaxRequests = 1 })
	held, _ := b.publish(t, "signed")
	reached, release := b.hold(t, "/signed/blobs/")
	first := make(chan reply, 1)
	go func() { first <- b.post(t, "/checkimages", pod(held)) }()
	<-reached
	if answer := b.post(t, "/checkimages", pod(held)); answer.status != http.StatusServiceUnavailable || answer.header.Get("Retry-After") == "" {
		t.Errorf("over the bound: %d %s", answer.status, answer.text)
	}
	release()
	if answer := <-first; answer.status != http.StatusOK {
		t.Errorf("the one before: %d %s", answer.status, answer.text)
	}
}

// TestBurstOfOnePolicyLeavesSeatsToOthers sends a burst under one trust policy, and expects that another one is answered.
func TestBurstOfOnePolicyLeavesSeatsToOthers(t *testing.T) {
	b := prepare(t, registrytest.Options{}, "")
	if err := os.WriteFile(b.trustDir+"/quiet.yaml", []byte(scenariotest.TrustPolicy("quiet", "strict", "ca:acme")), 0o600); err != nil {
		t.Fatal(err)
	}
	b.serve(t, func(s *function.Settings) { s.MaxVerifications, s.MaxQueued = 4, 100 })
	var burst sync.WaitGroup
	for i := range 20 {
		name := fmt.Sprintf("burst-%d", i)
		if _, err := b.scenario.PushSigned(t.Context(), name, b.scenario.Signer(), &signingtest.SignRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	quiet, _ := b.publish(t, "signed")
	reached, release := b.hold(t, "/burst-")
	for i := range 20 {
		burst.Go(func() { b.post(t, "/checkimages", pod(b.scenario.Reference(fmt.Sprintf("burst-%d", i)))) })
	}
	for range 3 {
		<-reached
	}
	body := strings.Replace(pod(quiet), "{", `{"trustPolicy":"quiet",`, 1)
	if answer := b.post(t, "/checkimages", body); answer.status != http.StatusOK {
		t.Errorf("the quiet one: %d %s", answer.status, answer.text)
	}
	release()
	burst.Wait()
}

// TestPrewarmVerifiesAgainAfterATrustChange changes the trust policy, and expects that the image is in the cache before the
// next request.
func TestPrewarmVerifiesAgainAfterATrustChange(t *testing.T) {
	b := prepare(t, registrytest.Options{}, "")
	b.serve(t, func(s *function.Settings) { s.Prewarm = 10 })
	reference, _ := b.publish(t, "signed")
	if answer := b.post(t, "/checkimages", pod(reference)); answer.status != http.StatusOK {
		t.Fatalf("answer %d %s", answer.status, answer.text)
	}
	fetched := make(chan struct{}, 1000)
	b.registry.SetFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(w, r)
		if strings.Contains(r.URL.Path, "/blobs/") { // the last request of a verification
			fetched <- struct{}{}
		}
	})
	changed := strings.Replace(scenariotest.TrustPolicy(scenariotest.PolicyName, "strict", "ca:acme"), "strict", "permissive", 1)
	if err := os.WriteFile(b.trustDir+"/trustpolicy-demo.yaml", []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	wait(t, fetched, "a verification after the change")
	b.registry.Reset()
	if answer := b.post(t, "/checkimages", pod(reference)); answer.status != http.StatusOK { // it may wait for the end of that verification
		t.Fatalf("answer %d %s", answer.status, answer.text)
	}
	if asked := len(b.registry.Requests()); asked != 0 {
		t.Errorf("%d registry requests after prewarming", asked)
	}
}

// TestMaxBodyBytesIsEnforced reads bodies up to the bound, and refuses those over it.
func TestMaxBodyBytesIsEnforced(t *testing.T) {
	b := start(t, registrytest.Options{}, "", nil)
	reference, _ := b.publish(t, "signed")
	const bound = 4 << 20
	padded := func(size int) string {
		body := pod(reference)
		return body + strings.Repeat(" ", size-len(body))
	}
	for size, want := range map[int]int{64 << 10: 200, 64<<10 + 1: 200, bound: 200, bound + 1: 413, 3 * bound: 413} {
		if answer := b.post(t, "/checkimages", padded(size)); answer.status != want {
			t.Errorf("%d bytes: %d %s; want %d", size, answer.status, answer.text, want)
		}
	}
}

// TestThousandContainersAreAnswered answers a pod of 1000 containers, with one image or with 1000, and refuses one of 1001.
func TestThousandContainersAreAnswered(t *testing.T) {
	b := start(t, registrytest.Options{}, "", func(s *function.Settings) { s.RequestTimeout = 2 * time.Second })
	const n = 1000
	reference, _ := b.publish(t, "signed")
	few, many := make([]string, n), make([]string, n)
	for i := range n {
		few[i], many[i] = reference, b.scenario.Reference(fmt.Sprintf("absent-%d", i))
	}
	if verdict := b.verdict(t, pod(few...)); !verdict.Verified || len(verdict.Results) != n {
		t.Errorf("one image: verified %t, %d results", verdict.Verified, len(verdict.Results))
	}
	if verdict := b.verdict(t, pod(many...)); verdict.Verified || len(verdict.Results) != n {
		t.Errorf("as many images: verified %t, %d results", verdict.Verified, len(verdict.Results))
	}
	if answer := b.post(t, "/checkimages", pod(append(few, reference)...)); answer.status != http.StatusBadRequest {
		t.Errorf("one more: %d %s", answer.status, answer.text)
	}
}

// TestSlowClientsAreDisconnected holds that slow clients do not hold up others, and are disconnected in the end.
func TestSlowClientsAreDisconnected(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the server's own deadlines")
	}
	b := start(t, registrytest.Options{}, "", nil)
	reference, _ := b.publish(t, "signed")
	var slow []net.Conn
	for i := range 200 {
		connection, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		begun := "POST /checkimages HTTP/1.1\r\nHost: x\r\n"
		if i%2 == 0 {
			begun += "Content-Length: 4000000\r\n\r\n{" // the rest is never sent
		}
		if _, err := connection.Write([]byte(begun)); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, connection)
	}
	if answer := b.post(t, "/checkimages", pod(reference)); answer.status != http.StatusOK {
		t.Errorf("answer %d %s", answer.status, answer.text)
	}
	for _, connection := range slow {
		_ = connection.SetReadDeadline(time.Now().Add(30 * time.Second))
		for buffer := make([]byte, 4096); ; {
			_, err := connection.Read(buffer)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("a slow client is still connected")
			}
			if err != nil {
				break
			}
		}
	}
}

// TestFullDiskLosesOnlyTheLog writes the log to a full disk.
func TestFullDiskLosesOnlyTheLog(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("there is no /dev/full here")
	}
	defer full.Close()
	b := prepare(t, registrytest.Options{}, "")
	b.log = slog.New(slog.NewJSONHandler(full, nil))
	t.Setenv("TMPDIR", "/nowhere")
	b.serve(t, nil)
	for name, want := range map[string]int{"plugin-signed": 200, "unsigned": 406} {
		reference, _ := b.publish(t, name)
		if answer := b.post(t, "/checkimages", pod(reference)); answer.status != want {
			t.Errorf("%s: %d %s", name, answer.status, answer.text)
		}
	}
}

// TestOutOfFileDescriptorsIsAFailure expects a failure, neither a denial nor an admission, and an admission once files can
// be opened again.
func TestOutOfFileDescriptorsIsAFailure(t *testing.T) {
	b := start(t, registrytest.Options{}, "", cold)
	reference, _ := b.publish(t, "plugin-signed")
	ask := func(want int) {
		t.Helper()
		if answer := b.post(t, "/checkimages", pod(reference)); answer.status != want {
			t.Errorf("answer %d %s; want %d", answer.status, answer.text, want)
		}
	}
	ask(http.StatusOK) // over a connection that stays
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("there is no /proc here")
	}
	none := before
	none.Cur = uint64(len(entries)) - 1 // the directory was one of them
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	ask(http.StatusBadGateway)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	ask(http.StatusOK)
	after, err := os.ReadDir("/proc/self/fd")
	if err != nil || len(after) > len(entries)+4 {
		t.Errorf("%d files are open; before there were %d (%v)", len(after), len(entries), err)
	}
}
