package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache/redistest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// fleetSize is the size of a fleet and of what it verifies.
type fleetSize struct {
	replicas, images, tenants, pods int
	callers                         int // that send to each replica at once
	perSecond                       int // requests that the registry answers in the part where it counts them
}

// aTenth of the images demand a plugin.
const aTenth = 10

// fleet rolls out replicas, and pods in front of them: first with every replica asked for every image, and then with each pod asked of
// some replica, while the registry counts requests. Each without and with what replicas share, beside one replica. It is an error when
// replicas that share make more than 1.1 times the requests of one, or when one of them does not admit an image although the registry
// counts nothing.
func (fx *fixture) fleet(ctx context.Context, size fleetSize) error {
	for i := range size.tenants {
		name := tenant(i)
		if err := os.WriteFile(filepath.Join(fx.dir, "trustpolicy-"+name+".yaml"), []byte(scenariotest.TrustPolicy(name, "strict", "ca:acme")), 0o600); err != nil {
			return err
		}
	}
	f := &fleet{fixture: fx, fleetSize: size}
	var err error
	if f.references, err = fx.pushMany(ctx, "plain", size.images-size.images/aTenth, false); err != nil {
		return err
	}
	plugin, err := fx.pushMany(ctx, "plugin", size.images/aTenth, true)
	if err != nil {
		return err
	}
	f.references = append(f.references, plugin...)
	stop, err := f.startServer(ctx)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Printf("%d images, a tenth with plugin, of %d tenants\n\n| rollout | replicas | shared | admissions | registry requests | 429 | not admitted | plugin processes | p50 ms | p99 ms | seconds | memory of a replica, MiB |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n", size.images, size.tenants)
	return errors.Join(f.rollouts(ctx), f.units(ctx))
}

// fleet is a fleet under way.
type fleet struct {
	*fixture
	fleetSize
	references []string
	server     string // of what is shared
}

// admission is the request for a pod of one image, under the trust policy of its tenant.
func (f *fleet) admission(image int) string {
	return fmt.Sprintf(`{"trustPolicy":%q,%s`, tenant(image%f.tenants), pod(f.references[image])[1:])
}

func tenant(i int) string { return fmt.Sprint("team-", i) }

// startServer starts what replicas share over: a real server where the machine has one. It goes before all else, since in a fleet it has
// processors that no replica has, and here twenty replicas and their callers would leave it a fiftieth of two.
func (f *fleet) startServer(ctx context.Context) (stop func(), err error) {
	if path, err := redistest.Find(); err == nil {
		server, err := redistest.Start(ctx, f.dir, "--save", "", "--appendonly", "no")
		if err != nil {
			return nil, err
		}
		precedence := "with precedence over all else"
		if err := server.Prefer(ctx); err != nil {
			precedence = "without precedence, which makes what is shared worse than it is: " + err.Error()
		}
		fmt.Printf("Shared over %s, %s.\n", path, precedence)
		f.server = server.Address
		return server.Kill, nil
	}
	server, err := redistest.NewHostile()
	if err != nil {
		return nil, err
	}
	fmt.Println("Shared over a server of this program, since there is no real one (apt-get install redis-server).")
	f.server = server.Address
	return server.Close, nil
}

// rollout is a part of the measurement.
type rollout struct {
	name       string
	replicas   int
	shared     bool
	limited    bool                                 // the registry counts requests
	admissions func() (images []int, replica []int) // in their order
}

func (f *fleet) rollouts(ctx context.Context) error {
	everywhere := func(replicas int) func() ([]int, []int) {
		return func() (images, replica []int) {
			for i := range f.images {
				for r := range replicas {
					images, replica = append(images, i), append(replica, r)
				}
			}
			return images, replica
		}
	}
	pods := func() (images, replica []int) {
		random := rand.New(rand.NewPCG(1, 2))
		for i := range f.pods {
			images, replica = append(images, i%f.images), append(replica, random.IntN(f.replicas))
		}
		random.Shuffle(len(images), func(i, j int) { images[i], images[j] = images[j], images[i] })
		return images, replica
	}
	var one, together int
	var looks []string
	for _, r := range []rollout{
		{"every image everywhere", 1, false, false, everywhere(1)},
		{"every image everywhere", f.replicas, true, false, everywhere(f.replicas)},
		{"every image everywhere", f.replicas, false, false, everywhere(f.replicas)},
		{"all pods", f.replicas, true, false, pods},
		{"all pods", f.replicas, false, false, pods},
		{fmt.Sprintf("all pods, %d requests a second", f.perSecond), f.replicas, true, true, pods},
		{fmt.Sprintf("all pods, %d requests a second", f.perSecond), f.replicas, false, true, pods},
	} {
		seen, err := f.measure(ctx, r)
		if err != nil {
			return err
		}
		seen.print(r)
		if r.shared {
			looks = append(looks, seen.looks())
		}
		if seen.denied > 0 && !r.limited && (r.shared || r.replicas == 1) {
			return fmt.Errorf("%d images were not admitted", seen.denied)
		}
		switch {
		case r.replicas == 1:
			one = seen.requests
		case together == 0:
			together = seen.requests
		}
	}
	fmt.Printf("\nWhat became of the looks into what is shared, line by line:\n%s\n", strings.Join(looks, "\n"))
	fmt.Printf("\n%d replicas that share make %.3f times the registry requests of one.\n", f.replicas, float64(together)/float64(one))
	if 10*together > 11*one {
		return fmt.Errorf("%d registry requests of %d replicas that share, %d of one", together, f.replicas, one)
	}
	return nil
}

// seen is what was measured.
type seen struct {
	admissions, requests, limited, denied int
	processes, resident                   float64 // of all replicas together, and of one
	shared                                [len(sharedResults)]float64
	took                                  []time.Duration
	elapsed                               time.Duration
}

// sharedResults are what became of looks into what is shared, where that is more than a hit or a miss.
var sharedResults = [...]string{"hit", "awaited", "missed", "vain", "failed", "left_alone", "spent", "dropped"}

func (s seen) print(r rollout) {
	fmt.Printf("| %s | %d | %t | %d | %d | %d | %d | %.0f | %s | %s | %.1f | %.0f |\n", r.name, r.replicas, r.shared, s.admissions, s.requests, s.limited, s.denied,
		s.processes, millis(percentile(s.took, 50)), millis(percentile(s.took, 99)), s.elapsed.Seconds(), s.resident/(1<<20))
}

// looks tells what became of the looks into what is shared.
func (s seen) looks() string {
	var text strings.Builder
	for i, n := range s.shared {
		fmt.Fprintf(&text, "%s %.0f  ", sharedResults[i], n)
	}
	return text.String()
}

// measure starts cold replicas and sends the admissions.
func (f *fleet) measure(ctx context.Context, r rollout) (s seen, err error) {
	var replicas []*process
	defer func() {
		for _, p := range replicas {
			p.stop()
		}
	}()
	flags := []string{"--cacheMaxSize=10000"}
	if r.shared {
		if flags, err = f.sharing(fmt.Sprint("a part ", len(r.name), r.limited)); err != nil {
			return s, err
		}
	}
	for range r.replicas {
		p, err := f.serve(ctx, flags...)
		if err != nil {
			return s, err
		}
		replicas = append(replicas, p)
	}
	var limited atomic.Int64
	f.registry.SetFault(nil)
	if r.limited {
		f.registry.SetFault(counting(f.perSecond, &limited))
	}
	f.registry.Reset()
	began := time.Now()
	s.took, s.denied = f.send(ctx, r, replicas)
	s.elapsed, s.admissions, s.requests, s.limited = time.Since(began), len(s.took), len(f.registry.Requests()), int(limited.Load())
	f.registry.SetFault(nil)
	for _, p := range replicas {
		state, err := p.state()
		if err != nil {
			return s, err
		}
		for i, n := range state.shared {
			s.shared[i] += n
		}
		s.processes += state.processes
		s.resident += state.resident / float64(len(replicas))
	}
	return s, nil
}

// counting answers with 429 what is over a number of requests in a second.
func counting(perSecond int, limited *atomic.Int64) registrytest.Fault {
	limiter := rate.NewLimiter(rate.Limit(perSecond), perSecond)
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if limiter.Allow() {
			next.ServeHTTP(w, r)
			return
		}
		limited.Add(1)
		w.Header().Set("Retry-After", "1")
		http.Error(w, `{"errors":[{"code":"TOOMANYREQUESTS"}]}`, http.StatusTooManyRequests)
	}
}

// send has callers send the admissions, each a pod of one image under the trust policy of its tenant. One that is not admitted, or not
// answered, is not sent again.
func (f *fleet) send(ctx context.Context, r rollout, replicas []*process) (took []time.Duration, denied int) {
	images, to := r.admissions()
	took = make([]time.Duration, len(images))
	var next, failed atomic.Int64
	var callers sync.WaitGroup
	for range f.callers * r.replicas {
		callers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(images) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				began := time.Now()
				status, _, err := replicas[to[i]].post(ctx, f.admission(images[i]))
				took[i] = time.Since(began)
				if err != nil || status != http.StatusOK {
					failed.Add(1)
				}
			}
		})
	}
	callers.Wait()
	return took, int(failed.Load())
}
