package trust

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The types of trust stores (Notary Project, trust store and trust policy specification, section "Trust Store").
const (
	StoreCA               = "ca"
	StoreSigningAuthority = "signingAuthority"
	StoreTSA              = "tsa"
)

// Scheme is a signing scheme (Notary Project, signing scheme specification).
type Scheme string

// The signing schemes: by the signer's own key, or by an authority that vouches for the time of signing.
const (
	SchemeX509             Scheme = "notary.x509"
	SchemeSigningAuthority Scheme = "notary.x509.signingAuthority"
)

// Store is the type of the trust stores for signers of a scheme.
func (s Scheme) Store() string {
	if s == SchemeSigningAuthority {
		return StoreSigningAuthority
	}
	return StoreCA
}

// Stores are trust stores by type and name.
type Stores map[StoreRef]Store

// Certificates gives a store's certificates. The error says why the store cannot be used.
func (s Stores) Certificates(ref StoreRef) ([]*x509.Certificate, error) {
	store, ok := s[ref]
	if !ok {
		return nil, fmt.Errorf("trust store %q does not exist; create it or correct trustStores", ref)
	}
	if store.Problem != "" {
		return nil, fmt.Errorf("trust store %q cannot be used: %s", ref, store.Problem)
	}
	for _, certificate := range store.Certificates {
		if err := CertificateBound(certificate); err != nil {
			return nil, fmt.Errorf("trust store %q cannot be used: %w", ref, err)
		}
	}
	return store.Certificates, nil
}

// Usable says why a store of a type that a statement names cannot be used; nil when all can.
func (s Stores) Usable(statement Statement, kind string) error {
	_, err := s.named(statement, kind)
	return err
}

// named gives the certificates of all stores of a type that a statement names. It fails where one cannot be used.
func (s Stores) named(statement Statement, kind string) (certificates []*x509.Certificate, unusable error) {
	for _, written := range statement.TrustStores {
		if of, name, _ := strings.Cut(written, ":"); of == kind {
			found, err := s.Certificates(StoreRef{Type: kind, Name: name})
			if err != nil {
				return nil, err
			}
			certificates = append(certificates, found...)
		}
	}
	return certificates, nil
}

// Trust says why a statement does not trust a valid certificate chain; nil when it does. It trusts a chain of which one
// certificate is in a store that the statement names for the signing scheme, provided that all of these stores can be
// used.
func (s Stores) Trust(statement Statement, scheme Scheme, chain []*x509.Certificate) error {
	trusted, err := s.named(statement, scheme.Store())
	if err == nil && slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return slices.ContainsFunc(trusted, c.Equal) }) {
		return nil
	}
	return errors.New("the signer's certificate is of no CA in the trust stores of the trust policy")
}
