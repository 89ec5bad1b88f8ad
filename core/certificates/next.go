package certificates

import (
	"crypto/x509"
	"slices"
	"time"

	"github.com/samber/lo"
)

// State is what exists in the cluster. The zero value is a new cluster.
type State struct {
	Authority *Pair               // the CA that signs; nil where none can be used
	Successor *Pair               // the CA that will sign next; nil for none
	Serving   *Pair               // the serving certificate; nil where none can be used
	Copy      []*x509.Certificate // copy of the bundle in the Secret of the serving certificate
	Bundle    Bundle
}

// Bundle is the published CA bundle.
type Bundle struct {
	Text   string               // as it is published
	Listed bool                 // clients can find it
	Since  map[string]time.Time // fingerprint of a CA -> when it was published; absent where that was not recorded
}

// Action is a kind of step.
type Action string

// The steps. After each the state is gathered anew.
const (
	Rest            Action = "rest"                          // until Step.At, or a change
	CreateAuthority Action = "create the CA"                 // replaces one that cannot be used; a successor is dropped
	CreateSuccessor Action = "create the next CA"            // beside the one that signs
	Promote         Action = "let the next CA sign"          // the successor becomes the CA that signs
	Publish         Action = "publish the CA bundle"         // Step.Bundle
	IssueServing    Action = "issue the serving certificate" // signed by the CA, with a copy of the bundle
)

const (
	shortestRest    = 100 * time.Millisecond
	longestRest     = 24 * time.Hour
	mostAuthorities = 16 // in a bundle, in case that someone deletes the CA again and again
	hurry           = 4  // propagation times before a certificate ends, no CA waits for its notice any longer
)

// Step is what to do next, and why.
type Step struct {
	Action Action
	Reason string
	Bundle Bundle    // to publish
	At     time.Time // of Rest: when to look again even without a change
}

// Next decides the next step.
func (p Policy) Next(s State, now time.Time) Step {
	for _, rule := range []func(Policy, State, time.Time) (Step, bool){
		replaceUnusableAuthority, promote, succeedAuthority, publish, issue,
	} {
		if step, applies := rule(p, s, now); applies {
			return step
		}
	}
	return Step{Action: Rest, At: p.due(s, now)}
}

// usable tells whether a CA can sign now. One that a clock made which was ahead is not valid for clients.
func usable(authority *Pair, now time.Time) bool {
	return authority != nil && !expired(authority.Certificate, now) && !early(authority.Certificate, now)
}

func replaceUnusableAuthority(_ Policy, s State, now time.Time) (Step, bool) {
	if usable(s.Authority, now) || usable(s.Successor, now) {
		return Step{}, false
	}
	reason := "the CA is missing or cannot be used"
	if s.Authority != nil {
		reason = "the CA has expired, or is not valid yet"
	}
	return Step{Action: CreateAuthority, Reason: reason}, true
}

// promote makes the successor the CA that signs, when clients know it or when nothing else can sign.
func promote(p Policy, s State, now time.Time) (Step, bool) {
	switch {
	case !usable(s.Successor, now):
		return Step{}, false
	case !usable(s.Authority, now):
		return Step{Action: Promote, Reason: "the CA before it cannot be used"}, true
	}
	at, published := p.signsAt(s)
	if !published || now.Before(at) {
		return Step{}, false
	}
	return Step{Action: Promote, Reason: "clients had time to learn of it"}, true
}

// signsAt is when the successor becomes the CA that signs: after its notice, but while the CA before it can still sign. Where
// that one may not certify any of the service's names, no client loses by haste. It gives false while the successor is not
// published.
func (p Policy) signsAt(s State) (time.Time, bool) {
	since, published := s.Bundle.Since[Fingerprint(s.Successor.Certificate)]
	at := since.Add(p.notice())
	if len(p.certifiable(s.Authority.Certificate)) == 0 {
		at = since
	}
	if latest := s.Authority.Certificate.NotAfter.Add(-hurry * p.propagation()); at.After(latest) {
		at = latest
	}
	if earliest := since.Add(p.propagation()); at.Before(earliest) {
		at = earliest
	}
	return at, published
}

func succeedAuthority(p Policy, s State, now time.Time) (Step, bool) {
	last := s.Authority // of the CAs that exist
	if usable(s.Successor, now) {
		last = s.Successor
	}
	switch {
	case !slices.Equal(p.certifiable(last.Certificate), p.wanted()):
		return Step{Action: CreateSuccessor, Reason: "the CA may not certify all names of the service"}, true
	case len(permitted(last.Certificate)) == 0:
		return Step{Action: CreateSuccessor, Reason: "the CA may certify names of others"}, true
	case last == s.Authority && !now.Before(p.successionDue(s.Authority.Certificate)):
		return Step{Action: CreateSuccessor, Reason: "the CA's time to sign ends, and the next one must be published before"}, true
	}
	return Step{}, false
}

// known tells whether a CA has been published for a time.
func known(s State, authority *x509.Certificate, now time.Time, long time.Duration) bool {
	since, published := s.Bundle.Since[Fingerprint(authority)]
	return published && !now.Before(since.Add(long))
}

// publish brings the bundle up to date.
func publish(_ Policy, s State, now time.Time) (Step, bool) {
	want := Bundle{Listed: true, Since: map[string]time.Time{}}
	authorities := trusted(s, now)
	want.Text = EncodeBundle(authorities)
	for _, authority := range authorities {
		want.Since[Fingerprint(authority)] = since(s, authority, now)
	}
	switch {
	case s.Bundle.Text != want.Text:
		return Step{Action: Publish, Reason: "the bundle does not hold what it should", Bundle: want}, true
	case !s.Bundle.Listed:
		return Step{Action: Publish, Reason: "the bundle has lost its label", Bundle: want}, true
	case !sameTimes(s.Bundle.Since, want.Since):
		return Step{Action: Publish, Reason: "the bundle does not tell when its CAs were published", Bundle: want}, true
	}
	return Step{}, false
}

func sameTimes(a, b map[string]time.Time) bool {
	if len(a) != len(b) {
		return false
	}
	for name, at := range a {
		if other, ok := b[name]; !ok || !at.Equal(other) {
			return false
		}
	}
	return true
}

// trusted gives the CAs that belong in the bundle: the current one, its successor, and all in the bundle or its copy that have
// not expired.
func trusted(s State, now time.Time) []*x509.Certificate {
	own := []*x509.Certificate{s.Authority.Certificate}
	if s.Successor != nil {
		own = append(own, s.Successor.Certificate)
	}
	others := slices.DeleteFunc(Ordered(slices.Concat(ParseBundle([]byte(s.Bundle.Text)), s.Copy)), func(c *x509.Certificate) bool {
		return slices.ContainsFunc(own, c.Equal) || expired(c, now)
	})
	if room := mostAuthorities - len(own); len(others) > room {
		others = others[len(others)-room:] // the youngest
	}
	return Ordered(append(own, others...))
}

// Anchors is the text of the bundle for clients that trust its CAs for whatever they call. It leaves out CAs that may certify
// other names than those of the service, so that who can write the published bundle adds none of those. The CAs whose keys the
// Secrets hold, and the one that signed the serving certificate, are in it in any case.
func (p Policy) Anchors(s State, now time.Time) string {
	var anchors []*x509.Certificate
	for _, pair := range []*Pair{s.Authority, s.Successor} {
		if pair != nil {
			anchors = append(anchors, pair.Certificate)
		}
	}
	for _, authority := range slices.Concat(ParseBundle([]byte(s.Bundle.Text)), s.Copy) {
		if p.confines(authority) || s.Serving != nil && s.Serving.Certificate.CheckSignatureFrom(authority) == nil {
			anchors = append(anchors, authority)
		}
	}
	return EncodeBundle(slices.DeleteFunc(Ordered(anchors), func(c *x509.Certificate) bool { return expired(c, now) }))
}

// Change is a change of the CA whose certificates are served.
type Change struct {
	Authority *x509.Certificate // that will sign
	Since     time.Time         // when it was published
	At        time.Time         // when it will sign, or somewhat later
}

// Pending gives the change of the CA that is due, and false while none is.
func (p Policy) Pending(s State, now time.Time) (Change, bool) {
	if s.Authority == nil || s.Serving == nil {
		return Change{}, false
	}
	next := s.Authority.Certificate
	since, published := s.Bundle.Since[Fingerprint(next)]
	at := since.Add(p.notice())
	if last := p.lastMoment(s.Serving.Certificate); at.After(last) {
		at = last
	}
	if s.Serving.Certificate.CheckSignatureFrom(next) == nil {
		if s.Successor == nil {
			return Change{}, false
		}
		next = s.Successor.Certificate
		since = s.Bundle.Since[Fingerprint(next)]
		at, published = p.signsAt(s)
	}
	return Change{next, since, at}, published && at.After(now)
}

// since gives when a CA was published: as recorded for a CA in the bundle, else now. It gives the zero time, so that the CA
// need not wait, in two cases: the record is lost but a serving certificate of the CA shows that clients knew it; or there is
// neither bundle nor serving certificate, so that no client can trust anything yet.
func since(s State, authority *x509.Certificate, now time.Time) time.Time {
	inBundle := ParseBundle([]byte(s.Bundle.Text))
	published, recorded := s.Bundle.Since[Fingerprint(authority)]
	switch {
	case recorded && slices.ContainsFunc(inBundle, authority.Equal) && !published.After(now):
		return published
	case s.Serving != nil && s.Serving.Certificate.CheckSignatureFrom(authority) == nil:
		return time.Time{}
	case len(inBundle) == 0 && s.Serving == nil && authority.Equal(s.Authority.Certificate):
		return time.Time{}
	}
	return now
}

// issue replaces a serving certificate that has a flaw, once clients know the CA. It issues none without names, where the CA
// may certify none of them.
func issue(p Policy, s State, now time.Time) (Step, bool) {
	reason := p.flaw(s, now)
	if reason == "" || !p.mayIssue(s, now) || len(p.certifiable(s.Authority.Certificate)) == 0 {
		return Step{}, false
	}
	return Step{Action: IssueServing, Reason: reason}, true
}

// mayIssue tells whether the CA may sign. It waits for its notice as long as there is a serving certificate of a CA that
// clients have known for longer, then for the propagation time, and not at all where no client accepts the old one. One that is
// not valid yet counts as accepted for the propagation time, since it may be the present clock that is wrong.
func (p Policy) mayIssue(s State, now time.Time) bool {
	wait := p.notice()
	if s.Serving == nil || early(s.Serving.Certificate, now) || !now.Before(p.lastMoment(s.Serving.Certificate)) || len(lo.Intersect(namesOf(s.Serving.Certificate), p.wanted())) == 0 {
		wait = p.propagation()
	}
	return known(s, s.Authority.Certificate, now, wait) || s.Serving != nil && expired(s.Serving.Certificate, now)
}

// flaw says why the serving certificate should be replaced; "" when it is good.
func (p Policy) flaw(s State, now time.Time) string {
	if s.Serving == nil {
		return "the serving certificate is missing or cannot be used"
	}
	certificate := s.Serving.Certificate
	switch {
	case expired(certificate, now):
		return "the serving certificate has expired"
	case early(certificate, now):
		return "the serving certificate is not valid yet"
	case certificate.CheckSignatureFrom(s.Authority.Certificate) != nil:
		return "the serving certificate is of another CA"
	case !slices.Equal(namesOf(certificate), p.certifiable(s.Authority.Certificate)):
		return "the service has other names"
	case !slices.ContainsFunc(s.Copy, s.Authority.Certificate.Equal):
		return "the copy of the bundle lacks the CA"
	case !now.Before(renewal(certificate, p.CertificateDuration)) && certificate.NotAfter.Before(s.Authority.Certificate.NotAfter): // else a new one would end with the CA too
		return "two thirds of the serving certificate's life are over"
	}
	return ""
}

// due is when the next step is due, if nothing changes before.
func (p Policy) due(s State, now time.Time) time.Time {
	next := now.Add(longestRest)
	add := func(at time.Time) {
		if at.After(now) && at.Before(next) {
			next = at
		}
	}
	add(p.successionDue(s.Authority.Certificate))
	if s.Successor != nil {
		at, _ := p.signsAt(s)
		add(at)
	}
	for _, authority := range trusted(s, now) {
		add(authority.NotAfter.Add(1)) // it is valid up to and including NotAfter
		add(s.Bundle.Since[Fingerprint(authority)].Add(p.propagation()))
		add(s.Bundle.Since[Fingerprint(authority)].Add(p.notice()))
	}
	if s.Serving != nil {
		add(renewal(s.Serving.Certificate, p.CertificateDuration))
		add(p.lastMoment(s.Serving.Certificate))
		add(s.Serving.Certificate.NotAfter.Add(1))
	}
	if earliest := now.Add(shortestRest); next.Before(earliest) {
		return earliest
	}
	return next
}
