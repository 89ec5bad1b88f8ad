package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

const sbomType = "sbom/cyclone-dx"

func (w *world) measureAll(ctx context.Context) error {
	rest, err := w.warm.state()
	if err != nil {
		return err
	}
	fmt.Printf("Memory at rest: %.0f MiB\n", rest.resident/(1<<20))
	bodies, err := w.bodies(ctx)
	if err != nil {
		return err
	}
	for i, delay := range w.options.delays {
		if err := w.coldAt(ctx, delay, bodies); err != nil {
			return err
		}
		if i > 0 {
			continue
		}
		for _, part := range []func(context.Context) error{w.keptAndShared, w.growth} {
			if err := part(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// body is a request that is sent again and again.
type body struct{ name, text string }

// bodies are those of the cold loads.
func (w *world) bodies(ctx context.Context) ([]body, error) {
	plain, err := w.push(ctx, "plain", false)
	if err != nil {
		return nil, err
	}
	many, err := w.pushMany(ctx, "pod", 50, true)
	if err != nil {
		return nil, err
	}
	attested, err := w.attested(ctx, 10)
	if err != nil {
		return nil, err
	}
	return []body{
		{loadImage, pod(plain)},
		{loadPlugin, pod(many[0])},
		{loadPodPlugin, pod(many[:10]...)},
		{"a pod of 50, plugin", pod(many...)},
		{loadSBOM, withSBOM(attested[:1])},
		{loadPodSBOM, withSBOM(attested)},
	}, nil
}

// Names of loads between which ratios are told.
const (
	loadImage     = "an image"
	loadPlugin    = "an image, plugin"
	loadPodPlugin = "a pod of 10, plugin"
	loadSBOM      = "an image with an SBOM and a condition"
	loadPodSBOM   = "a pod of 10 of them"
)

// attested pushes images with a signed SBOM each.
func (w *world) attested(ctx context.Context, n int) ([]string, error) {
	references := make([]string, n)
	for i := range references {
		name := fmt.Sprintf("attested-%d", i)
		image, err := w.scenario.PushSigned(ctx, name, w.scenario.Signer(), &signingtest.SignRequest{})
		if err != nil {
			return nil, err
		}
		if _, err := w.scenario.Attest(ctx, name, image, sbomType, []byte(`{"licence":"MIT"}`), w.scenario.Signer()); err != nil {
			return nil, err
		}
		references[i] = w.scenario.Reference(name)
	}
	return references, nil
}

// withSBOM is the body for a pod of images of which an SBOM is demanded.
func withSBOM(images []string) string {
	const demand = `"attestations":[{"imageReference":"*","type":[{"name":%q,"conditions":{"all":[{"key":"{{ licence }}","operator":"NotEquals","value":"GPL-3.0"}]}}]}]`
	return strings.TrimSuffix(pod(images...), "}") + "," + fmt.Sprintf(demand, sbomType) + "}"
}

// coldAt measures admissions of which nothing is kept, with the registry at a distance, and holds the two promises
// about them against the figures.
func (w *world) coldAt(ctx context.Context, delay time.Duration, bodies []body) error {
	w.registry.SetFault(nil)
	if delay > 0 {
		w.registry.SetFault(registrytest.Delay(delay))
		defer w.registry.SetFault(nil)
	}
	heading(fmt.Sprintf("Cold, one caller, the registry %s away", delay))
	p50 := map[string]time.Duration{}
	for _, b := range bodies {
		f, err := w.measure(ctx, load{name: b.name, to: w.cold, callers: 1, body: always(b.text)})
		if err != nil {
			return err
		}
		f.row(b.name)
		p50[b.name] = f.p50
	}
	process, err := w.processTime(ctx)
	if err != nil {
		return err
	}
	ratio := func(a, b time.Duration) float64 { return float64(a) / float64(b) }
	fmt.Printf("\nOne plugin process takes %s ms; an image with plugin %.2f times (4 registry requests + a process); a pod of 10 of them %.2f times one.\n",
		millis(process), ratio(p50[loadPlugin], 4*delay+process), ratio(p50[loadPodPlugin], p50[loadPlugin]))
	if delay > 0 {
		fmt.Printf("An image takes %.2f times the distance, one with an SBOM %.2f times; a pod of 10 of these %.2f times one.\n",
			ratio(p50[loadImage], delay), ratio(p50[loadSBOM], delay), ratio(p50[loadPodSBOM], p50[loadSBOM]))
	}
	return nil
}

// processTime is what a process of the plugin takes, from its start to its end.
func (w *world) processTime(ctx context.Context) (time.Duration, error) {
	var took []time.Duration
	for range 50 {
		command := exec.CommandContext(ctx, filepath.Join(w.options.plugins, "venafi-csp", "notation-venafi-csp"), "get-plugin-metadata")
		command.Stdin = nil
		began := time.Now()
		if err := command.Run(); err != nil {
			return 0, fmt.Errorf("plugin: %w", err)
		}
		took = append(took, time.Since(began))
	}
	return percentile(took, 50), nil
}

// keptAndShared measures what is kept beside a bare handler, what is shared, and a mixture.
func (w *world) keptAndShared(ctx context.Context) error {
	image, err := w.push(ctx, "kept", true)
	if err != nil {
		return err
	}
	status, answer, err := w.warm.post(ctx, pod(image))
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("answer %d %s %w", status, answer, err)
	}
	heading("Kept, and shared")
	for _, callers := range []int{1, 16, 64} {
		f, err := w.measure(ctx, load{name: "kept", to: w.warm, callers: callers, body: always(pod(image))})
		if err != nil {
			return err
		}
		f.row(fmt.Sprintf("kept, %d callers", callers))
	}
	for _, part := range []func(context.Context) error{w.stampede, w.mixed, w.coldCallers} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return w.besideBare(ctx, pod(image), answer)
}

// besideBare measures what is kept and a bare handler in turns, since a machine's other work comes and goes.
func (w *world) besideBare(ctx context.Context, body, answer string) error {
	bare, err := w.startBare(ctx, answer)
	if err != nil {
		return err
	}
	defer bare.stop()
	const turns = 7
	var rates, tails []float64
	for i := range turns {
		kept, err := w.measure(ctx, load{name: "kept", to: w.warm, callers: 16, body: always(body)})
		if err != nil {
			return err
		}
		least, err := w.measure(ctx, load{name: "bare", to: bare, callers: 16, body: always(body)})
		if err != nil {
			return err
		}
		if i == turns-1 {
			least.row("a bare handler, 16 callers")
		}
		rates = append(rates, kept.rate/least.rate)
		tails = append(tails, float64(kept.p99)/float64(least.p99))
	}
	slices.Sort(rates)
	slices.Sort(tails)
	fmt.Printf("\nKept, at 16 callers, in %d turns with the bare handler: %.2f of its rate (%.2f to %.2f), %.2f times its p99 (%.2f to %.2f).\n",
		turns, rates[turns/2], rates[0], rates[turns-1], tails[turns/2], tails[0], tails[turns-1])
	return nil
}

// stampede sends 100 requests for one cold image at once.
func (w *world) stampede(ctx context.Context) error {
	image, err := w.push(ctx, "stampede", true)
	if err != nil {
		return err
	}
	f, err := w.measure(ctx, load{name: "stampede", to: w.warm, callers: 100, body: always(pod(image)), most: 100})
	if err != nil {
		return err
	}
	f.row(fmt.Sprintf("100 at once for one cold image (%.0f registry requests and %.0f processes in all)", f.lookups*100, f.processes*100))
	return nil
}

// mixed sends 95 requests for what is kept to 5 for what is new.
func (w *world) mixed(ctx context.Context) error {
	const total = 4000
	fresh, err := w.pushMany(ctx, "mixed", total/20+1, false)
	if err != nil {
		return err
	}
	f, err := w.measure(ctx, load{name: "mixed", to: w.warm, callers: 16, most: total, body: func(i int) string {
		if i%20 == 0 {
			return pod(fresh[1+i/20%(len(fresh)-1)])
		}
		return pod(fresh[0])
	}})
	if err != nil {
		return err
	}
	f.row("95 kept, 5 cold, 16 callers")
	return nil
}

// coldCallers is the load under which memory is promised to stay in bounds.
func (w *world) coldCallers(ctx context.Context) error {
	images, err := w.pushMany(ctx, "crowd", 64, true)
	if err != nil {
		return err
	}
	f, err := w.measure(ctx, load{name: "64 cold callers", to: w.cold, callers: 64, body: func(i int) string { return pod(images[i%len(images)]) }})
	if err != nil {
		return err
	}
	f.row("cold, plugin, 64 callers")
	return nil
}

// growth measures how the cost grows with images, signatures and trust policies.
func (w *world) growth(ctx context.Context) error {
	heading("How the cost of a cold admission grows, one caller, no plugin")
	images, err := w.pushMany(ctx, "grow", 50, false)
	if err != nil {
		return err
	}
	for _, n := range []int{1, 5, 20, 50} {
		f, err := w.measure(ctx, load{name: "images", to: w.cold, callers: 1, body: always(pod(images[:n]...))})
		if err != nil {
			return err
		}
		f.row(fmt.Sprintf("%d images", n))
	}
	for _, n := range []int{1, 5, 20} {
		body, err := w.signedOften(ctx, n)
		if err != nil {
			return err
		}
		f, err := w.measure(ctx, load{name: "signatures", to: w.cold, callers: 1, body: always(body)})
		if err != nil {
			return err
		}
		f.row(fmt.Sprintf("1 image, %d signatures", n))
	}
	for _, n := range []int{100, 1000} {
		if err := w.policies(n); err != nil {
			return err
		}
		f, err := w.measure(ctx, load{name: "policies", to: w.cold, callers: 1, body: always(pod(images[0]))})
		if err != nil {
			return err
		}
		f.row(fmt.Sprintf("1 image, %d trust policies", n))
	}
	return nil
}

// signedOften gives an image with one good signature among n.
func (w *world) signedOften(ctx context.Context, n int) (string, error) {
	name := fmt.Sprintf("often-%d", n)
	foreign, err := w.scenario.Foreign.Issue(signingtest.LeafOptions{CommonName: "Mallory"})
	if err != nil {
		return "", err
	}
	image, err := w.scenario.PushSigned(ctx, name, w.scenario.Signer(), &signingtest.SignRequest{})
	if err != nil {
		return "", err
	}
	for range n - 1 {
		if err := w.scenario.Sign(ctx, name, image, foreign, signingtest.SignRequest{}); err != nil {
			return "", err
		}
	}
	return pod(w.scenario.Reference(name)), nil
}

// policies adds trust policies, and waits until the service has seen them.
func (w *world) policies(n int) error {
	for i := range n {
		name := fmt.Sprintf("other-%d", i)
		if err := os.WriteFile(filepath.Join(w.dir, name+".yaml"), []byte(scenariotest.TrustPolicy(name, "strict", "ca:acme")), 0o600); err != nil {
			return err
		}
	}
	time.Sleep(2 * time.Second) // the directory is looked at twice a second
	return nil
}

// startBare starts a handler that does nothing but decode a body and encode the answer.
func (w *world) startBare(ctx context.Context, answer string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(w.dir, "answer")
	if err := os.WriteFile(file, []byte(answer), 0o600); err != nil {
		return nil, err
	}
	return start(ctx, self, func(address string) []string { return []string{"bare", address + "=" + file} }, "/metrics")
}
