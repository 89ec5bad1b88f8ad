package certificates

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Pair is a certificate with its private key.
type Pair struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// ParsePair reads the PEM of a certificate and of its private key (PKCS #8). It fails where the two do not belong together.
func ParsePair(certificatePEM, keyPEM []byte) (*Pair, error) {
	certificates := ParseCertificates(certificatePEM)
	if len(certificates) == 0 {
		return nil, errors.New("there is no certificate")
	}
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, errors.New("there is no private key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("private key: a %T does not sign", parsed)
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(certificates[0].PublicKey) {
		return nil, errors.New("the private key is not that of the certificate")
	}
	return &Pair{certificates[0], key}, nil
}

// ParseAuthority is ParsePair for a CA of this service.
func ParseAuthority(certificatePEM, keyPEM []byte) (*Pair, error) {
	pair, err := ParsePair(certificatePEM, keyPEM)
	if err == nil && !isAuthority(pair.Certificate) {
		return nil, errors.New("the certificate is not a CA of " + Subject)
	}
	return pair, err
}

// PEM encodes both parts in the form that ParsePair reads.
func (p Pair) PEM() (certificate, key []byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("private key: %w", err)
	}
	return encode(p.Certificate), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ParseBundle gives the CAs of this service in a PEM text, each once, in the order of a bundle. It skips everything else.
func ParseBundle(text []byte) []*x509.Certificate {
	return Ordered(slices.DeleteFunc(ParseCertificates(text), func(c *x509.Certificate) bool { return !isAuthority(c) }))
}

// EncodeBundle encodes CAs as PEM.
func EncodeBundle(authorities []*x509.Certificate) string {
	var text strings.Builder
	for _, authority := range authorities {
		text.Write(encode(authority))
	}
	return text.String()
}

// Fingerprint identifies a certificate: SHA-256 of its DER form, in hexadecimal.
func Fingerprint(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.Raw)
	return hex.EncodeToString(sum[:])
}

func encode(certificate *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
}

// ParseCertificates gives the certificates among PEM blocks, and skips other blocks.
func ParseCertificates(text []byte) []*x509.Certificate {
	var all []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if certificate, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			all = append(all, certificate)
		}
	}
	return all
}

// isAuthority tells whether a certificate may be a CA of this service: it has the service's name and is self-signed. The name
// alone is not enough, since another CA could have issued it.
func isAuthority(c *x509.Certificate) bool {
	return c.IsCA && c.Subject.CommonName == Subject && c.CheckSignatureFrom(c) == nil
}

// Ordered sorts certificates in place by age and removes duplicates, so that the text of a bundle depends on its certificates only.
func Ordered(authorities []*x509.Certificate) []*x509.Certificate {
	slices.SortFunc(authorities, func(a, b *x509.Certificate) int {
		if order := a.NotBefore.Compare(b.NotBefore); order != 0 {
			return order
		}
		return bytes.Compare(a.Raw, b.Raw)
	})
	return slices.CompactFunc(authorities, (*x509.Certificate).Equal)
}

func expired(c *x509.Certificate, now time.Time) bool { return now.After(c.NotAfter) }

func early(c *x509.Certificate, now time.Time) bool { return now.Before(c.NotBefore) }
