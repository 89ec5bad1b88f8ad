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

// Policy has the wanted properties of the certificates.
type Policy struct {
	CADuration          time.Duration
	CertificateDuration time.Duration
	Propagation         time.Duration // within which every client reads a changed bundle, and every replica a changed certificate
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
	case len(p.Names) == 0:
		return errors.New("the serving certificate has no names")
	}
	return nil
}

// ServiceNames are the DNS names of a Service within the cluster.
func ServiceNames(service, namespace string) []string {
	name := service + "." + namespace
	return []string{name + ".svc", name + ".svc.cluster.local", name, service}
}

// propagation is the propagation time, shortened for short-lived certificates: twice of it fits into the time that is left of
// a certificate when its replacement is due.
func (p Policy) propagation() time.Duration {
	return min(p.Propagation, p.CADuration/10, p.CertificateDuration/10)
}

// renewal is when a certificate's replacement is due: after two thirds of its life, or of the configured life where that is
// shorter.
func renewal(c *x509.Certificate, duration time.Duration) time.Time {
	life := min(c.NotAfter.Sub(c.NotBefore), duration+backdating(duration))
	return c.NotBefore.Add(life * 2 / 3)
}

// backdating is how far NotBefore is in the past, so that clients with a slow clock accept a new certificate.
func backdating(duration time.Duration) time.Duration { return min(time.Hour, duration/10) }

// AuthorityTemplate is the template of a new CA, without the serial number. serialName makes its subject unique, since clients
// that look up an issuer by name would confuse two CAs of the same name.
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

// ServingTemplate is the template of a new serving certificate, without the serial number. It expires no later than the CA
// that signs it.
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
	for _, name := range p.Names {
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
