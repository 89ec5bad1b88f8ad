// Package issuer makes the keys and certificates that core/certificates and core/recordkey decide on. It is apart from them because
// it needs randomness.
package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/core/recordkey"
)

// Authority makes a new CA.
func Authority(policy certificates.Policy, now time.Time) (*certificates.Pair, error) {
	return sign(policy.AuthorityTemplate(rand.Text(), now), nil)
}

// Serving makes a serving certificate, signed by a CA.
func Serving(policy certificates.Policy, authority *certificates.Pair, now time.Time) (*certificates.Pair, error) {
	return sign(policy.ServingTemplate(authority.Certificate, now), authority)
}

// RecordKey makes a new key for the log of decision records, with its self-signed certificate.
func RecordKey(policy recordkey.Policy, now time.Time) (*certificates.Pair, error) {
	return sign(policy.Template(now), nil)
}

// sign makes an ECDSA P-256 key, a serial number of 127 bits, and the certificate. Without an authority the certificate is
// self-signed.
func sign(template *x509.Certificate, authority *certificates.Pair) (*certificates.Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	// RFC 5280, section 4.1.2.2: positive, at most 20 bytes.
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	parent, parentKey := template, crypto.Signer(key)
	if authority != nil {
		parent, parentKey = authority.Certificate, authority.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return &certificates.Pair{Certificate: certificate, Key: key}, nil
}
