package certificates_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"maps"
	"math/big"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
)

var start = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// cluster holds what a State is gathered from, and what could be seen of it at any time.
type cluster struct {
	policy certificates.Policy
	now    time.Time
	state  certificates.State
	serial int64

	bundles []seen[string]            // as clients could have read them
	anchors []seen[string]            // as clients that read once could have read them
	leaves  []seen[*x509.Certificate] // as replicas could have read them
	steps   map[certificates.Action]int
}

// seen is a value that could be read from a moment on, until that of the next.
type seen[T any] struct {
	from  time.Time
	value T
}

// within gives the values that could be read at some moment since a time.
func within[T any](history []seen[T], since time.Time) []T {
	var values []T
	for i, s := range history {
		if last := i == len(history)-1; last || history[i+1].from.After(since) {
			values = append(values, s.value)
		}
	}
	return values
}

func newCluster(policy certificates.Policy) *cluster {
	return &cluster{policy: policy, now: start, steps: map[certificates.Action]int{}}
}

// sign makes a key and a certificate for it; a nil authority stands for itself.
func (c *cluster) sign(t testing.TB, template *x509.Certificate, authority *certificates.Pair) *certificates.Pair {
	t.Helper()
	c.serial++
	template.SerialNumber = big.NewInt(c.serial)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if authority == nil {
		authority = &certificates.Pair{Certificate: template, Key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority.Certificate, key.Public(), authority.Key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &certificates.Pair{Certificate: certificate, Key: key}
}

func (c *cluster) authority(t testing.TB) *certificates.Pair {
	return c.sign(t, c.policy.AuthorityTemplate(fmt.Sprint(c.serial), c.now), nil)
}

// unconfined makes a CA that may certify all names.
func (c *cluster) unconfined(t testing.TB) *certificates.Pair {
	template := c.policy.AuthorityTemplate("any", c.now)
	template.PermittedDNSDomains, template.PermittedIPRanges = nil, nil
	return c.sign(t, template, nil)
}

// act takes one step; false at rest.
func (c *cluster) act(t testing.TB) (certificates.Step, bool) {
	t.Helper()
	step := c.policy.Next(c.state, c.now)
	c.steps[step.Action]++
	switch step.Action {
	case certificates.Rest:
		if !step.At.After(c.now) {
			t.Fatalf("rest until %s at %s", step.At, c.now)
		}
		return step, false
	case certificates.CreateAuthority:
		c.state.Authority, c.state.Successor = c.authority(t), nil
	case certificates.CreateSuccessor:
		c.state.Successor = c.authority(t)
	case certificates.Promote:
		c.state.Authority, c.state.Successor = c.state.Successor, nil
	case certificates.Publish:
		c.state.Bundle = step.Bundle
		c.bundles = append(c.bundles, seen[string]{c.now, step.Bundle.Text})
	case certificates.IssueServing:
		c.state.Serving = c.sign(t, c.policy.ServingTemplate(c.state.Authority.Certificate, c.now), c.state.Authority)
		c.state.Copy = certificates.ParseBundle([]byte(c.state.Bundle.Text))
		c.leaves = append(c.leaves, seen[*x509.Certificate]{c.now, c.state.Serving.Certificate})
	default:
		t.Fatalf("unknown step %q", step.Action)
	}
	return step, true
}

// manage acts until there is rest.
func (c *cluster) manage(t testing.TB) []certificates.Action {
	t.Helper()
	var taken []certificates.Action
	for range 10 {
		step, acted := c.act(t)
		if !acted {
			c.anchors = append(c.anchors, seen[string]{c.now, c.policy.Anchors(c.state, c.now)})
			return taken
		}
		taken = append(taken, step.Action)
	}
	t.Fatalf("there is no rest after %q", taken)
	return nil
}

// next rests until there is something to do, within a time, and does it. It gives how long it rested.
func (c *cluster) next(t testing.TB, limit time.Duration) (time.Duration, []certificates.Action) {
	t.Helper()
	began := c.now
	for {
		at := c.policy.Next(c.state, c.now).At
		if at.Sub(began) > limit {
			return at.Sub(began), nil
		}
		c.now = at
		if steps := c.manage(t); len(steps) > 0 {
			return c.now.Sub(began), steps
		}
	}
}

// verifies holds every leaf that a replica could serve now against every bundle that a client could have now, and against all
// anchors that one could have read within a time.
func (c *cluster) verifies(t testing.TB, read time.Duration) {
	t.Helper()
	texts := append(within(c.anchors, c.now.Add(-read)), within(c.bundles, c.now.Add(-c.policy.Propagation))...)
	slices.Sort(texts)
	texts = slices.Compact(texts)
	for _, leaf := range within(c.leaves, c.now.Add(-c.policy.Propagation)) {
		for _, text := range texts {
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM([]byte(text))
			_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: c.now, DNSName: c.policy.Names[0]})
			if err != nil {
				t.Fatalf("after %s a call fails: %v", c.now.Sub(start), err)
			}
		}
	}
}

// losses are what a careless person or a broken disk does. After each, the other objects are as they were.
func losses() map[string]func(*certificates.State) {
	authority := func(s *certificates.State) { s.Authority, s.Successor = nil, nil }
	serving := func(s *certificates.State) { s.Serving, s.Copy = nil, nil }
	bundle := func(s *certificates.State) { s.Bundle = certificates.Bundle{} }
	return map[string]func(*certificates.State){
		"the CA's Secret":                           authority,
		"the key of the CA that signs":              func(s *certificates.State) { s.Authority = nil },
		"the successor":                             func(s *certificates.State) { s.Successor = nil },
		"the serving certificate's Secret":          serving,
		"the serving certificate, but not the copy": func(s *certificates.State) { s.Serving = nil },
		"the copy":                       func(s *certificates.State) { s.Copy = nil },
		"the bundle":                     bundle,
		"the bundle's label":             func(s *certificates.State) { s.Bundle.Listed = false },
		"the bundle's times":             func(s *certificates.State) { s.Bundle.Since = nil },
		"the bundle's text in part":      func(s *certificates.State) { s.Bundle.Text = s.Bundle.Text[:len(s.Bundle.Text)/2] },
		"both Secrets":                   func(s *certificates.State) { authority(s); serving(s) },
		"the CA's Secret and the bundle": func(s *certificates.State) { authority(s); bundle(s) },
	}
}

// TestRotationFailsNoCall simulates random steps of time, losses, and delays of manager, replicas and clients: every
// call must verify. Of clients there are two kinds: those that follow the bundle, whatever is lost, and those that read it
// once within the notice of a CA, unless the key of a CA is lost.
func TestRotationFailsNoCall(t *testing.T) {
	policy := certificates.Policy{
		CADuration: 1000 * time.Second, CertificateDuration: 300 * time.Second, Propagation: 30 * time.Second, Notice: 300 * time.Second,
		Names: []string{"svc.ns.svc"},
	}
	everything := losses()
	noKey := maps.Clone(everything)
	maps.DeleteFunc(noKey, func(what string, _ func(*certificates.State)) bool {
		s := certificates.State{Authority: &certificates.Pair{}, Successor: &certificates.Pair{}}
		everything[what](&s)
		return s.Authority == nil || s.Successor == nil
	})
	if len(noKey) < 5 || len(noKey) > len(everything)-4 {
		t.Fatalf("%d of %d losses are of no key", len(noKey), len(everything))
	}
	seeds := uint64(4)
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("clients that follow, seed ", seed), func(t *testing.T) { simulate(t, policy, seed, everything, 0) })
		t.Run(fmt.Sprint("clients that read once, seed ", seed), func(t *testing.T) { simulate(t, policy, seed, noKey, policy.Notice) })
	}
}

// simulate checks clients that follow the bundle, and those that read the anchors within a time.
func simulate(t *testing.T, policy certificates.Policy, seed uint64, kinds map[string]func(*certificates.State), read time.Duration) {
	names := slices.Sorted(maps.Keys(kinds))
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	c := newCluster(policy)
	c.manage(t)
	quiet := c.now // until then nothing more is lost
	for c.now.Before(start.Add(3 * policy.CADuration)) {
		c.now = c.now.Add(time.Duration(1 + random.Int64N(int64(policy.Propagation/3))))
		if c.now.After(quiet) && random.IntN(12) == 0 {
			kinds[names[random.IntN(len(names))]](&c.state)
			quiet = c.now.Add(4 * policy.Propagation)
		}
		if random.IntN(8) > 0 {
			c.manage(t)
		}
		c.verifies(t, read)
	}
	if c.steps[certificates.IssueServing] < 4 || c.steps[certificates.CreateAuthority]+c.steps[certificates.Promote] < 4 {
		t.Errorf("steps %v", c.steps)
	}
}

// TestLostAuthorityIsReplacedWithoutHaste loses the key of the CA and expects that clients which never read again verify what
// is served almost until the serving certificate ends.
func TestLostAuthorityIsReplacedWithoutHaste(t *testing.T) {
	c := newCluster(yearly())
	c.manage(t)
	const day = 24 * time.Hour
	c.now = c.now.Add(30 * day)
	c.state.Authority = nil
	for c.manage(t); c.now.Before(start.Add(134 * day)); c.manage(t) {
		c.verifies(t, c.now.Sub(start))
		c.now = c.now.Add(day)
	}
	c.now = start.Add(136 * day)
	if steps := c.manage(t); !slices.Equal(steps, []certificates.Action{issue}) {
		t.Errorf("steps %q", steps)
	}
}

// TestRotationWithoutLossesNeverReplacesEarly checks that a CA is replaced about twice in its life, and that nothing is made
// twice.
func TestRotationWithoutLossesNeverReplacesEarly(t *testing.T) {
	day := 24 * time.Hour
	policy := certificates.Policy{CADuration: 365 * day, CertificateDuration: 150 * day, Propagation: 5 * time.Minute, Notice: 120 * day, Names: []string{"svc.ns.svc"}}
	c := newCluster(policy)
	c.manage(t)
	var signed []string // days on which another CA began to
	for c.now.Before(start.Add(1090 * day)) {
		c.now = policy.Next(c.state, c.now).At
		steps := c.manage(t)
		if slices.Contains(steps, promote) {
			signed = append(signed, fmt.Sprint(int(c.now.Sub(start)/day)))
		}
		if len(steps) > 0 {
			c.verifies(t, policy.Notice)
		}
	}
	// The CAs are made 120 days before; a certificate is issued at each change, and every 100 days from it.
	if got, want := strings.Join(signed, " "), "304 488 672 856 1040"; got != want {
		t.Errorf("CAs begin to sign on the days %s; want %s", got, want)
	}
	if c.steps[certificates.CreateAuthority] != 1 || c.steps[certificates.CreateSuccessor] != 5 || c.steps[certificates.Promote] != 5 {
		t.Errorf("steps %v", c.steps)
	}
	if issued := c.steps[certificates.IssueServing]; issued != 13 {
		t.Errorf("%d certificates issued: %v", issued, c.steps)
	}
	// A bundle changes when a CA is added, and when one has expired.
	if published := c.steps[certificates.Publish]; published != 1+5+4 {
		t.Errorf("%d bundles published", published)
	}
}

// TestSimulationFindsFailedCalls runs the simulation with a policy that does not wait for propagation, so that calls
// must fail.
func TestSimulationFindsFailedCalls(t *testing.T) {
	hasty := certificates.Policy{CADuration: 1000 * time.Second, CertificateDuration: 300 * time.Second, Propagation: 0, Names: []string{"svc.ns.svc"}}
	c := newCluster(hasty)
	c.manage(t)
	c.now = c.now.Add(time.Minute)
	c.state.Authority = nil
	c.manage(t)
	newest := c.leaves[len(c.leaves)-1].value
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(c.bundles[0].value))
	if _, err := newest.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: c.now}); err == nil {
		t.Error("the first bundle verifies a certificate of another CA")
	}
	if len(within(c.bundles, c.now.Add(-time.Second))) < 2 {
		t.Errorf("%d bundles could be read within the last second", len(within(c.bundles, c.now.Add(-time.Second))))
	}
}
