package certificates_test

import (
	"crypto/x509"
	"net"
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
	return certificates.Policy{
		CADuration: 8760 * time.Hour, CertificateDuration: 3600 * time.Hour, Propagation: 5 * time.Minute, Notice: 2880 * time.Hour,
		Names: []string{"svc.ns.svc", "127.0.0.1", "2001:db8::1"},
	}
}

func TestNextGivesTheStepForAState(t *testing.T) {
	const day = 24 * time.Hour
	pass := func(d time.Duration) func(*cluster) { return func(c *cluster) { c.now = c.now.Add(d) } }
	// The next CA is due after 184 days, so that it signs after 304.
	aCAIsDue := func(c *cluster) {
		for range 13 {
			pass(10 * day)(c)
			c.manage(t)
		}
		pass(5 * day)(c)
	}
	loses := func(what string) func(*cluster) { return func(c *cluster) { losses()[what](&c.state) } }
	both := func(first, second func(*cluster)) func(*cluster) { return func(c *cluster) { first(c); second(c) } }
	wasAhead := func(d time.Duration) func(*cluster) { // the clock, for a while
		return func(c *cluster) { pass(d)(c); c.manage(t); pass(-d)(c) }
	}
	const soon = 5 * time.Minute
	tests := map[string]struct {
		happens func(*cluster)
		atOnce  []certificates.Action
		in      time.Duration // until there is something to do again, within a quarter of an hour; 0 is not soon
		then    []certificates.Action
	}{
		"nothing happens":                   {pass(0), nil, 0, nil},
		"there is nothing at all":           {func(c *cluster) { c.state = certificates.State{} }, []certificates.Action{createAuthority, publish, issue}, 0, nil},
		"the certificate's time has come":   {pass(50 * day), []certificates.Action{issue}, 0, nil},
		"the certificate has expired":       {pass(100*day + time.Hour), []certificates.Action{issue}, 0, nil},
		"the CA's time has come":            {aCAIsDue, []certificates.Action{createSuccessor, publish}, 15*day - 20*time.Minute, []certificates.Action{issue}},
		"the CA's time has long come":       {pass(300 * day), []certificates.Action{createSuccessor, publish, issue}, 15*day - 4*soon, []certificates.Action{promote, issue}},
		"the CA has expired":                {pass(316 * day), []certificates.Action{createAuthority, publish, issue}, 0, nil},
		"the clock was ahead":               {wasAhead(60 * day), []certificates.Action{issue}, 0, nil},
		"it was ahead for the next CA":      {wasAhead(140 * day), []certificates.Action{publish, issue}, 0, nil},
		"the clock was years ahead":         {wasAhead(730 * day), []certificates.Action{createAuthority, publish}, soon, []certificates.Action{issue}},
		"the CA is lost":                    {loses("the CA's Secret"), []certificates.Action{createAuthority, publish}, 85 * day, []certificates.Action{issue}},
		"the certificate is lost":           {loses("the serving certificate's Secret"), []certificates.Action{issue}, 0, nil},
		"the bundle is lost":                {loses("the bundle"), []certificates.Action{publish}, 0, nil},
		"the bundle loses its label":        {loses("the bundle's label"), []certificates.Action{publish}, 0, nil},
		"the times are lost":                {loses("the bundle's times"), []certificates.Action{publish}, 0, nil},
		"CA and certificate are lost":       {loses("both Secrets"), []certificates.Action{createAuthority, publish}, soon, []certificates.Action{issue}},
		"the CA is lost, its bundle too":    {loses("the CA's Secret and the bundle"), []certificates.Action{createAuthority, publish}, 85 * day, []certificates.Action{issue}},
		"the bundle, then the certificate":  {both(func(c *cluster) { loses("the bundle")(c); c.act(t) }, loses("the serving certificate's Secret")), []certificates.Action{issue}, 0, nil},
		"the CA, and later the certificate": {both(func(c *cluster) { loses("the CA's Secret")(c); c.manage(t); pass(day)(c) }, loses("the serving certificate's Secret")), []certificates.Action{issue}, 0, nil},
		"the CA is lost near the end":       {both(pass(90*day), loses("the CA's Secret")), []certificates.Action{createAuthority, publish}, soon, []certificates.Action{issue}},
		"the CA is lost at the end":         {both(pass(100*day+time.Hour), loses("the CA's Secret")), []certificates.Action{createAuthority, publish, issue}, 0, nil},
		"a lost CA has a successor":         {func(c *cluster) { aCAIsDue(c); c.act(t); c.state.Authority = nil }, []certificates.Action{promote, publish}, 50 * day, []certificates.Action{issue}},
		"the service gets another name":     {func(c *cluster) { c.policy.Names = append(slices.Clone(c.policy.Names), "more") }, []certificates.Action{createSuccessor, publish}, 50*day - 20*time.Minute, []certificates.Action{issue}},
		"the service gets other names":      {func(c *cluster) { c.policy.Names = []string{"more"} }, []certificates.Action{createSuccessor, publish}, soon, []certificates.Action{promote, issue}},
		"the service loses a name":          {func(c *cluster) { c.policy.Names = c.policy.Names[1:] }, []certificates.Action{issue}, 0, nil},
		"its names change twice": {func(c *cluster) {
			c.policy.Names = append(slices.Clone(c.policy.Names), "a")
			c.manage(t)
			c.policy.Names[3] = "b"
		}, []certificates.Action{createSuccessor, publish}, 50*day - 20*time.Minute, []certificates.Action{issue}},
		"the names change their order":     {func(c *cluster) { c.policy.Names = []string{"2001:db8::1", "svc.ns.svc", "127.0.0.1"} }, nil, 0, nil},
		"CAs are to live a month only":     {func(c *cluster) { c.policy.CADuration = 30 * day }, []certificates.Action{createSuccessor, publish}, 10 * day, []certificates.Action{promote, issue}},
		"certificates are to live a month": {func(c *cluster) { c.policy.CertificateDuration = 30 * day }, []certificates.Action{issue}, 0, nil},
		"the CA may certify any name": {func(c *cluster) {
			c.state = certificates.State{Authority: c.unconfined(t)}
		}, []certificates.Action{createSuccessor, publish, issue}, 0, nil},
		"garbage gets into the bundle": {func(c *cluster) { c.state.Bundle.Text += strings.Repeat("garbage\n", 3) }, []certificates.Action{publish}, 0, nil},
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
			after, steps := c.next(t, max(test.in, soon)+15*time.Minute)
			if !slices.Equal(steps, test.then) || len(steps) > 0 && (after-test.in).Abs() > 15*time.Minute {
				t.Errorf("after %s %q; want %q after %s", after, steps, test.then, test.in)
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

// TestAuthorityMayCertifyTheNamesOfTheServiceOnly verifies certificates that whoever has the CA's key could sign.
func TestAuthorityMayCertifyTheNamesOfTheServiceOnly(t *testing.T) {
	withAddresses, without := yearly(), yearly()
	without.Names = certificates.ServiceNames("svc", "ns")
	for name, test := range map[string]struct {
		policy   certificates.Policy
		verifies bool
	}{
		"svc.ns.svc":               {withAddresses, true},
		"svc.ns.svc.cluster.local": {without, true},
		"127.0.0.1":                {withAddresses, true},
		"2001:db8::1":              {withAddresses, true},
		"127.0.0.2":                {withAddresses, false},
		"10.0.0.1":                 {without, false},
		"2001:db8::2":              {without, false},
		"ghcr.io":                  {without, false},
		"kubernetes.default.svc":   {without, false},
		"svc.other.svc":            {without, false},
		"ns.svc":                   {without, false},
		"svc":                      {without, false},
	} {
		c := newCluster(test.policy)
		authority := c.authority(t)
		forged := c.policy
		forged.Names = []string{name}
		free := *authority.Certificate // so that the template does not leave the name out
		free.PermittedDNSDomains, free.PermittedIPRanges, free.ExcludedIPRanges = nil, nil, nil
		leaf := c.sign(t, forged.ServingTemplate(&free, c.now), authority)
		roots := x509.NewCertPool()
		roots.AddCert(authority.Certificate)
		if _, err := leaf.Certificate.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: c.now, DNSName: name}); (err == nil) != test.verifies {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNamesOfEveryKindAreCertified issues a certificate for each name that a policy may have.
func TestNamesOfEveryKindAreCertified(t *testing.T) {
	for name, valid := range map[string]bool{
		"svc.ns.svc": true, "*.example.com": true, "UPPER.example.com": true, "under_score.example.com": true, "127.0.0.1": true, "::1": true, "::ffff:10.0.0.1": true,
		"": false, ".": false, "trailing.example.com.": false, ".leading.example.com": false, "two..dots": false, "*": false, "a.*.b": false, "fe80::1%eth0": false,
		"https://svc": false, "svc:443": false, "ümlaut.example.com": false, strings.Repeat("a", 64) + ".svc": false, "a b": false,
		"svc": false, "*.SVC": false, "local": false, "cluster.local": false, "default.svc": false, "kubernetes.default.svc": false, "x.svc": true, // or every Service
	} {
		policy := yearly()
		policy.Names = []string{name}
		if err := policy.Validate(); (err == nil) != valid {
			t.Errorf("%q: %v", name, err)
		}
		if !valid {
			continue
		}
		c := newCluster(policy)
		c.manage(t)
		if n := c.steps[issue]; n != 1 {
			t.Errorf("%q: %d certificates", name, n)
		}
		roots := x509.NewCertPool()
		roots.AddCert(c.state.Authority.Certificate)
		if _, err := c.state.Serving.Certificate.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: c.now, DNSName: strings.Replace(name, "*", "x", 1)}); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestNamesWaitForACAThatMayCertifyThem adds a name, and expects that what is served verifies at any time, with the name in
// the end.
func TestNamesWaitForACAThatMayCertifyThem(t *testing.T) {
	c := newCluster(yearly())
	c.manage(t)
	c.policy.Names = append(slices.Clone(c.policy.Names), "more.example.com")
	for range 130 {
		c.now = c.now.Add(24 * time.Hour)
		c.manage(t)
		c.verifies(t, c.policy.Notice)
	}
	if names := c.state.Serving.Certificate.DNSNames; !slices.Contains(names, "more.example.com") {
		t.Errorf("the names are %q", names)
	}
}

// TestPendingTellsWhenACASigns holds what is told against what then happens.
func TestPendingTellsWhenACASigns(t *testing.T) {
	const day = 24 * time.Hour
	for sentence, test := range map[string]struct {
		happens   func(*cluster)
		published int // day
		signs     int
	}{
		"the CA is new":                             {func(*cluster) {}, -1, 0},
		"the next CA is published":                  {func(c *cluster) { c.now = c.now.Add(150 * day) }, 190, 310},
		"the CA was lost, and the certificate ends": {func(c *cluster) { c.state.Authority = nil }, 40, 135},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := newCluster(yearly())
			c.manage(t)
			c.now = c.now.Add(40 * day)
			test.happens(c)
			c.manage(t)
			change, is := c.policy.Pending(c.state, c.now)
			if !is || test.published < 0 {
				if is || test.published >= 0 {
					t.Errorf("%+v, %t", change, is)
				}
				return
			}
			if from, to := change.Since.Sub(start), change.At.Sub(start); from/day != time.Duration(test.published) || to.Round(day)/day != time.Duration(test.signs) {
				t.Errorf("published after %s, signs after %s", from, to)
			}
			for c.now.Before(change.At.Add(-time.Hour)) {
				if c.state.Serving.Certificate.CheckSignatureFrom(change.Authority) == nil {
					t.Fatalf("it signs after %s", c.now.Sub(start))
				}
				c.now = c.now.Add(day / 2)
				c.manage(t)
			}
			c.now = change.At.Add(day)
			c.manage(t)
			if err := c.state.Serving.Certificate.CheckSignatureFrom(change.Authority); err != nil {
				t.Error(err)
			}
			if change, is := c.policy.Pending(c.state, c.now); is {
				t.Errorf("still %+v", change)
			}
		})
	}
}

// TestAnchorsLeaveOutWhatOthersAdd writes CAs of an attacker, under the name of ours, to the bundle.
func TestAnchorsLeaveOutWhatOthersAdd(t *testing.T) {
	all := func(template *x509.Certificate) { template.PermittedDNSDomains, template.PermittedIPRanges = nil, nil }
	for sentence, edit := range map[string]func(*x509.Certificate){
		"one for all names": all,
		"one for another name": func(template *x509.Certificate) {
			template.PermittedDNSDomains = append(template.PermittedDNSDomains, "io")
		},
		"one for all addresses":     func(template *x509.Certificate) { template.PermittedIPRanges = nil },
		"one for addresses only":    func(template *x509.Certificate) { template.PermittedDNSDomains = nil },
		"one for a range":           func(template *x509.Certificate) { template.PermittedIPRanges[0].Mask = net.CIDRMask(24, 32) },
		"one that says it politely": func(template *x509.Certificate) { template.PermittedDNSDomainsCritical = false },
		"one that excludes an address": func(template *x509.Certificate) {
			template.ExcludedIPRanges, template.PermittedIPRanges = []*net.IPNet{{IP: net.IPv4(10, 0, 0, 1).To4(), Mask: net.CIDRMask(32, 32)}}, nil
		},
		"one that excludes a name": func(template *x509.Certificate) { all(template); template.ExcludedDNSDomains = []string{"example.com"} },
	} {
		t.Run(sentence, func(t *testing.T) {
			c := newCluster(yearly())
			c.manage(t)
			first := c.state.Authority.Certificate
			template := c.policy.AuthorityTemplate("x", c.now)
			edit(template)
			added := c.sign(t, template, nil).Certificate
			c.state.Bundle.Text += certificates.EncodeBundle([]*x509.Certificate{added})
			c.manage(t)
			if !strings.Contains(c.state.Bundle.Text, certificates.EncodeBundle([]*x509.Certificate{added})) {
				t.Fatal("the bundle is as before, so that this tests nothing")
			}
			if got := c.policy.Anchors(c.state, c.now); got != certificates.EncodeBundle([]*x509.Certificate{first}) {
				t.Errorf("the anchors are\n%s", got)
			}
			c.state.Authority = nil
			c.manage(t)
			got := certificates.ParseBundle([]byte(c.policy.Anchors(c.state, c.now)))
			if len(got) != 2 || slices.ContainsFunc(got, added.Equal) || !slices.ContainsFunc(got, first.Equal) {
				t.Errorf("after the CA was lost there are %d anchors, and want the new CA and the lost one", len(got))
			}
		})
	}
}

// TestAnchorsReplaceACAForAllNames starts with a CA without constraints: it is an anchor for as long as its certificate is served.
func TestAnchorsReplaceACAForAllNames(t *testing.T) {
	c := newCluster(yearly())
	unconfined := c.unconfined(t)
	c.state.Authority = unconfined
	anchored := func() bool {
		return slices.ContainsFunc(certificates.ParseBundle([]byte(c.policy.Anchors(c.state, c.now))), unconfined.Certificate.Equal)
	}
	if !anchored() {
		t.Error("it is none before its first certificate")
	}
	for day := range 122 {
		if c.manage(t); day < 120 && !anchored() {
			t.Fatalf("it is none on day %d", day)
		}
		c.now = c.now.Add(24 * time.Hour)
	}
	if anchored() {
		t.Error("it is one after the next CA's notice")
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
