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

// client creates pods at the API server without storing them, over one connection that is kept.
type client struct {
	http  *http.Client
	host  string
	known func(i int) error // creates a pod of one of the images that all ways know
}

func newClient(fx *fixture.Fixture) (*client, error) {
	config, err := clientcmd.BuildConfigFromFlags("", fx.Bed.Kubeconfig())
	if err != nil {
		return nil, err
	}
	config.Timeout = requestTime
	connection, err := rest.HTTPClientFor(config)
	return &client{http: connection, host: config.Host}, err
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

// What pods have with -fields, about 4 kB.
var (
	containerFields = `,"env":[` + list(20, `{"name":"VARIABLE_%d","value":"a value as long as that of an address"}`) + `],"args":[` + list(8, `"--argument-%d=value"`) + `],
		"resources":{"requests":{"cpu":"100m","memory":"128Mi"},"limits":{"memory":"256Mi"}},"ports":[{"name":"http","containerPort":8080}],
		"livenessProbe":{"httpGet":{"path":"/live","port":8080},"periodSeconds":10},"readinessProbe":{"httpGet":{"path":"/ready","port":8080},"periodSeconds":10},
		"securityContext":{"runAsNonRoot":true,"readOnlyRootFilesystem":true,"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}},
		"volumeMounts":[` + list(6, `{"name":"volume-%[1]d","mountPath":"/volumes/%[1]d","readOnly":true}`) + `]`
	podFields = `,"volumes":[` + list(6, `{"name":"volume-%d","configMap":{"name":"settings","items":[{"key":"a","path":"a"}]}}`) + `],
		"tolerations":[` + list(3, `{"key":"key-%d","operator":"Exists","effect":"NoSchedule"}`) + `],
		"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"ScheduleAnyway","labelSelector":{"matchLabels":{"app":"cost"}}}]`
)

// list writes numbered elements.
func list(n int, element string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(element, i)
	}
	return strings.Join(all, ",")
}

// create asks for a pod with an image in its only container. want is the digest to which it is to be pinned, or one of the above.
func (c *client) create(image, want string) error {
	container, pod := "", ""
	if *fields {
		container, pod = containerFields, podFields
	}
	body := fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"cost","namespace":"team-a"},"spec":{"containers":[{"name":"app","image":%q%s}]%s}}`, image, container, pod)
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

// kind is a kind of images to admit.
type kind int

const (
	kept     kind = iota // one image, admitted all the time
	known                // images in turn that were admitted before
	uncached             // images that nothing knows yet
	kinds
)

func (k kind) String() string { return [kinds]string{"kept", "known", "uncached"}[k] }

// measure installs a way, measures it with images of a kind, and takes it away again.
func (w *way) measure(t *testing.T, c *client, images kind, turn int) {
	image, want := shared.Reference("signed-ecdsa"), unchanged
	if err := c.settle("no policy", image, 0); err != nil {
		t.Fatal(err)
	}
	if w.policies != nil {
		shared.Apply(t, strings.Join(w.policies(t), "\n---\n"))
	}
	if w.verifies {
		_, want, _ = strings.Cut(shared.Pinned(t, "signed-ecdsa"), "@")
		err := deployment.Eventually(t.Context(), settleTime, func() error {
			return errors.Join(c.create(image, want), c.create(shared.Reference("unsigned"), denied))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if w.pinned {
		image, want = shared.Pinned(t, "signed-ecdsa"), unchanged
	}
	if err := c.settle(w.name, image, w.webhooks); err != nil {
		t.Fatal(err)
	}
	count, admit := *samples, func(int) error { return c.create(image, want) }
	if err := together(count, admit); err != nil { // fills caches and opens connections
		t.Fatal(err)
	}
	switch images {
	case known:
		if err := together(count, c.known); err != nil {
			t.Fatal(err)
		}
		admit = func(i int) error { return c.known(i % count) }
	case uncached:
		count = max(*samples/4, parallel)
		name := regexp.MustCompile(`[^a-z]+`).ReplaceAllString(strings.ToLower(w.name), "-")
		admit = c.createAll(t, fmt.Sprintf("%s-%d", name, turn), 2*count)
	}
	w.measured[images] = append(w.measured[images], measure(t, c, count, admit))
	if images == kept && *profile != "" {
		w.takeProfiles(t, c, admit)
	}
}

// settle waits until an admission makes as many calls of webhooks as it should.
func (c *client) settle(name, image string, webhooks int) error {
	return deployment.Eventually(context.Background(), settleTime, func() error {
		before, _, err := c.webhooks()
		if err != nil {
			return err
		}
		_ = c.create(image, unchanged) // whatever becomes of it
		after, _, err := c.webhooks()
		if err == nil && after-before != webhooks {
			err = fmt.Errorf("%s: an admission makes %d calls of webhooks; want %d", name, after-before, webhooks)
		}
		return err
	})
}

// createAll pushes images, each signed for itself, and gives what creates a pod of each.
func (c *client) createAll(t *testing.T, name string, count int) func(i int) error {
	references, digests := make([]string, count), make([]string, count)
	for i := range references {
		name := fmt.Sprintf("%s-%d", name, i)
		image, err := shared.Scenario.PushSigned(t.Context(), name, shared.Scenario.Signer(), &signingtest.SignRequest{})
		if err != nil {
			t.Fatal(err)
		}
		references[i], digests[i] = shared.Reference(name), image.Digest.String()
	}
	return func(i int) error { return c.create(references[i], digests[i]) }
}

// measure admits count objects one by one, and as many several at once.
func measure(t *testing.T, c *client, count int, admit func(i int) error) phase {
	t.Helper()
	p := phase{together: count, admissions: 2 * count, requests: map[string]int{}}
	webhooks := func() (int, time.Duration) {
		calls, wait, err := c.webhooks()
		if err != nil {
			t.Fatal(err)
		}
		return calls, wait
	}
	shared.Registry.Reset()
	calls, wait := webhooks()
	before := processorTimes()
	for i := range count {
		began := time.Now()
		if err := admit(i); err != nil {
			t.Fatal(err)
		}
		p.waits = append(p.waits, time.Since(began))
	}
	_, waited := webhooks()
	began := time.Now()
	if err := together(count, func(i int) error { return admit(count + i) }); err != nil {
		t.Fatal(err)
	}
	p.within = time.Since(began)
	for i, after := range processorTimes() {
		p.processors[i] = after - before[i]
	}
	called, _ := webhooks()
	p.webhooks, p.webhookTime = called-calls, waited-wait
	for _, request := range shared.Registry.Requests() {
		p.requests[kindOf(request)]++
	}
	return p
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

// takeProfiles writes where Kyverno and the API server spend their time while several are admitted at once.
func (w *way) takeProfiles(t *testing.T, c *client, admit func(i int) error) {
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
	const path = "/debug/pprof/profile?seconds=15"
	for of, take := range map[string]func() ([]byte, error){
		"kyverno": func() ([]byte, error) {
			response, err := http.Get("http://" + profileHost + ":" + profilePort + path)
			if err != nil {
				return nil, err
			}
			defer response.Body.Close()
			return io.ReadAll(io.LimitReader(response.Body, answerLimit))
		},
		"apiserver": func() ([]byte, error) {
			_, text, err := c.do(http.MethodGet, path, nil)
			return text, err
		},
	} {
		text, err := take()
		if err == nil {
			err = os.WriteFile(filepath.Join(*profile, strings.ReplaceAll(w.name, " ", "-")+"-"+of+".pprof"), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
