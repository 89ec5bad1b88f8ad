package world

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// Signer is a certificate with its key.
type Signer struct {
	Name  string
	Chain []*x509.Certificate // from the leaf to the root
	Key   crypto.Signer
}

// Signers are made once for many worlds.
type Signers struct {
	all   map[string]*Signer
	names []string // of the leaves, in the order in which they were made

	// The PEM texts that trust stores are made of.
	Bundles map[string]string
}

// Get gives a signer by its name.
func (s *Signers) Get(name string) *Signer { return s.all[name] }

// certificate describes one certificate of the family.
type certificate struct {
	name, issuer string // issuer is a signer's name; "" for a self-signed certificate
	subject      pkix.Name
	key          string // "" is P-256
	from, until  time.Duration
	ca           bool
	usage        x509.KeyUsage      // zero for the usual one
	extended     []x509.ExtKeyUsage // nil for code signing
	edit         func(*x509.Certificate)
}

func subject(organization, name string) pkix.Name {
	return pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{organization}, CommonName: name}
}

const year = 365 * 24 * time.Hour

// family is everyone who signs. Names with a dash are leaves.
func family() []certificate {
	twoUnits, twoOrganizations := subject("Acme", "Release"), subject("Acme", "Release")
	twoUnits.OrganizationalUnit = []string{"Build", "Release"}
	twoOrganizations.Organization = []string{"Acme", "Mallory"}
	pathless := func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }
	server := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	return []certificate{
		{name: "acme", subject: subject("Acme", "Acme Root"), ca: true},
		{name: "globex", subject: subject("Globex", "Globex Root"), ca: true},
		{name: "mallory", subject: subject("Acme", "Acme Root"), ca: true}, // the name is free to take
		{name: "former", subject: subject("Acme", "Acme Former Root"), ca: true, from: -9 * year, until: -year},

		{name: "acme-release", issuer: "acme", subject: subject("Acme", "Release")},
		{name: "acme-release-rsa", issuer: "acme", subject: subject("Acme", "Release"), key: "RSA-2048"},
		{name: "acme-release-rsa-3072", issuer: "acme", subject: subject("Acme", "Release"), key: "RSA-3072"},
		{name: "acme-release-384", issuer: "acme", subject: subject("Acme", "Release"), key: "P-384"},
		{name: "acme-release-521", issuer: "acme", subject: subject("Acme", "Release"), key: "P-521"},
		{name: "globex-release", issuer: "globex", subject: subject("Globex", "Release")},
		{name: "globex-as-acme", issuer: "globex", subject: subject("Acme", "Release")},

		{name: "acme-build", issuer: "acme", subject: subject("Acme", "Build")},
		{name: "acme-other", issuer: "acme", subject: subject("Other", "Release")},
		{name: "acme-prefix", issuer: "acme", subject: subject("Acme", "Release,O=Other")},
		{name: "acme-case", issuer: "acme", subject: subject("Acme", "release")},
		{name: "acme-two-units", issuer: "acme", subject: twoUnits},
		{name: "acme-two-organizations", issuer: "acme", subject: twoOrganizations},
		{name: "acme-expired", issuer: "acme", subject: subject("Acme", "Release"), from: -2 * year, until: -year},
		{name: "acme-early", issuer: "acme", subject: subject("Acme", "Release"), from: year, until: 2 * year},
		{name: "acme-server", issuer: "acme", subject: subject("Acme", "Release"), extended: server},
		{name: "acme-any-usage", issuer: "acme", subject: subject("Acme", "Release"), extended: []x509.ExtKeyUsage{x509.ExtKeyUsageAny, x509.ExtKeyUsageCodeSigning}},
		{name: "acme-no-digital", issuer: "acme", subject: subject("Acme", "Release"), usage: x509.KeyUsageKeyEncipherment},
		{name: "acme-weak", issuer: "acme", subject: subject("Acme", "Release"), key: "RSA-1024"},
		{name: "acme-large", issuer: "acme", subject: subject("Acme", "Release"), key: "RSA-4096"},
		{name: "acme-huge", issuer: "acme", subject: subject("Acme", "Release"), key: "RSA-20000"},
		{name: "former-release", issuer: "former", subject: subject("Acme", "Release"), from: -2 * year, until: year},
		{name: "mallory-release", issuer: "mallory", subject: subject("Acme", "Release")},
		{name: "self-release", subject: subject("Acme", "Release")},

		{name: "line", issuer: "acme", subject: subject("Acme", "Acme Line"), ca: true},
		{name: "line-release", issuer: "line", subject: subject("Acme", "Release")},
		{name: "short", issuer: "acme", subject: subject("Acme", "Acme Short"), ca: true, edit: pathless},
		{name: "short-release", issuer: "short", subject: subject("Acme", "Release")},
		{name: "beyond", issuer: "short", subject: subject("Acme", "Acme Beyond"), ca: true},
		{name: "beyond-release", issuer: "beyond", subject: subject("Acme", "Release")},
		{name: "below-a-leaf", issuer: "acme-build", subject: subject("Acme", "Release")},
	}
}

// NewSigners makes keys and certificates.
func NewSigners() (*Signers, error) {
	s := &Signers{all: map[string]*Signer{}, Bundles: map[string]string{}}
	for i, c := range family() {
		signer, err := s.issue(int64(i+1), c)
		if err != nil {
			return nil, fmt.Errorf("make %s: %w", c.name, err)
		}
		s.all[c.name] = signer
		s.Bundles[c.name] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signer.Chain[0].Raw}))
		if strings.Contains(c.name, "-") {
			s.names = append(s.names, c.name)
		}
	}
	return s, nil
}

func (s *Signers) issue(serial int64, c certificate) (*Signer, error) {
	key, err := newKey(c.key)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: c.subject, BasicConstraintsValid: true,
		NotBefore: now.Add(-year), NotAfter: now.Add(year), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	if c.from != 0 {
		template.NotBefore, template.NotAfter = now.Add(c.from), now.Add(c.until)
	}
	if c.ca {
		template.IsCA, template.KeyUsage, template.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
		if c.from == 0 {
			template.NotBefore, template.NotAfter = now.Add(-10*year), now.Add(10*year)
		}
	}
	if c.usage != 0 {
		template.KeyUsage = c.usage
	}
	if c.extended != nil {
		template.ExtKeyUsage = c.extended
	}
	if c.edit != nil {
		c.edit(template)
	}
	issuer := &Signer{Chain: []*x509.Certificate{template}, Key: key}
	var above []*x509.Certificate
	if c.issuer != "" {
		issuer = s.all[c.issuer]
		above = issuer.Chain
	}
	public := key.Public()
	if c.key == "RSA-20000" {
		public = madeUp(20000) // as its private key would take too long to find
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Chain[0], public, issuer.Key)
	if err != nil {
		return nil, err
	}
	made, err := x509.ParseCertificate(der)
	return &Signer{Name: c.name, Chain: append([]*x509.Certificate{made}, above...), Key: key}, err
}

func newKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "RSA-1024":
		return rsa.GenerateKey(rand.Reader, 1024)
	case "RSA-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "RSA-3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	case "RSA-4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	case "P-384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "P-521":
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// madeUp is an RSA key of so many bits that nobody has the other half of.
func madeUp(bits int) *rsa.PublicKey {
	modulus := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	return &rsa.PublicKey{N: modulus.Add(modulus, big.NewInt(12345)), E: 65537}
}
