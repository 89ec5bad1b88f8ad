package function_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// tarpit stalls requests for repositories tarpit-..., except for resolving their tags, until it is released.
func tarpit(released <-chan struct{}) registrytest.Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		before, after, found := strings.Cut(r.URL.Path, "/acme/tarpit-")
		if found && r.Method == http.MethodHead {
			_, rest, _ := strings.Cut(after, "/")
			r.URL.Path, found = before+"/acme/signed/"+rest, false
		}
		if !found {
			next.ServeHTTP(w, r)
			return
		}
		select {
		case <-released:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	}
}

// metric gives the value of a metric without labels.
func (b *bench) metric(t *testing.T, name string) int {
	t.Helper()
	for line := range strings.Lines(b.metrics(t)) {
		if value, found := strings.CutPrefix(line, "kyverno_notation_venafi_"+name+" "); found {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// stall has callers send requests for images of the tarpit to a path, in turn under each of the trust policies. It returns
// when each of them is being verified, waits or was refused. The callers give up when the test ends.
func (b *bench) stall(t *testing.T, path string, callers int, policies ...string) {
	t.Helper()
	ctx, leave := context.WithCancel(context.Background())
	var stalled sync.WaitGroup
	for i := range callers {
		body := fmt.Sprintf(`{"trustPolicy":%q,"object":{"kind":"Pod","spec":{"containers":[{"name":"c","image":"%s/acme/tarpit-%d:v1"}]}}}`, policies[i%len(policies)], b.registry.Host(), i)
		stalled.Go(func() {
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+path, strings.NewReader(body))
			if err != nil {
				return
			}
			if response, err := http.DefaultClient.Do(request); err == nil {
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
		})
	}
	t.Cleanup(func() { leave(); stalled.Wait() })
	err := eventually(func() error {
		if n := b.metric(t, "verifications") + b.metric(t, "verifications_waiting") + b.metric(t, "verifications_refused_total"); n < callers {
			return fmt.Errorf("%d of %d callers stand still", n, callers)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestStalledCallersLeaveSeatsToOtherPolicies has many callers stall under several trust policies, and expects that
// requests under another policy are answered.
func TestStalledCallersLeaveSeatsToOtherPolicies(t *testing.T) {
	const places = 6
	tests := map[string]struct {
		path     string
		policies int // trust policies of the stalled callers; -1 for two, beside many that do not exist
	}{
		"at /verify, under one name":                           {"/verify", 1},
		"at /verify, under two names":                          {"/verify", 2},
		"at /checkimages, under two names":                     {"/checkimages", 2},
		"at /verify, under all names but one":                  {"/verify", places - 1},
		"at /verify, under as many names as there are places":  {"/verify", places},
		"at /checkimages, under as many as there are places":   {"/checkimages", places},
		"at /verify, under names of which most do not exist":   {"/verify", -1},
		"at /verify, so many that more wait than there may be": {"/verify", 3},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			b := prepare(t, registrytest.Options{}, "")
			var policies []string
			for i := range cmp.Or(max(test.policies, 0), 2) {
				policies = append(policies, fmt.Sprintf("stalling-%d", i))
			}
			for _, name := range append([]string{"modest"}, policies...) {
				if err := os.WriteFile(filepath.Join(b.trustDir, name+".yaml"), []byte(scenariotest.TrustPolicy(name, "strict", "ca:acme")), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			b.serve(t, func(s *function.Settings) {
				s.MaxVerifications, s.MaxQueued, s.MaxRequests, s.RequestTimeout = places, 8, 128, 30*time.Second
			})
			reference, _ := b.publish(t, "signed")
			released := make(chan struct{})
			t.Cleanup(func() { close(released) })
			b.registry.SetFault(tarpit(released))
			if test.policies < 0 { // unknown trust policies are answered without a seat
				for i := range 200 {
					b.post(t, test.path, strings.Replace(pod(reference), "{", fmt.Sprintf(`{"trustPolicy":"absent-%d",`, i), 1))
				}
			}
			b.stall(t, test.path, 40, policies...)
			for _, path := range []string{"/checkimages", "/verify"} {
				answer := b.post(t, path, strings.Replace(pod(reference), "{", `{"trustPolicy":"modest",`, 1))
				if answer.status != http.StatusOK || !strings.Contains(answer.text, `"verified":true`) {
					t.Errorf("%s answers another trust policy %d %s", path, answer.status, answer.text)
				}
			}
		})
	}
}

// TestStalledCallersLeaveSeatsAtTheOtherPath fills the seats of one path, and expects that the other path answers.
func TestStalledCallersLeaveSeatsAtTheOtherPath(t *testing.T) {
	b := start(t, registrytest.Options{}, "", func(s *function.Settings) {
		s.MaxVerifications, s.MaxRequests, s.RequestTimeout = 64, 8, 30*time.Second
	})
	reference, _ := b.publish(t, "signed")
	released := make(chan struct{})
	t.Cleanup(func() { close(released) })
	b.registry.SetFault(tarpit(released))
	b.stall(t, "/verify", 6, scenariotest.PolicyName) // all seats that one trust policy may have
	if answer := b.post(t, "/verify", pod(reference)); answer.status != http.StatusServiceUnavailable {
		t.Errorf("there is room at /verify: %d %s", answer.status, answer.text)
	}
	if answer := b.post(t, "/checkimages", pod(reference)); answer.status != http.StatusOK {
		t.Errorf("answer %d %s", answer.status, answer.text)
	}
}

// TestStalledRegistriesLeaveSeatsToOthers stalls one registry, and expects answers about images of another one under the
// same trust policy.
func TestStalledRegistriesLeaveSeatsToOthers(t *testing.T) {
	b, other := prepare(t, registrytest.Options{}, ""), registrytest.New(registrytest.Options{})
	t.Cleanup(other.Close)
	b.serve(t, func(s *function.Settings) {
		s.MaxVerifications, s.RequestTimeout = 8, 5*time.Minute
		s.InsecureRegistries = append(s.InsecureRegistries, other.Host())
	})
	b.publish(t, "signed")
	released := make(chan struct{})
	t.Cleanup(func() { close(released) })
	b.registry.SetFault(tarpit(released))
	b.stall(t, "/verify", 40, scenariotest.PolicyName)
	stalled := b.metric(t, "verifications")
	b.scenario.Host = other.Host()
	reference, _ := b.publish(t, "unsigned")
	if answer := b.post(t, "/checkimages", pod(reference)); answer.status != http.StatusNotAcceptable {
		t.Errorf("answer %d %s", answer.status, answer.text)
	}
	if left := b.metric(t, "verifications"); left < stalled {
		t.Errorf("of %d that stalled %d are left: the answer waited for them", stalled, left)
	}
}

// TestStalledBodiesLeaveSeatsAtTheOtherPath sends half of many bodies, and expects that the other path answers and that the
// seats are free again soon.
func TestStalledBodiesLeaveSeatsAtTheOtherPath(t *testing.T) {
	large := `{"object":{"kind":"Pod","spec":{"containers":[{"name":"c","image":"x"}]}},"metadata":"` + strings.Repeat("x", 256<<10) + `"}`
	tests := map[string]struct {
		whole, sent string
		requests    int // --maxRequests
	}{
		"small bodies": {pod("x"), "{", 16},
		"large bodies": {large, large[:len(large)/2], 64},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			b := start(t, registrytest.Options{}, "", func(s *function.Settings) {
				s.MaxRequests, s.MaxBodyBytes, s.RequestTimeout = test.requests, len(large), 4*time.Second
			})
			b.service.SetBodyTimeout(5 * time.Second) // so that a slow machine sees them all before the first gives up
			for range 40 {
				connection, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { connection.Close() })
				if _, err := fmt.Fprintf(connection, "POST /verify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(test.whole), test.sent); err != nil {
					t.Fatal(err)
				}
			}
			busy := func(want bool) func() error {
				return func() error {
					if answer := b.post(t, "/verify", test.whole); (answer.status == http.StatusServiceUnavailable) != want {
						return fmt.Errorf("answer %d %s", answer.status, answer.text)
					}
					return nil
				}
			}
			if err := eventually(busy(true)); err != nil {
				t.Fatalf("the bodies take no places: %v", err)
			}
			if answer := b.post(t, "/checkimages", test.whole); answer.status == http.StatusServiceUnavailable {
				t.Errorf("answer %d %s", answer.status, answer.text)
			}
			if err := eventually(busy(false)); err != nil {
				t.Errorf("they stay: %v", err)
			}
		})
	}
}
