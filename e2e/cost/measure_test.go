//go:build e2e

package cost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

const (
	settleTime  = time.Minute      // until Kyverno and the API server go by the policies of a way
	requestTime = 30 * time.Second // one request to the API server
	answerLimit = 64 << 20         // bytes read of an answer; metrics are the longest
	profileHost = "127.0.0.1"
	profilePort = "16060"
)

// phase is what was measured of one kind of admissions, in all turns.
type phase struct {
	waits    []time.Duration // of the caller, one by one
	together int             // admissions that were made several at once
	within   time.Duration   // the time that those took

	admissions, requests, webhooks int              // of both: admissions, registry requests, calls of webhooks
	webhookTime                    time.Duration    // what the API server waited for webhooks, one by one
	processors                     [3]time.Duration // processor time of API server, Kyverno and service for all admissions
}

// client creates pods at the API server without storing them, over one connection that is kept.
type client struct {
	http *http.Client
	host string
}

func newClient(fx *fixture.Fixture) (*client, error) {
	config, err := clientcmd.BuildConfigFromFlags("", fx.Bed.Kubeconfig())
	if err != nil {
		return nil, err
	}
	config.Timeout = requestTime
	kept, err := rest.HTTPClientFor(config)
	return &client{kept, config.Host}, err
}

func (c *client) do(method, path string, body []byte) (int, []byte, error) {
	request, err := http.NewRequest(method, c.host+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, answerLimit))
	return response.StatusCode, text, err
}

// What becomes of an image, beside being pinned to a digest.
const (
	unchanged = "unchanged"
	denied    = "denied"
)

// create asks for a pod with an image in its only container. want is the digest to which it is to be pinned, or one of the above.
func (c *client) create(image, want string) error {
	body := fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"cost","namespace":"team-a"},"spec":{"containers":[{"name":"app","image":%q}]}}`, image)
	status, text, err := c.do(http.MethodPost, "/api/v1/namespaces/team-a/pods?dryRun=All", body)
	has := func(image string) bool { return bytes.Contains(text, fmt.Appendf(nil, `"image":%q`, image)) }
	got := ""
	switch {
	case err != nil:
		return err
	case status == http.StatusBadRequest || status == http.StatusForbidden:
		got = denied
	case status == http.StatusCreated && has(image):
		got = unchanged
	case status == http.StatusCreated && (has(strings.TrimSuffix(image, ":v1")+"@"+want) || has(image+"@"+want)): // Kyverno's own keeps the tag
		got = want
	}
	if got != want {
		return fmt.Errorf("%d %s; want %s", status, text, want)
	}
	return nil
}

// webhookMetric is the API server's histogram of how long webhooks took.
var webhookMetric = regexp.MustCompile(`(?m)^apiserver_admission_webhook_admission_duration_seconds_(sum|count)\{.*operation="CREATE".*\} (\S+)$`)

// webhooks gives how often the API server called webhooks for objects that were created, and how long it waited for them.
func (c *client) webhooks() (calls int, wait time.Duration, err error) {
	status, text, err := c.do(http.MethodGet, "/metrics", nil)
	if err != nil || status != http.StatusOK {
		return 0, 0, fmt.Errorf("metrics: %d, %w", status, err)
	}
	for _, match := range webhookMetric.FindAllSubmatch(text, -1) {
		value, err := strconv.ParseFloat(string(match[2]), 64)
		if err != nil {
			return 0, 0, err
		}
		if string(match[1]) == "count" {
			calls += int(value)
		} else {
			wait += time.Duration(value * float64(time.Second))
		}
	}
	return calls, wait, nil
}

// measure installs a way, measures it and takes it away again.
func (w *way) measure(t *testing.T, c *client, turn int) {
	if err := c.settle(t, "no policy", 0); err != nil {
		t.Fatal(err)
	}
	if w.policies != nil {
		shared.Apply(t, strings.Join(w.policies(t), "\n---\n"))
	}
	if err := c.settle(t, w.name, w.webhooks); err != nil {
		t.Fatal(err)
	}
	image, want := shared.Reference("signed-ecdsa"), unchanged
	if w.verifies {
		_, want, _ = strings.Cut(shared.Pinned(t, "signed-ecdsa"), "@")
		err := deployment.Eventually(t.Context(), settleTime, func() error {
			return errors.Join(c.create(image, want), c.create(shared.Reference("unsigned"), denied))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	admit := func(int) error { return c.create(image, want) }
	if err := together(*samples, admit); err != nil { // fills caches and opens connections
		t.Fatal(err)
	}
	if err := w.cached.measure(c, *samples, admit); err != nil {
		t.Fatal(err)
	}
	if w.verifies {
		w.measureUncached(t, c, turn)
	}
	if *profile != "" {
		w.takeProfile(t, admit)
	}
}

// settle waits until an admission makes as many calls of webhooks as it should.
func (c *client) settle(t *testing.T, name string, webhooks int) error {
	t.Helper()
	return deployment.Eventually(t.Context(), settleTime, func() error {
		before, _, err := c.webhooks()
		if err != nil {
			return err
		}
		_ = c.create(shared.Reference("signed-ecdsa"), unchanged) // whatever becomes of it
		after, _, err := c.webhooks()
		if err == nil && after-before != webhooks {
			err = fmt.Errorf("%s: an admission makes %d calls of webhooks; want %d", name, after-before, webhooks)
		}
		return err
	})
}

// measureUncached admits images that nothing knows yet, each signed for itself.
func (w *way) measureUncached(t *testing.T, c *client, turn int) {
	references, digests := make([]string, 2*max(*samples/4, parallel)), make([]string, 2*max(*samples/4, parallel))
	for i := range references {
		name := fmt.Sprintf("%s-%d-%d", regexp.MustCompile(`[^a-z]+`).ReplaceAllString(strings.ToLower(w.name), "-"), turn, i)
		image, err := shared.Scenario.PushSigned(t.Context(), name, shared.Scenario.Signer(), &signingtest.SignRequest{})
		if err != nil {
			t.Fatal(err)
		}
		references[i], digests[i] = shared.Reference(name), image.Digest.String()
	}
	if err := w.uncached.measure(c, len(references)/2, func(i int) error { return c.create(references[i], digests[i]) }); err != nil {
		t.Fatal(err)
	}
}

// measure admits count objects one by one, and as many several at once.
func (p *phase) measure(c *client, count int, admit func(i int) error) error {
	shared.Registry.Reset()
	calls, wait, err := c.webhooks()
	if err != nil {
		return err
	}
	before := processorTimes()
	for i := range count {
		began := time.Now()
		if err := admit(i); err != nil {
			return err
		}
		p.waits = append(p.waits, time.Since(began))
	}
	_, waited, err := c.webhooks()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := together(count, func(i int) error { return admit(count + i) }); err != nil {
		return err
	}
	p.within += time.Since(began)
	for i, after := range processorTimes() {
		p.processors[i] += after - before[i]
	}
	called, _, err := c.webhooks()
	p.together += count
	p.admissions += 2 * count
	p.requests += len(shared.Registry.Requests())
	p.webhooks += called - calls
	p.webhookTime += waited - wait
	return err
}

// processorTimes are those of API server, Kyverno and service so far.
func processorTimes() [3]time.Duration {
	times := [3]time.Duration{2: processorTime(shared.Replicas[0].PID)}
	for _, process := range shared.Bed.Processes() {
		if i := slices.Index([]string{bed.APIServer, bed.Kyverno}, process.Name); i >= 0 {
			times[i] = processorTime(process.PID)
		}
	}
	return times
}

// processorTime is what a process has used so far; see proc_pid_stat(5).
func processorTime(pid int) time.Duration {
	const tick = 10 * time.Millisecond // USER_HZ is 100 wherever Go runs on Linux
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields, sum := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])), time.Duration(0)
	for _, field := range fields[min(11, len(fields)):min(13, len(fields))] {
		ticks, _ := strconv.Atoi(field) // a process that is gone has none
		sum += time.Duration(ticks) * tick
	}
	return sum
}

// together calls admit for 0 to count-1, several at once, and gives the first error.
func together(count int, admit func(i int) error) error {
	var next atomic.Int64
	failed, all := make(chan error, parallel), sync.WaitGroup{}
	for range parallel {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				if err := admit(i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	all.Wait()
	close(failed)
	return <-failed
}

// takeProfile writes where Kyverno spends its time while several are admitted at once.
func (w *way) takeProfile(t *testing.T, admit func(i int) error) {
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	load.Go(func() {
		for ctx.Err() == nil {
			if err := together(parallel, admit); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer load.Wait()
	defer cancel()
	response, err := http.Get("http://" + profileHost + ":" + profilePort + "/debug/pprof/profile?seconds=15")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil {
		err = os.WriteFile(filepath.Join(*profile, strings.ReplaceAll(w.name, " ", "-")+".pprof"), text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (p phase) mean() float64 {
	sum := time.Duration(0)
	for _, wait := range p.waits {
		sum += wait
	}
	return milliseconds(sum) / float64(len(p.waits))
}

func (p phase) quantile(q float64) float64 {
	sorted := slices.Sorted(slices.Values(p.waits))
	return milliseconds(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)])
}

// perAdmission gives the processor times of one admission.
func (p phase) perAdmission() string {
	var times [3]string
	for i, time := range p.processors {
		times[i] = fmt.Sprintf("%.2f", milliseconds(time)/float64(p.admissions))
	}
	return strings.Join(times[:], ", ")
}

func (p phase) rate() float64 { return float64(p.together) / p.within.Seconds() }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// checkCounts checks what does not depend on the machine.
func (w way) checkCounts(t *testing.T) {
	if got := w.cached.webhooks; got != w.webhooks*w.cached.admissions {
		t.Errorf("%s: %d calls of webhooks for %d admissions; want %d each", w.name, got, w.cached.admissions, w.webhooks)
	}
	if !w.ours() {
		return
	}
	if w.cached.requests > w.cached.admissions/5 { // the tag is looked up again after 10 s
		t.Errorf("%s: %d registry requests for %d admissions of a cached image", w.name, w.cached.requests, w.cached.admissions)
	}
	if w.uncached.requests != 4*w.uncached.admissions {
		t.Errorf("%s: %d registry requests for %d admissions of uncached images; want 4 each", w.name, w.uncached.requests, w.uncached.admissions)
	}
}

// checkAhead checks that a way of ours is ahead of one of Kyverno's own in every figure.
func (w way) checkAhead(t *testing.T, peer way) {
	for figure, values := range map[string][2]float64{
		"mean ms, cached":                {w.cached.mean(), peer.cached.mean()},
		"p50 ms, cached":                 {w.cached.quantile(0.5), peer.cached.quantile(0.5)},
		"p99 ms, cached":                 {w.cached.quantile(0.99), peer.cached.quantile(0.99)},
		"s per admission of 8, cached":   {1 / w.cached.rate(), 1 / peer.cached.rate()},
		"p50 ms, uncached":               {w.uncached.quantile(0.5), peer.uncached.quantile(0.5)},
		"s per admission of 8, uncached": {1 / w.uncached.rate(), 1 / peer.uncached.rate()},
	} {
		if values[0] >= values[1] {
			t.Errorf("%s: %s is %.4g, that of %s %.4g", w.name, figure, values[0], peer.name, values[1])
		}
	}
}

// table prints the figures as Markdown.
func table(ways []way) string {
	text := &strings.Builder{}
	columns := []string{"way", "webhooks, mean ms", "mean ms", "p50 ms", "p99 ms", fmt.Sprintf("%d at once, per second", parallel), "registry requests",
		"uncached, p50 ms", fmt.Sprintf("uncached, %d at once, per second", parallel), "registry requests", "processor ms: API server, Kyverno, service"}
	fmt.Fprintf(text, "| %s |\n%s|\n", strings.Join(columns, " | "), strings.Repeat("|---", len(columns)))
	for _, w := range ways {
		c, uncached := w.cached, "- | - | -"
		if u := w.uncached; u.admissions > 0 {
			uncached = fmt.Sprintf("%.2f | %.0f | %.1f", u.quantile(0.5), u.rate(), float64(u.requests)/float64(u.admissions))
		}
		fmt.Fprintf(text, "| %s | %.2f | %.2f | %.2f | %.2f | %.0f | %.1f | %s | %s |\n", w.name, milliseconds(c.webhookTime)/float64(len(c.waits)), c.mean(), c.quantile(0.5),
			c.quantile(0.99), c.rate(), float64(c.requests)/float64(c.admissions), uncached, c.perAdmission())
	}
	return text.String()
}
