package simulation

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/shell/certmanager"
	"github.com/nirmata/kyverno-notation-venafi/shell/kube"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
)

// rotation is the policy of certificates, with days as short as minutes.
var rotation = certificates.Policy{
	CADuration: 600 * time.Second, CertificateDuration: 200 * time.Second, Propagation: 20 * time.Second, Notice: 100 * time.Second, Names: []string{"svc.ours.svc"},
}

const (
	rotates   = 500 * time.Second // for which rotations are looked at
	settled   = 60 * time.Second  // after which there is a certificate
	longestIn = 15 * time.Second  // of a fault
	lookEvery = 4 * time.Second   // at least, so that a bundle may have been published so much earlier than it is noticed
)

// Certificates runs certmanagers, which elect a leader, with replicas that take the serving certificate from them, while
// connections break, processes crash and objects are deleted. At no time may two processes lead, and every replica must serve what
// clients accept that read the CA bundle a while ago.
func Certificates(t *testing.T, seed uint64) (result Result) {
	t.Helper()
	running := true
	defer func() {
		if running {
			fmt.Printf("the sequence of certificates of seed %d ended early\n", seed)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, random: newRandom(seed, 6), server: kubetest.Start(t), chains: map[servedWith][]*x509.Certificate{}, result: Result{Seed: seed}}
		c.play()
		result = c.result
	})
	running = false
	return result
}

// cluster is the world of certificates.
type cluster struct {
	t        *testing.T
	random   random
	server   *kubetest.Server
	managers []*process
	replicas []*servingReplica
	bundles  []published
	chains   map[servedWith][]*x509.Certificate // that were found
	result   Result

	mu      sync.Mutex
	leading int
}

// published is a CA bundle as clients read it from a moment on.
type published struct {
	from time.Time
	text string
}

// servedWith is a certificate that is served, with a bundle that it is held against.
type servedWith struct {
	leaf   *x509.Certificate
	bundle int
}

// process is a certmanager.
type process struct {
	wire *wire
	end  context.CancelFunc // asks it to end
	kill context.CancelFunc // ends its work whatever it does
	done chan struct{}
}

// servingReplica watches the serving certificate.
type servingReplica struct {
	wire *wire
	mu   sync.Mutex
	leaf *x509.Certificate
}

// wire is the connection of one process to the API server.
type wire struct {
	server *kubetest.Server
	mu     sync.Mutex
	up     context.Context
	cut    context.CancelFunc
	down   bool
}

// RoundTrip passes a request on, unless the wire is cut.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	up, down := w.up, w.down
	w.mu.Unlock()
	if down {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	ctx, cancel := context.WithCancel(r.Context())
	context.AfterFunc(up, cancel)
	answer, err := w.server.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel()
	}
	return answer, err
}

// set cuts or mends the wire.
func (w *wire) set(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
	w.cut()
	w.up, w.cut = context.WithCancel(context.Background())
}

func (c *cluster) client() (*wire, *kubeclient.Client) {
	w := &wire{server: c.server}
	w.up, w.cut = context.WithCancel(context.Background())
	client, err := kubeclient.New(&rest.Config{Host: "http://api.example", Transport: w, QPS: 1000, Burst: 1000}, kubetest.Namespace)
	if err != nil {
		c.t.Fatal(err)
	}
	return w, client
}

// manage starts a certmanager.
func (c *cluster) manage(identity string) *process {
	w, client := c.client()
	ctx, end := context.WithCancel(context.Background())
	life, kill := context.WithCancel(context.Background())
	p := &process{wire: w, end: end, kill: kill, done: make(chan struct{})}
	log, pause := slog.New(slog.DiscardHandler), time.Duration(0)
	if c.random.chance(50) {
		pause = c.random.between(0, longestIn)
	}
	go func() {
		defer close(p.done)
		err := certmanager.Lead(ctx, client, "certmanager", identity, log, func(ctx context.Context) {
			defer time.Sleep(pause) // the process stands still when it has ended its work, and another one leads when it goes on
			c.lead(1)
			defer c.lead(-1)
			ctx, cancel := context.WithCancel(ctx)
			defer context.AfterFunc(life, cancel)()
			defer cancel()
			certmanager.NewCertificates(client, rotation, certmanager.Others{EpochConfigMap: epochName}, log).Run(ctx)
		})
		if err != nil {
			c.violation(err.Error())
		}
	}()
	return p
}

func (c *cluster) lead(by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leading += by; c.leading > 1 {
		c.result.Violations = append(c.result.Violations, fmt.Sprintf("%s: %d processes lead", time.Since(begin), c.leading))
	}
}

func (c *cluster) violation(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Violations = append(c.result.Violations, fmt.Sprintf("%s: %s", time.Since(begin), text))
}

// serve starts what a serving replica does about its certificate.
func (c *cluster) serve(ctx context.Context, work *sync.WaitGroup) *servingReplica {
	w, client := c.client()
	r := &servingReplica{wire: w}
	secret := kube.NewTLSSecret(client, kubetest.Namespace, certmanager.ServingSecret, slog.New(slog.DiscardHandler), func(chain, _ []byte) {
		block, _ := pem.Decode(chain)
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			c.violation(err.Error())
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.leaf = leaf
	})
	work.Go(func() { secret.Watch(ctx) })
	return r
}

// wait waits until a process that was asked to has ended.
func (p *process) wait(c *cluster) {
	select {
	case <-p.done:
	case <-time.After(settled):
		c.violation("a certmanager does not end")
		p.kill()
		<-p.done
	}
}

func (c *cluster) play() {
	began := time.Now()
	ctx, end := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for i := range 2 {
		c.managers = append(c.managers, c.manage(fmt.Sprint("manager-", i)))
		c.replicas = append(c.replicas, c.serve(ctx, &work))
	}
	quiet := time.Now().Add(settled) // until then nothing is broken
	for n := len(c.managers); time.Since(began) < rotates; {
		time.Sleep(c.random.between(500*time.Millisecond, lookEvery))
		c.look(time.Since(began) > settled)
		if time.Now().Before(quiet) || !c.random.chance(25) {
			continue
		}
		n++
		c.result.Counts.Faults++
		quiet = time.Now().Add(c.fault(n))
	}
	for _, manager := range c.managers {
		manager.end()
		manager.wire.set(false)
	}
	end()
	for _, manager := range c.managers {
		manager.wait(c)
	}
	work.Wait()
	c.server.Stop()
	c.result.Counts.Virtual = time.Since(began)
}

// fault breaks something, and gives for how long nothing else is to be broken.
func (c *cluster) fault(n int) time.Duration {
	place := c.random.IntN(2)
	d := c.random.between(time.Second, longestIn)
	c.result.story = append(c.result.story, fmt.Sprint(time.Since(begin), " fault ", n, " for ", d))
	switch c.random.IntN(7) {
	case 0, 1: // a manager is cut off, perhaps the one that leads
		w := c.managers[place].wire
		d *= 3 // so that it loses its lease
		w.set(true)
		time.AfterFunc(d, func() { w.set(false) })
	case 2:
		w := c.replicas[place].wire
		w.set(true)
		time.AfterFunc(d, func() { w.set(false) })
	case 3: // a manager crashes: it gives up no lease
		manager := c.managers[place]
		manager.wire.set(true)
		manager.kill()
		manager.end()
		<-manager.done
		c.managers[place] = c.manage(fmt.Sprint("manager-", n))
	case 4:
		c.server.Stop()
		time.AfterFunc(d/2, c.server.Restart)
	default:
		at := [...]string{
			kubetest.SecretsPath + "/" + certmanager.ServingSecret, kubetest.SecretsPath + "/" + certmanager.AuthoritySecret,
			kubetest.ConfigMapsPath + "/" + certmanager.BundleConfigMap,
		}[c.random.IntN(3)]
		if c.server.Object(at) != nil {
			c.server.Remove(at)
		}
		return 4 * rotation.Propagation
	}
	return d + settled/2
}

// look holds what every replica serves against every bundle that a client may have.
func (c *cluster) look(expected bool) {
	if object := c.server.Object(kubetest.ConfigMapsPath + "/" + certmanager.BundleConfigMap); object != nil {
		data, _ := object["data"].(kubetest.Object)
		text, _ := data["ca.crt"].(string)
		if n := len(c.bundles); n == 0 || c.bundles[n-1].text != text {
			c.bundles = append(c.bundles, published{time.Now(), text})
		}
	}
	for i, replica := range c.replicas {
		replica.mu.Lock()
		leaf := replica.leaf
		replica.mu.Unlock()
		if leaf == nil {
			if expected {
				c.violation(fmt.Sprintf("replica %d has no certificate", i))
			}
			continue
		}
		c.result.Counts.Asked++
		for n, bundle := range c.bundles {
			if n+1 < len(c.bundles) && !c.bundles[n+1].from.After(time.Now().Add(lookEvery-rotation.Propagation)) {
				continue // no client has it any longer
			}
			if err := c.verify(leaf, n); err != nil {
				c.violation(fmt.Sprintf("what replica %d serves fails with the bundle of %s: %v", i, bundle.from.Sub(begin), err))
			}
		}
	}
}

// verify verifies a certificate as a client with a bundle does. A chain that was found before has the same signatures still, so that
// only its times are looked at.
func (c *cluster) verify(leaf *x509.Certificate, bundle int) error {
	now, pair := time.Now(), servedWith{leaf, bundle}
	over := func(found *x509.Certificate) bool { return now.Before(found.NotBefore) || now.After(found.NotAfter) }
	if chain := c.chains[pair]; chain != nil && !slices.ContainsFunc(chain, over) {
		return nil
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(c.bundles[bundle].text))
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, DNSName: rotation.Names[0]})
	if err == nil {
		c.chains[pair] = chains[0]
	}
	return err
}
