package certificates

import (
	"crypto/x509"
	"slices"
	"time"
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

// usable tells whether a CA can sign now.
func usable(authority *Pair, now time.Time) bool {
	return authority != nil && !expired(authority.Certificate, now)
}

func replaceUnusableAuthority(_ Policy, s State, now time.Time) (Step, bool) {
	if usable(s.Authority, now) || usable(s.Successor, now) {
		return Step{}, false
	}
	reason := "the CA is missing or cannot be used"
	if s.Authority != nil {
		reason = "the CA has expired"
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
	case p.known(s, s.Successor.Certificate, now):
		return Step{Action: Promote, Reason: "clients had time to learn of it"}, true
	}
	return Step{}, false
}

func succeedAuthority(p Policy, s State, now time.Time) (Step, bool) {
	if usable(s.Successor, now) || now.Before(renewal(s.Authority.Certificate, p.CADuration)) {
		return Step{}, false
	}
	return Step{Action: CreateSuccessor, Reason: "two thirds of the CA's life are over"}, true
}

// known tells whether a CA has been published for the propagation time, so that every client has it.
func (p Policy) known(s State, authority *x509.Certificate, now time.Time) bool {
	since, published := s.Bundle.Since[Fingerprint(authority)]
	return published && !now.Before(since.Add(p.propagation()))
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
	others := slices.DeleteFunc(ordered(slices.Concat(ParseBundle([]byte(s.Bundle.Text)), s.Copy)), func(c *x509.Certificate) bool {
		return slices.ContainsFunc(own, c.Equal) || expired(c, now)
	})
	if room := mostAuthorities - len(own); len(others) > room {
		others = others[len(others)-room:] // the youngest
	}
	return ordered(append(own, others...))
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

// issue replaces a serving certificate that has a flaw, once clients know the CA. It does not wait where the old one has
// expired, since no client accepts that one.
func issue(p Policy, s State, now time.Time) (Step, bool) {
	reason := p.flaw(s, now)
	if reason == "" || !p.mayIssue(s, now) {
		return Step{}, false
	}
	return Step{Action: IssueServing, Reason: reason}, true
}

func (p Policy) mayIssue(s State, now time.Time) bool {
	return p.known(s, s.Authority.Certificate, now) || s.Serving != nil && expired(s.Serving.Certificate, now)
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
	case certificate.CheckSignatureFrom(s.Authority.Certificate) != nil:
		return "the serving certificate is of another CA"
	case !slices.Equal(namesOf(certificate), p.wanted()):
		return "the service has other names"
	case !slices.ContainsFunc(s.Copy, s.Authority.Certificate.Equal):
		return "the copy of the bundle lacks the CA"
	case !now.Before(renewal(certificate, p.CertificateDuration)):
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
	add(renewal(s.Authority.Certificate, p.CADuration))
	for _, authority := range trusted(s, now) {
		add(authority.NotAfter.Add(1)) // it is valid up to and including NotAfter
		add(s.Bundle.Since[Fingerprint(authority)].Add(p.propagation()))
	}
	if s.Serving != nil {
		add(renewal(s.Serving.Certificate, p.CertificateDuration))
		add(s.Serving.Certificate.NotAfter.Add(1))
	}
	if earliest := now.Add(shortestRest); next.Before(earliest) {
		return earliest
	}
	return next
}
