package function_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// scan sends a request of a background scan to /verify. The channel gets the answer, or the zero value if ctx ends first.
func (b *bench) scan(ctx context.Context, t *testing.T, body string) <-chan reply {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/verify", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Priority", "u=7")
	answered := make(chan reply, 1)
	go func() {
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			answered <- reply{}
			return
		}
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		answered <- reply{status: response.StatusCode, text: string(text), header: response.Header}
	}()
	return answered
}

// fresh pushes a signed image that nobody has asked about.
func (b *bench) fresh(t *testing.T, name string) (reference string) {
	t.Helper()
	if _, err := b.scenario.PushSigned(t.Context(), name, b.scenario.Signer(), &signingtest.SignRequest{}); err != nil {
		t.Fatal(err)
	}
	return b.scenario.Reference(name)
}

// requestsFor counts the registry's requests for a repository.
func (b *bench) requestsFor(name string) (n int) {
	for _, request := range b.registry.Requests() {
		if strings.Contains(request.Path, "/acme/"+name+"/") {
			n++
		}
	}
	return n
}

// TestBackgroundRequestsLeaveTheSeatsToAdmissions has 200 background requests ask about images of a registry that answers
// none of them, and expects that an admission is answered as if it was alone.
func TestBackgroundRequestsLeaveTheSeatsToAdmissions(t *testing.T) {
	const scans = 200
	b := start(t, registrytest.Options{}, "", func(s *function.Settings) {
		s.MaxVerifications, s.MaxRequests, s.RequestTimeout = 6, 8, time.Minute
	})
	alone, beside := b.fresh(t, "alone"), b.fresh(t, "beside")
	b.publish(t, "signed")
	b.registry.Reset()
	admit := func(image string) {
		t.Helper()
		if answer := b.post(t, "/checkimages", pod(image, b.scenario.Reference("signed"))); answer.status != http.StatusOK {
			t.Errorf("answer %d %s", answer.status, answer.text)
		}
	}
	admit(alone)
	released := make(chan struct{})
	b.registry.SetFault(tarpit(released))
	ctx, leave := context.WithCancel(t.Context())
	answers := make([]<-chan reply, scans)
	for i := range answers {
		answers[i] = b.scan(ctx, t, pod(fmt.Sprintf("%s/acme/tarpit-%d-a:v1", b.registry.Host(), i), fmt.Sprintf("%s/acme/tarpit-%d-b:v1", b.registry.Host(), i)))
	}
	standStill := func() error {
		answered, waiting, verified := b.metric(t, "background_requests"), b.metric(t, "background_requests_waiting"), b.metric(t, "verifications")
		if answered != 2 || waiting != scans-2 || verified != 2 {
			return fmt.Errorf("%d are answered, %d wait, %d images are verified; want 2, %d, 2", answered, waiting, verified, scans-2)
		}
		return nil
	}
	if err := eventually(standStill); err != nil {
		t.Fatal(err)
	}
	admit(beside)
	if alone, beside := b.requestsFor("alone"), b.requestsFor("beside"); alone == 0 || beside != alone {
		t.Errorf("%d registry requests for the admission, %d for one alone", beside, alone)
	}
	if err := standStill(); err != nil {
		t.Error(err)
	}
	leave()
	for _, answer := range answers {
		if got := <-answer; got.status != 0 {
			t.Errorf("a background request is answered %d %s", got.status, got.text)
		}
	}
	close(released)
}

// TestBackgroundRequestWaitsBehindAdmissions takes all seats for verifications, and expects that a background request waits
// for one, while an admission for the same image gets one of the reserve and does not wait for the background request.
func TestBackgroundRequestWaitsBehindAdmissions(t *testing.T) {
	b := prepare(t, registrytest.Options{}, "")
	policies := []string{"stalling-0", "stalling-1"}
	for _, name := range policies {
		if err := os.WriteFile(filepath.Join(b.trustDir, name+".yaml"), []byte(scenariotest.TrustPolicy(name, "strict", "ca:acme")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.serve(t, func(s *function.Settings) { s.MaxVerifications, s.RequestTimeout = 2, time.Minute })
	image, others := b.fresh(t, "both"), []string{b.fresh(t, "other-0"), b.fresh(t, "other-1")}
	b.publish(t, "signed")
	b.registry.Reset()
	released := make(chan struct{})
	resolved := make(chan struct{}, 1000)
	b.registry.SetFault(registrytest.Chain(tarpit(released), registrytest.Only(registrytest.PathContains("/both/"), func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(w, r)
		resolved <- struct{}{}
	})))
	b.stall(t, "/checkimages", 2, policies...)
	background := b.scan(t.Context(), t, pod(image))
	<-resolved // it has nothing left to do but to wait
	for _, image := range append([]string{image}, others...) {
		if answer := b.post(t, "/checkimages", pod(image)); answer.status != http.StatusOK {
			t.Errorf("an admission is answered %d %s", answer.status, answer.text)
		}
	}
	select {
	case answer := <-background:
		t.Errorf("the background request did not wait: %d %s", answer.status, answer.text)
	default:
	}
	close(released)
	if answer := <-background; answer.status != http.StatusOK || !strings.Contains(answer.text, `"verified":true`) {
		t.Errorf("the background request is answered %d %s", answer.status, answer.text)
	}
}

// TestScansVerifyEachImageOnce scans many pods of few images twice.
func TestScansVerifyEachImageOnce(t *testing.T) {
	const images, pods = 3, 30
	b := start(t, registrytest.Options{}, "", func(s *function.Settings) { s.RequestTimeout = time.Minute })
	var references []string
	for i := range images {
		references = append(references, b.fresh(t, fmt.Sprintf("running-%d", i)))
	}
	b.registry.Reset()
	for scan, want := range []int{images * 4, images * 4} { // HEAD, referrers, manifest and envelope of each
		var answers []<-chan reply
		for i := range pods {
			answers = append(answers, b.scan(t.Context(), t, pod(references[i%images])))
		}
		for _, answered := range answers {
			if answer := <-answered; answer.status != http.StatusOK || !strings.Contains(answer.text, `"verified":true`) {
				t.Errorf("answer %d %s", answer.status, answer.text)
			}
		}
		if n := len(b.registry.Requests()); n != want {
			t.Errorf("scan %d: %d registry requests; want %d", scan, n, want)
		}
	}
}
