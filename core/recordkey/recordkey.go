// Package recordkey decides how the key that signs the log of decision records is made, published and replaced. It is pure: the
// shell reads a [State], calls [Policy.Next], carries out the [Step] and reads again, until there is nothing to do.
//
// A Secret holds the key that replicas sign with and, during a replacement, the next one; a ConfigMap holds the public keys, with
// the time for which each is valid, as self-signed certificates. A key comes into use so:
//
//	Secret      key A            ConfigMap  A       A signs
//	Secret      key A, next B    ConfigMap  A       B is made, after two thirds of A's life, and copied to the Secret's public keys
//	Secret      key A, next B    ConfigMap  A, B    B is published
//	Secret      key B            ConfigMap  A, B    B signs
//
// so that nothing is signed with a key that nobody can look up later. Replicas read the Secret late; A is valid for another third
// of its life. The Secret has a copy of the public keys, and that copy decides: what somebody adds to the ConfigMap or removes from
// it is put right. Public keys stay after they have expired, for as long as logs are verified with them.
package recordkey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
)

// Subject is the common name of the certificates.
const Subject = "kyverno-notation-venafi records"

// Name is that of the Secret and of the ConfigMap where no other is set; PublicKey is the key of both under which the public keys
// are, PEM.
const (
	Name      = "kyverno-notation-venafi-records"
	PublicKey = "public-keys.pem"
)

// mostPublished bounds the public keys that are kept. With a life of 90 days they go back ten years.
const mostPublished = 64

// Policy says how long a key is used.
type Policy struct {
	Duration time.Duration // of a key's validity; after two thirds of it the next one signs. 0 for no key
}

// Validate says why a policy cannot be followed.
func (p Policy) Validate() error {
	if p.Duration != 0 && p.Duration < time.Hour {
		return fmt.Errorf("the key for records is valid for %s; it must be at least an hour, or 0 for no key", p.Duration)
	}
	return nil
}

// State is what exists. The zero value is a new cluster.
type State struct {
	Key, Next *certificates.Pair  // nil where there is none that can be used
	Public    []*x509.Certificate // copy of the public keys in the Secret
	Published []*x509.Certificate // in the ConfigMap
	Exact     bool                // the ConfigMap holds Published in the form of Encode, and nothing else under its key
}

// Action is a kind of step.
type Action string

// The steps. After each the state is read anew.
const (
	Rest    Action = "rest"                    // for Step.Wait, or until a change
	Create  Action = "create the next key"     // as the Secret's next one
	Copy    Action = "copy the public keys"    // into the Secret: Step.Public
	Publish Action = "publish the public keys" // Step.Public
	Promote Action = "let the next key sign"   // as the Secret's key, with no next one
)

const longestRest = 24 * time.Hour

// Step is what to do next, and why.
type Step struct {
	Action Action
	Reason string
	Public []*x509.Certificate
	Wait   time.Duration
}

// Next decides the next step.
func (p Policy) Next(s State, now time.Time) Step {
	if p.Duration == 0 {
		return Step{Action: Rest, Wait: longestRest}
	}
	public := s.wanted()
	due := now
	if usable(s.Key, now) {
		due = renewal(s.Key.Certificate, p.Duration)
	}
	switch {
	case !usable(s.Next, now) && !usable(s.Key, now):
		return Step{Action: Create, Reason: "there is no key, or none that is valid", Public: public}
	case !usable(s.Next, now) && !now.Before(due):
		return Step{Action: Create, Reason: "two thirds of the key's life are over", Public: public}
	case !slices.EqualFunc(s.Public, public, (*x509.Certificate).Equal):
		return Step{Action: Copy, Reason: "the Secret does not hold those of its keys", Public: public}
	case !s.Exact || !slices.EqualFunc(s.Published, public, (*x509.Certificate).Equal):
		return Step{Action: Publish, Reason: "the ConfigMap does not hold what it should", Public: public}
	case usable(s.Next, now):
		return Step{Action: Promote, Reason: "it is published", Public: public}
	}
	return Step{Action: Rest, Wait: min(due.Sub(now), longestRest)}
}

// wanted gives the public keys that should be published: those in the Secret's copy, and those of its keys. Where the Secret has no
// copy, as after it was deleted, those that are published stay.
func (s State) wanted() []*x509.Certificate {
	var own []*x509.Certificate
	for _, pair := range []*certificates.Pair{s.Key, s.Next} {
		if pair != nil {
			own = append(own, pair.Certificate)
		}
	}
	others := s.Public
	if len(others) == 0 {
		others = s.Published
	}
	others = certificates.Ordered(slices.DeleteFunc(slices.Clone(others), func(c *x509.Certificate) bool { return slices.ContainsFunc(own, c.Equal) }))
	if room := mostPublished - len(own); len(others) > room {
		others = others[len(others)-room:] // the youngest
	}
	return certificates.Ordered(append(others, own...))
}

func usable(pair *certificates.Pair, now time.Time) bool {
	return pair != nil && !now.Before(pair.Certificate.NotBefore) && now.Before(pair.Certificate.NotAfter)
}

// renewal is when the next key is due. A policy that became shorter holds for the present key too.
func renewal(c *x509.Certificate, duration time.Duration) time.Time {
	return c.NotBefore.Add(min(c.NotAfter.Sub(c.NotBefore), duration) * 2 / 3)
}

// Template is the template of a new key's certificate, without the serial number.
func (p Policy) Template(now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: Subject},
		NotBefore:             now,
		NotAfter:              now.Add(p.Duration),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
}

// Parse gives the public keys in a PEM text, each once, ordered by age. It skips everything else.
func Parse(text []byte) []*x509.Certificate {
	return certificates.Ordered(slices.DeleteFunc(certificates.ParseCertificates(text), func(c *x509.Certificate) bool { return !isKey(c) }))
}

// ParsePair reads the PEM of a key that signs records.
func ParsePair(certificate, key []byte) (*certificates.Pair, error) {
	pair, err := certificates.ParsePair(certificate, key)
	if err == nil && !isKey(pair.Certificate) {
		return nil, fmt.Errorf("the certificate is not one of an ECDSA P-256 key named %q", Subject)
	}
	return pair, err
}

// Encode is the text that Parse reads.
func Encode(public []*x509.Certificate) string { return certificates.EncodeBundle(public) }

// isKey tells whether a certificate is that of a key for records: of P-256, with the name, signed by itself.
func isKey(c *x509.Certificate) bool {
	public, ok := c.PublicKey.(*ecdsa.PublicKey)
	return ok && public.Curve == elliptic.P256() && c.Subject.CommonName == Subject && !c.IsCA &&
		c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}
