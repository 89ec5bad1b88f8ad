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

func (fx *fixture) measureAll(ctx context.Context) error {
	rest, err := fx.warm.state()
	if err != nil {
		return err
	}
	fmt.Printf("Memory at rest: %.0f MiB\n", rest.resident/(1<<20))
	bodies, err := fx.bodies(ctx)
	if err != nil {
		return err
	}
	for i, delay := range fx.options.delays {
		if err := fx.coldAt(ctx, delay, bodies); err != nil {
			return err
		}
		if i > 0 {
			continue
		}
		for _, part := range []func(context.Context) error{fx.cachedAndShared, fx.growth} {
			if err := part(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// body is a request that is sent repeatedly.
type body struct{ name, text string }

// bodies are the requests of the cold loads.
func (fx *fixture) bodies(ctx context.Context) ([]body, error) {
	plain, err := fx.push(ctx, "plain", false)
	if err != nil {
		return nil, err
	}
	many, err := fx.pushMany(ctx, "pod", 50, true)
	if err != nil {
		return nil, err
	}
	attested, err := fx.attested(ctx, 10)
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

// Names of the loads whose ratios are printed.
const (
	loadImage     = "an image"
	loadPlugin    = "an image, plugin"
	loadPodPlugin = "a pod of 10, plugin"
	loadSBOM      = "an image with an SBOM and a condition"
	loadPodSBOM   = "a pod of 10 of them"
)

// attested pushes n signed images, each with a signed SBOM.
func (fx *fixture) attested(ctx context.Context, n int) ([]string, error) {
	references := make([]string, n)
	for i := range references {
		name := fmt.Sprintf("attested-%d", i)
		image, err := fx.scenario.PushSigned(ctx, name, fx.scenario.Signer(), &signingtest.SignRequest{})
		if err != nil {
			return nil, err
		}
		if _, err := fx.scenario.Attest(ctx, name, image, sbomType, []byte(`{"licence":"MIT"}`), fx.scenario.Signer()); err != nil {
			return nil, err
		}
		references[i] = fx.scenario.Reference(name)
	}
	return references, nil
}

// withSBOM is the request for a pod whose images must have an SBOM.
func withSBOM(images []string) string {
	const demand = `"attestations":[{"imageReference":"*","type":[{"name":%q,"conditions":{"all":[{"key":"{{ licence }}","operator":"NotEquals","value":"GPL-3.0"}]}}]}]`
	return strings.TrimSuffix(pod(images...), "}") + "," + fmt.Sprintf(demand, sbomType) + "}"
}

// coldAt measures requests without a cache while the registry adds a delay to each answer, and prints the ratios that the
// README promises.
func (fx *fixture) coldAt(ctx context.Context, delay time.Duration, bodies []body) error {
	fx.registry.SetFault(nil)
	if delay > 0 {
		fx.registry.SetFault(registrytest.Delay(delay))
		defer fx.registry.SetFault(nil)
	}
	heading(fmt.Sprintf("Cold, one caller, the registry %s away", delay))
	p50 := map[string]time.Duration{}
	for _, b := range bodies {
		f, err := fx.measure(ctx, load{name: b.name, to: fx.cold, callers: 1, body: always(b.text)})
		if err != nil {
			return err
		}
		f.row(b.name)
		p50[b.name] = f.p50
	}
	process, err := fx.processTime(ctx)
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

// processTime is the median duration of a plugin process.
func (fx *fixture) processTime(ctx context.Context) (time.Duration, error) {
	var took []time.Duration
	for range 50 {
		command := exec.CommandContext(ctx, filepath.Join(fx.options.plugins, "venafi-csp", "notation-venafi-csp"), "get-plugin-metadata")
		command.Stdin = nil
		began := time.Now()
		if err := command.Run(); err != nil {
			return 0, fmt.Errorf("plugin: %w", err)
		}
		took = append(took, time.Since(began))
	}
	return percentile(took, 50), nil
}

// cachedAndShared measures cached outcomes, lookups that concurrent requests share, mixed load, and cached outcomes in turns
// with a bare handler.
func (fx *fixture) cachedAndShared(ctx context.Context) error {
	image, err := fx.push(ctx, "kept", true)
	if err != nil {
		return err
	}
	status, answer, err := fx.warm.post(ctx, pod(image))
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("answer %d %s %w", status, answer, err)
	}
	heading("Kept, and shared")
	for _, callers := range []int{1, 16, 64} {
		f, err := fx.measure(ctx, load{name: "kept", to: fx.warm, callers: callers, body: always(pod(image))})
		if err != nil {
			return err
		}
		f.row(fmt.Sprintf("kept, %d callers", callers))
	}
	for _, part := range []func(context.Context) error{fx.stampede, fx.mixed, fx.coldCallers} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return fx.besideBare(ctx, pod(image), answer)
}

// besideBare measures cached outcomes and a bare handler in turns, so that other work on the machine affects both.
func (fx *fixture) besideBare(ctx context.Context, body, answer string) error {
	bare, err := fx.startBare(ctx, answer)
	if err != nil {
		return err
	}
	defer bare.stop()
	const turns = 7
	var rates, tails []float64
	for i := range turns {
		cached, err := fx.measure(ctx, load{name: "kept", to: fx.warm, callers: 16, body: always(body)})
		if err != nil {
			return err
		}
		least, err := fx.measure(ctx, load{name: "bare", to: bare, callers: 16, body: always(body)})
		if err != nil {
			return err
		}
		if i == turns-1 {
			least.row("a bare handler, 16 callers")
		}
		rates = append(rates, cached.rate/least.rate)
		tails = append(tails, float64(cached.p99)/float64(least.p99))
	}
	slices.Sort(rates)
	slices.Sort(tails)
	fmt.Printf("\nKept, at 16 callers, in %d turns with the bare handler: %.2f of its rate (%.2f to %.2f), %.2f times its p99 (%.2f to %.2f).\n",
		turns, rates[turns/2], rates[0], rates[turns-1], tails[turns/2], tails[0], tails[turns-1])
	return nil
}

// stampede sends 100 requests for one cold image at once.
func (fx *fixture) stampede(ctx context.Context) error {
	image, err := fx.push(ctx, "stampede", true)
	if err != nil {
		return err
	}
	f, err := fx.measure(ctx, load{name: "stampede", to: fx.warm, callers: 100, body: always(pod(image)), most: 100})
	if err != nil {
		return err
	}
	f.row(fmt.Sprintf("100 at once for one cold image (%.0f registry requests and %.0f processes in all)", f.lookups*100, f.processes*100))
	return nil
}

// mixed sends 95 requests for a cached image to 5 for new images.
func (fx *fixture) mixed(ctx context.Context) error {
	const total = 4000
	fresh, err := fx.pushMany(ctx, "mixed", total/20+1, false)
	if err != nil {
		return err
	}
	f, err := fx.measure(ctx, load{name: "mixed", to: fx.warm, callers: 16, most: total, body: func(i int) string {
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

// coldCallers measures the load for which the README promises a bound on memory.
func (fx *fixture) coldCallers(ctx context.Context) error {
	images, err := fx.pushMany(ctx, "crowd", 64, true)
	if err != nil {
		return err
	}
	f, err := fx.measure(ctx, load{name: "64 cold callers", to: fx.cold, callers: 64, body: func(i int) string { return pod(images[i%len(images)]) }})
	if err != nil {
		return err
	}
	f.row("cold, plugin, 64 callers")
	return nil
}

// growth measures how the cost grows with the number of images, signatures and trust policies.
func (fx *fixture) growth(ctx context.Context) error {
	heading("How the cost of a cold admission grows, one caller, no plugin")
	images, err := fx.pushMany(ctx, "grow", 50, false)
	if err != nil {
		return err
	}
	for _, n := range []int{1, 5, 20, 50} {
		f, err := fx.measure(ctx, load{name: "images", to: fx.cold, callers: 1, body: always(pod(images[:n]...))})
		if err != nil {
			return err
		}
		f.row(fmt.Sprintf("%d images", n))
	}
	for _, n := range []int{1, 5, 20} {
		body, err := fx.signedOften(ctx, n)
		if err != nil {
			return err
		}
		f, err := fx.measure(ctx, load{name: "signatures", to: fx.cold, callers: 1, body: always(body)})
		if err != nil {
			return err
		}
		f.row(fmt.Sprintf("1 image, %d signatures", n))
	}
	for _, n := range []int{100, 1000} {
		if err := fx.policies(n); err != nil {
			return err
		}
		f, err := fx.measure(ctx, load{name: "policies", to: fx.cold, callers: 1, body: always(pod(images[0]))})
		if err != nil {
			return err
		}
		f.row(fmt.Sprintf("1 image, %d trust policies", n))
	}
	return nil
}

// signedOften is a request for an image with n signatures, one of which is trusted.
func (fx *fixture) signedOften(ctx context.Context, n int) (string, error) {
	name := fmt.Sprintf("often-%d", n)
	foreign, err := fx.scenario.Foreign.Issue(signingtest.LeafOptions{CommonName: "Mallory"})
	if err != nil {
		return "", err
	}
	image, err := fx.scenario.PushSigned(ctx, name, fx.scenario.Signer(), &signingtest.SignRequest{})
	if err != nil {
		return "", err
	}
	for range n - 1 {
		if err := fx.scenario.Sign(ctx, name, image, foreign, signingtest.SignRequest{}); err != nil {
			return "", err
		}
	}
	return pod(fx.scenario.Reference(name)), nil
}

// policies adds n trust policies, and waits until the service has read them.
func (fx *fixture) policies(n int) error {
	for i := range n {
		name := fmt.Sprintf("other-%d", i)
		if err := os.WriteFile(filepath.Join(fx.dir, name+".yaml"), []byte(scenariotest.TrustPolicy(name, "strict", "ca:acme")), 0o600); err != nil {
			return err
		}
	}
	time.Sleep(2 * time.Second) // the service checks the directory twice a second
	return nil
}

// startBare starts a handler that does nothing but decode a body and encode the answer.
func (fx *fixture) startBare(ctx context.Context, answer string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(fx.dir, "answer")
	if err := os.WriteFile(file, []byte(answer), 0o600); err != nil {
		return nil, err
	}
	return start(ctx, self, func(address string) []string { return []string{"bare", address + "=" + file} }, "/metrics")
}
