package certificates_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
)

const (
	createAuthority = certificates.CreateAuthority
	createSuccessor = certificates.CreateSuccessor
	promote         = certificates.Promote
	publish         = certificates.Publish
	issue           = certificates.IssueServing
)

// yearly is the policy by default.
func yearly() certificates.Policy {
	return certificates.Policy{CADuration: 8760 * time.Hour, CertificateDuration: 3600 * time.Hour, Propagation: 5 * time.Minute, Names: []string{"svc.ns.svc", "127.0.0.1", "2001:db8::1"}}
}

func TestNextGivesTheStepForAState(t *testing.T) {
	const day = 24 * time.Hour
	pass := func(d time.Duration) func(*cluster) { return func(c *cluster) { c.now = c.now.Add(d) } }
	// The CA's two thirds are over after 243 days.
	aCAIsDue := func(c *cluster) {
		for range 19 {
			pass(10 * day)(c)
			c.manage(t)
		}
		pass(4 * day)(c)
	}
	loses := func(what string) func(*cluster) { return func(c *cluster) { losses()[what](&c.state) } }
	both := func(first, second func(*cluster)) func(*cluster) { return func(c *cluster) { first(c); second(c) } }
	tests := map[string]struct {
		happens func(*cluster)
		atOnce  []certificates.Action
		later   []certificates.Action // after the propagation delay
	}{
		"nothing happens":                  {pass(0), nil, nil},
		"there is nothing at all":          {func(c *cluster) { c.state = certificates.State{} }, []certificates.Action{createAuthority, publish, issue}, nil},
		"the certificate's time has come":  {pass(50 * day), []certificates.Action{issue}, nil},
		"the certificate has expired":      {pass(100*day + time.Hour), []certificates.Action{issue}, nil},
		"the CA's time has come":           {aCAIsDue, []certificates.Action{createSuccessor, publish}, []certificates.Action{promote, issue}},
		"the CA has expired":               {pass(316 * day), []certificates.Action{createAuthority, publish, issue}, nil},
		"the CA is lost":                   {loses("the CA's Secret"), []certificates.Action{createAuthority, publish}, []certificates.Action{issue}},
		"the certificate is lost":          {loses("the serving certificate's Secret"), []certificates.Action{issue}, nil},
		"the bundle is lost":               {loses("the bundle"), []certificates.Action{publish}, nil},
		"the bundle loses its label":       {loses("the bundle's label"), []certificates.Action{publish}, nil},
		"the times are lost":               {loses("the bundle's times"), []certificates.Action{publish}, nil},
		"CA and certificate are lost":      {loses("both Secrets"), []certificates.Action{createAuthority, publish}, []certificates.Action{issue}},
		"the CA is lost, its bundle too":   {loses("the CA's Secret and the bundle"), []certificates.Action{createAuthority, publish}, []certificates.Action{issue}},
		"the bundle, then the certificate": {both(func(c *cluster) { loses("the bundle")(c); c.act(t) }, loses("the serving certificate's Secret")), []certificates.Action{issue}, nil},
		"the CA is lost at the end":        {both(pass(100*day+time.Hour), loses("the CA's Secret")), []certificates.Action{createAuthority, publish, issue}, nil},
		"a lost CA has a successor":        {func(c *cluster) { aCAIsDue(c); c.act(t); c.state.Authority = nil }, []certificates.Action{promote, publish}, []certificates.Action{issue}},
		"the service gets another name":    {func(c *cluster) { c.policy.Names = append(slices.Clone(c.policy.Names), "more") }, []certificates.Action{issue}, nil},
		"the names change their order":     {func(c *cluster) { c.policy.Names = []string{"2001:db8::1", "svc.ns.svc", "127.0.0.1"} }, nil, nil},
		"CAs are to live a month only":     {func(c *cluster) { c.policy.CADuration = 30 * day }, []certificates.Action{createSuccessor, publish}, []certificates.Action{promote, issue}},
		"certificates are to live a month": {func(c *cluster) { c.policy.CertificateDuration = 30 * day }, []certificates.Action{issue}, nil},
		"garbage gets into the bundle":     {func(c *cluster) { c.state.Bundle.Text += strings.Repeat("garbage\n", 3) }, []certificates.Action{publish}, nil},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			c := newCluster(yearly())
			c.manage(t)
			c.now = c.now.Add(50 * day)
			if steps := c.manage(t); len(steps) > 0 {
				t.Fatalf("not at rest: %q", steps)
			}
			test.happens(c)
			if steps := c.manage(t); !slices.Equal(steps, test.atOnce) {
				t.Errorf("at once %q; want %q", steps, test.atOnce)
			}
			if due := c.policy.Next(c.state, c.now).At; len(test.later) > 0 && due.After(c.now.Add(c.policy.Propagation)) {
				t.Errorf("it rests until %s, and something is to be done after %s", due.Sub(c.now), c.policy.Propagation)
			}
			c.now = c.now.Add(c.policy.Propagation)
			if steps := c.manage(t); !slices.Equal(steps, test.later) {
				t.Errorf("later %q; want %q", steps, test.later)
			}
		})
	}
}

func TestNextBoundsTheBundle(t *testing.T) {
	c := newCluster(yearly())
	for range 40 {
		c.state.Authority = nil
		c.manage(t)
		c.now = c.now.Add(time.Minute)
	}
	authorities := certificates.ParseBundle([]byte(c.state.Bundle.Text))
	if len(authorities) != 16 || !slices.ContainsFunc(authorities, c.state.Authority.Certificate.Equal) {
		t.Errorf("%d CAs in the bundle", len(authorities))
	}
}

func TestServingTemplateExpiresNoLaterThanItsCA(t *testing.T) {
	c := newCluster(yearly())
	authority := c.authority(t)
	leaf := c.policy.ServingTemplate(authority.Certificate, authority.Certificate.NotAfter.Add(-time.Hour))
	if leaf.NotAfter.After(authority.Certificate.NotAfter) {
		t.Errorf("it ends %s, and its CA %s", leaf.NotAfter, authority.Certificate.NotAfter)
	}
}

func TestParsePairRefusesWhatDoesNotBelongTogether(t *testing.T) {
	c := newCluster(yearly())
	authority, other := c.authority(t), c.authority(t)
	leaf := c.sign(t, c.policy.ServingTemplate(authority.Certificate, c.now), authority)
	certificate, key, err := authority.PEM()
	if err != nil {
		t.Fatal(err)
	}
	_, otherKey, err := other.PEM()
	if err != nil {
		t.Fatal(err)
	}
	leafCertificate, leafKey, err := leaf.PEM()
	if err != nil {
		t.Fatal(err)
	}
	for sentence, test := range map[string]struct {
		certificate, key []byte
		fits             bool
	}{
		"a CA and its key":             {certificate, key, true},
		"the key of another":           {certificate, otherKey, false},
		"no certificate":               {nil, key, false},
		"no key":                       {certificate, nil, false},
		"a key that is none":           {certificate, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), false},
		"a certificate that is no CA":  {leafCertificate, leafKey, false},
		"a certificate that is broken": {certificate[:100], key, false},
	} {
		if pair, err := certificates.ParseAuthority(test.certificate, test.key); (err == nil) != test.fits || (pair != nil) != test.fits {
			t.Errorf("%s: %v, %v", sentence, pair, err)
		}
	}
	if pair, err := certificates.ParsePair(leafCertificate, leafKey); err != nil || !pair.Certificate.Equal(leaf.Certificate) {
		t.Errorf("a serving certificate: %v", err)
	}
}
