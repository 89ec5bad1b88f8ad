package signingtest

import (
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"slices"
	"time"
)

// year is long enough for certificates to outlive every test and short enough
// for the dates to stay representable.
const year = 365 * 24 * time.Hour

// Options describes a CA. The zero value is a good one.
type Options struct {
	CommonName   string // zero: "Test Root"
	Organization string // zero: "Example"
	KeyType      KeyType
	Key          crypto.Signer // zero: a new key of KeyType
	NotBefore    time.Time     // zero: ten years ago
	NotAfter     time.Time     // zero: in ten years

	// CRLURL and OCSPURL are where the revocation of this CA's own
	// certificate can be looked up; of use for an intermediate only.
	CRLURL, OCSPURL string
}

// LeafOptions describes a signing certificate. The zero value is a good one.
type LeafOptions struct {
	CommonName   string // zero: "signer"
	Organization string // zero: that of the CA
	KeyType      KeyType
	Key          crypto.Signer // zero: a new key of KeyType
	NotBefore    time.Time     // zero: a year ago
	NotAfter     time.Time     // zero: in a year

	// CRLURL and OCSPURL are where revocation of the certificate can be
	// looked up. Without any, it cannot be revoked.
	CRLURL, OCSPURL string

	// OtherCRLURL is named before CRLURL.
	OtherCRLURL string

	// TimeStamping makes the certificate one of a timestamp authority rather
	// than of a signer.
	TimeStamping bool
}

// CA is a certificate authority: a root, or an intermediate below one.
type CA struct {
	Certificate *x509.Certificate
	key         crypto.Signer
	chain       []*x509.Certificate // from Certificate to the root
}

// NewCA makes a self-signed root that meets the Notary Project's requirements.
// https://github.com/notaryproject/specifications/blob/v1.1.0/specs/signature-specification.md#certificate-requirements
func NewCA(options Options) (*CA, error) {
	options.CommonName = cmp.Or(options.CommonName, "Test Root")
	return newCA(options, nil)
}

// Intermediate makes a CA below this one.
func (ca *CA) Intermediate(options Options) (*CA, error) {
	options.CommonName = cmp.Or(options.CommonName, "Test Intermediate")
	return newCA(options, ca)
}

// newCA makes a CA below parent, or a root where that is nil.
func newCA(options Options, parent *CA) (*CA, error) {
	key, err := keyOrNew(options.Key, options.KeyType)
	if err != nil {
		return nil, fmt.Errorf("make the key of CA %q: %w", options.CommonName, err)
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               subject(options.CommonName, cmp.Or(options.Organization, "Example")),
		NotBefore:             timeOr(options.NotBefore, now.Add(-10*year)),
		NotAfter:              timeOr(options.NotAfter, now.Add(10*year)),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	setRevocation(template, options.CRLURL, options.OCSPURL)
	issuer := &CA{Certificate: template, key: key}
	if parent != nil {
		issuer = parent
	}
	certificate, err := issue(template, issuer, key)
	if err != nil {
		return nil, fmt.Errorf("issue CA %q: %w", options.CommonName, err)
	}
	chain := append([]*x509.Certificate{certificate}, issuer.chain...)
	return &CA{Certificate: certificate, key: key, chain: chain}, nil
}

// PEM returns the CA's own certificate, as it stands in a trust store.
func (ca *CA) PEM() []byte { return encodePEM(ca.Certificate) }

// Issue makes a signing certificate of this CA.
func (ca *CA) Issue(options LeafOptions) (*Signer, error) {
	name := cmp.Or(options.CommonName, "signer")
	key, err := keyOrNew(options.Key, options.KeyType)
	if err != nil {
		return nil, fmt.Errorf("make the key of signer %q: %w", name, err)
	}
	organization := cmp.Or(options.Organization, ca.Certificate.Subject.Organization[0])
	now := time.Now()
	template := &x509.Certificate{
		Subject:     subject(name, organization),
		NotBefore:   timeOr(options.NotBefore, now.Add(-year)),
		NotAfter:    timeOr(options.NotAfter, now.Add(year)),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	if options.TimeStamping {
		if err := markTimeStamping(template); err != nil {
			return nil, fmt.Errorf("issue timestamp authority %q: %w", name, err)
		}
	}
	setRevocation(template, options.CRLURL, options.OCSPURL)
	if options.OtherCRLURL != "" {
		template.CRLDistributionPoints = append([]string{options.OtherCRLURL}, template.CRLDistributionPoints...)
	}
	certificate, err := issue(template, ca, key)
	if err != nil {
		return nil, fmt.Errorf("issue signer %q: %w", name, err)
	}
	chain := append([]*x509.Certificate{certificate}, ca.chain...)
	return &Signer{Certificate: certificate, Chain: chain, Key: key}, nil
}

// IssueTemplate makes a certificate of any content, for a signer's key or for
// a public key alone, with which nothing can be signed.
func (ca *CA) IssueTemplate(template *x509.Certificate, key any) (*Signer, error) {
	public := key
	signer, able := key.(crypto.Signer)
	if able {
		public = signer.Public()
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Certificate, public, ca.key)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	chain := append([]*x509.Certificate{certificate}, ca.chain...)
	return &Signer{Certificate: certificate, Chain: chain, Key: signer}, nil
}

// issue signs a certificate for the key with the issuer's key.
func issue(template *x509.Certificate, issuer *CA, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Certificate, key.Public(), issuer.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// subject returns a name with the three attributes that a trusted identity of
// a trust policy must have: country, state and organization.
// https://github.com/notaryproject/specifications/blob/v1.1.0/specs/trust-store-trust-policy.md#trusted-identities-constraints
func subject(commonName, organization string) pkix.Name {
	return pkix.Name{
		Country:      []string{"US"},
		Province:     []string{"WA"},
		Organization: []string{organization},
		CommonName:   commonName,
	}
}

func setRevocation(template *x509.Certificate, crlURL, ocspURL string) {
	if crlURL != "" {
		template.CRLDistributionPoints = []string{crlURL}
	}
	if ocspURL != "" {
		template.OCSPServer = []string{ocspURL}
	}
}

func timeOr(t, otherwise time.Time) time.Time {
	if t.IsZero() {
		return otherwise
	}
	return t
}

// encodePEM concatenates certificates as PEM blocks.
func encodePEM(certificates ...*x509.Certificate) []byte {
	blocks := make([][]byte, 0, len(certificates))
	for _, certificate := range certificates {
		blocks = append(blocks, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
	}
	return slices.Concat(blocks...)
}
