package trust

import (
	"crypto/rsa"
	"crypto/x509"
	"fmt"
)

// Bounds on a certificate that signatures are verified with. Verification takes time by the square of an RSA key's size, and
// cannot be interrupted.
const (
	MaxKeyBits     = 8192     // of an RSA key; Notation's signers have at most 4096, its CAs may have more
	MaxCertificate = 32 << 10 // bytes, encoded
)

// CertificateBound says why a certificate is too costly to verify signatures with; nil when it is not. Keys on elliptic
// curves need no bound, since Go parses only those of four curves.
func CertificateBound(certificate *x509.Certificate) error {
	if key, ok := certificate.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > MaxKeyBits {
		return fmt.Errorf("a certificate has an RSA key of %d bits, which is over the bound of %d", key.N.BitLen(), MaxKeyBits)
	}
	if n := len(certificate.Raw); n > MaxCertificate {
		return fmt.Errorf("a certificate has %d bytes, which is over the bound of %d", n, MaxCertificate)
	}
	return nil
}
