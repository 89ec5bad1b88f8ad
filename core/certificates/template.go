package certificates

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/samber/lo"
)

// Subject is the common name of the CAs.
const Subject = "kyverno-notation-venafi"

// Policy is what the certificates are to be like.
type Policy struct {
	CADuration          time.Duration
	CertificateDuration time.Duration
	Propagation         time.Duration // until every client has read a changed bundle, and every replica a changed certificate
	Names               []string      // DNS names and IP addresses under which the service is called
}

// ShortestDuration of a certificate. Its times have whole seconds, so less could not be planned with.
const ShortestDuration = 5 * time.Second

// Validate tells what cannot be kept.
func (p Policy) Validate() error {
	switch {
	case p.CertificateDuration < ShortestDuration:
		return fmt.Errorf("the serving certificate's duration is %s; it must be at least %s", p.CertificateDuration, ShortestDuration)
	case p.CADuration < p.CertificateDuration:
		return fmt.Errorf("the CA's duration is %s; it must not be less than the serving certificate's, %s", p.CADuration, p.CertificateDuration)
	case p.Propagation < 0:
		return errors.New("the propagation delay is negative")
	case len(p.Names) == 0:
		return errors.New("the serving certificate has no names")
	}
	return nil
}

// ServiceNames are those by which a Service is called from within the cluster.
func ServiceNames(service, namespace string) []string {
	name := service + "." + namespace
	return []string{name + ".svc", name + ".svc.cluster.local", name, service}
}

// propagation is the delay that the lifetimes leave room for: twice of it fits into what is left of a certificate when
// its replacement is due.
func (p Policy) propagation() time.Duration {
	return min(p.Propagation, p.CADuration/10, p.CertificateDuration/10)
}

// renewal is when a certificate's replacement is due: after two thirds of its life, or of the life that it would be
// given today, if that is shorter.
func renewal(c *x509.Certificate, duration time.Duration) time.Time {
	life := min(c.NotAfter.Sub(c.NotBefore), duration+backdating(duration))
	return c.NotBefore.Add(life * 2 / 3)
}

// backdating lets clients whose clock is slow accept a certificate at once.
func backdating(duration time.Duration) time.Duration { return min(time.Hour, duration/10) }

// AuthorityTemplate is what a new CA is to hold; it lacks the serial number. Its names differ by serialName, as two
// CAs of one name confuse clients that look for the issuer by name.
func (p Policy) AuthorityTemplate(serialName string, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: Subject, SerialNumber: serialName},
		NotBefore:             now.Add(-backdating(p.CADuration)),
		NotAfter:              now.Add(p.CADuration),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
}

// ServingTemplate is what a new serving certificate is to hold; it lacks the serial number. It does not outlive the CA
// that signs it.
func (p Policy) ServingTemplate(authority *x509.Certificate, now time.Time) *x509.Certificate {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: Subject + " service"}, // clients look at the names below only
		NotBefore:             now.Add(-backdating(p.CertificateDuration)),
		NotAfter:              now.Add(p.CertificateDuration),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if template.NotAfter.After(authority.NotAfter) {
		template.NotAfter = authority.NotAfter
	}
	for _, name := range p.Names {
		if address, err := netip.ParseAddr(name); err == nil {
			template.IPAddresses = append(template.IPAddresses, address.AsSlice())
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return template
}

// namesOf gives a certificate's names in order.
func namesOf(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, address := range c.IPAddresses {
		names = append(names, address.String())
	}
	slices.Sort(names)
	return names
}

// wanted gives the policy's names in order, each once, as namesOf does.
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
