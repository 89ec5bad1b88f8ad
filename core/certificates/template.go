package certificates

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/samber/lo"
)

// Subject is the common name of the CAs.
const Subject = "kyverno-notation-venafi"

// Policy has the wanted properties of the certificates.
type Policy struct {
	CADuration          time.Duration
	CertificateDuration time.Duration
	Propagation         time.Duration // within which a client that follows the bundle reads a change, and every replica a changed certificate
	Notice              time.Duration // for which a CA is published before it signs, for clients that read the bundle only when they start
	Names               []string      // DNS names and IP addresses under which the service is called
}

// ShortestDuration of a certificate. Shorter ones cannot be rotated in time, since certificates have times in whole seconds.
const ShortestDuration = 5 * time.Second

// Validate says why a policy cannot be followed.
func (p Policy) Validate() error {
	switch {
	case p.CertificateDuration < ShortestDuration:
		return fmt.Errorf("the serving certificate's duration is %s; it must be at least %s", p.CertificateDuration, ShortestDuration)
	case p.CADuration < p.CertificateDuration:
		return fmt.Errorf("the CA's duration is %s; it must not be less than the serving certificate's, %s", p.CADuration, p.CertificateDuration)
	case p.Propagation < 0:
		return errors.New("the propagation delay is negative")
	case p.Notice < 0:
		return errors.New("the notice of a CA is negative")
	case len(p.Names) == 0:
		return errors.New("the serving certificate has no names")
	}
	for _, name := range p.Names {
		if address, err := netip.ParseAddr(name); err == nil && address.Zone() == "" || err != nil && isDNSName(name) {
			if isAboveServices(name) {
				return fmt.Errorf("the serving certificate cannot have the name %q, since its CA could then certify the API server too", name)
			}
			continue
		}
		return fmt.Errorf("the serving certificate cannot have the name %q, which is neither a DNS name nor an IP address without a zone", name)
	}
	return nil
}

// isDNSName tells whether a name can stand in a certificate and, without a wildcard, in a name constraint.
func isDNSName(name string) bool {
	for label := range strings.SplitSeq(strings.TrimPrefix(name, "*."), ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			return false
		}
	}
	return len(name) <= 253
}

// isAboveServices tells whether a CA that may certify a name may also certify the API server's Service.
func isAboveServices(name string) bool {
	below := "." + strings.ToLower(constraint(name))
	return strings.HasSuffix(".kubernetes.default.svc", below) || strings.HasSuffix(".kubernetes.default.svc.cluster.local", below)
}

// ServiceNames are the DNS names of a Service within the cluster. The name without the namespace is not one of them: a CA that
// may certify "svc" may certify every Service, since a name constraint holds for all names below a name.
func ServiceNames(service, namespace string) []string {
	name := service + "." + namespace
	return []string{name + ".svc", name + ".svc.cluster.local", name}
}

// propagation is the propagation time, shortened for short-lived certificates: twice of it fits into the time that is left of
// a certificate when its replacement is due.
func (p Policy) propagation() time.Duration {
	return min(p.Propagation, p.CADuration/10, p.CertificateDuration/10)
}

// notice is the notice of a CA, at most a third of its life and at least the propagation time.
func (p Policy) notice() time.Duration {
	return max(min(p.Notice, p.CADuration/3), p.propagation())
}

// lifeOf is the life of a certificate, or the configured life where that is shorter.
func lifeOf(c *x509.Certificate, duration time.Duration) time.Duration {
	return min(c.NotAfter.Sub(c.NotBefore), duration+backdating(duration))
}

// renewal is when a serving certificate's replacement is due: after two thirds of its life.
func renewal(c *x509.Certificate, duration time.Duration) time.Time {
	return c.NotBefore.Add(lifeOf(c, duration) * 2 / 3)
}

// lastMoment is until when a serving certificate may wait for a CA that clients should know for longer.
func (p Policy) lastMoment(c *x509.Certificate) time.Time {
	return c.NotAfter.Add(-max(lifeOf(c, p.CertificateDuration)/10, hurry*p.propagation()))
}

// successionDue is when the next CA must be published: its notice before the CA stops signing, which is after five sixths of
// its life.
func (p Policy) successionDue(authority *x509.Certificate) time.Time {
	return authority.NotBefore.Add(lifeOf(authority, p.CADuration)*5/6 - p.notice())
}

// backdating is how far NotBefore is in the past, so that clients with a slow clock accept a new certificate.
func backdating(duration time.Duration) time.Duration { return min(time.Hour, duration/10) }

// AuthorityTemplate is the template of a new CA, without the serial number. serialName makes its subject unique, since clients
// that look up an issuer by name would confuse two CAs of the same name. The CA may certify the policy's names only (RFC 5280,
// section 4.2.1.10), because clients trust it for whatever they call.
func (p Policy) AuthorityTemplate(serialName string, now time.Time) *x509.Certificate {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: Subject, SerialNumber: serialName},
		NotBefore:             now.Add(-backdating(p.CADuration)),
		NotAfter:              now.Add(p.CADuration),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,

		PermittedDNSDomainsCritical: true,
	}
	for _, name := range p.Names {
		address, err := netip.ParseAddr(name)
		if err != nil {
			template.PermittedDNSDomains = append(template.PermittedDNSDomains, constraint(name))
			continue
		}
		only := newElement(template.PermittedIPRanges)
		only.IP, only.Mask = address.Unmap().AsSlice(), bytes.Repeat([]byte{0xff}, address.Unmap().BitLen()/8)
		template.PermittedIPRanges = append(template.PermittedIPRanges, only)
	}
	if len(template.PermittedIPRanges) == 0 { // which would permit all
		for _, zero := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			all := newElement(template.ExcludedIPRanges)
			all.IP, all.Mask = zero.AsSlice(), make([]byte, zero.BitLen()/8)
			template.ExcludedIPRanges = append(template.ExcludedIPRanges, all)
		}
	}
	return template
}

// newElement makes an element of a list without its type's name. That of ranges is in package net, which the core does not
// import.
func newElement[T any](_ []*T) *T { return new(T) }

// texts gives how values are written.
func texts[T fmt.Stringer](values []T) []string {
	return lo.Map(values, func(value T, _ int) string { return value.String() })
}

// permitted gives the names that a CA may certify: DNS names, and ranges of addresses.
func permitted(authority *x509.Certificate) []string {
	return slices.Concat(authority.PermittedDNSDomains, texts(authority.PermittedIPRanges))
}

// constraint is the element of permitted that permits a name. Names below a name are permitted with it.
func constraint(name string) string {
	if address, err := netip.ParseAddr(name); err == nil {
		return netip.PrefixFrom(address.Unmap(), address.Unmap().BitLen()).String()
	}
	return strings.TrimPrefix(name, "*.")
}

// certifiable gives those of the policy's names, in the form of namesOf, that a CA may certify. One without name constraints
// may certify all.
func (p Policy) certifiable(authority *x509.Certificate) []string {
	if len(permitted(authority))+len(authority.ExcludedIPRanges) == 0 {
		return p.wanted()
	}
	return lo.Filter(p.wanted(), func(name string, _ int) bool { return slices.Contains(permitted(authority), constraint(name)) })
}

// confines tells whether a CA may certify names of the policy only. Where a constraint permits nothing of a kind, it does not
// hold for that kind.
func (p Policy) confines(authority *x509.Certificate) bool {
	names := lo.Map(p.wanted(), func(name string, _ int) string { return constraint(name) })
	excluded := texts(authority.ExcludedIPRanges)
	return authority.PermittedDNSDomainsCritical && len(authority.PermittedDNSDomains) > 0 && lo.Every(names, permitted(authority)) &&
		(len(authority.PermittedIPRanges) > 0 || lo.Every(excluded, []string{"0.0.0.0/0", "::/0"}))
}

// ServingTemplate is the template of a new serving certificate, without the serial number. It expires no later than the CA
// that signs it, and has the names that this CA may certify.
func (p Policy) ServingTemplate(authority *x509.Certificate, now time.Time) *x509.Certificate {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: Subject + " service"}, // clients check only the names below
		NotBefore:             now.Add(-backdating(p.CertificateDuration)),
		NotAfter:              now.Add(p.CertificateDuration),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if template.NotAfter.After(authority.NotAfter) {
		template.NotAfter = authority.NotAfter
	}
	for _, name := range p.certifiable(authority) {
		if address, err := netip.ParseAddr(name); err == nil {
			template.IPAddresses = append(template.IPAddresses, address.AsSlice())
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return template
}

// namesOf gives a certificate's names, sorted.
func namesOf(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, address := range c.IPAddresses {
		names = append(names, address.String())
	}
	slices.Sort(names)
	return names
}

// wanted gives the policy's names in the form of namesOf, each once.
func (p Policy) wanted() []string {
	names := lo.Map(p.Names, func(name string, _ int) string {
		if address, err := netip.ParseAddr(name); err == nil {
			return address.Unmap().String()
		}
		return name
	})
	slices.Sort(names)
	return slices.Compact(names)
}
