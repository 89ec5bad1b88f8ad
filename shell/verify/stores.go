package verify

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/notaryproject/notation-core-go/signature"
	"github.com/notaryproject/notation-go/verifier/truststore"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// stores is notation-go's X509TrustStore over a snapshot, for one verification.
type stores struct {
	trust   trust.Snapshot
	missing bool // a store was asked for that does not exist or cannot be used

	signers  []*x509.Certificate // that were given to hold the signer's chain against
	unusable bool                // one of the stores of signers was missing, so that no signer is trusted
}

// GetCertificates gives a store's certificates.
func (s *stores) GetCertificates(_ context.Context, kind truststore.Type, name string) ([]*x509.Certificate, error) {
	certificates, err := s.certificates(trust.StoreRef{Type: string(kind), Name: name})
	s.missing = s.missing || err != nil
	if kind != truststore.TypeTSA {
		s.signers, s.unusable = append(s.signers, certificates...), s.unusable || err != nil
	}
	return certificates, err
}

func (s *stores) certificates(ref trust.StoreRef) ([]*x509.Certificate, error) {
	store, ok := s.trust.Stores[ref]
	if !ok {
		return nil, fmt.Errorf("trust store %q does not exist; create it or correct trustStores", ref)
	}
	if store.Problem != "" {
		return nil, fmt.Errorf("trust store %q cannot be used: %s", ref, store.Problem)
	}
	for _, certificate := range store.Certificates {
		if err := trust.CertificateBound(certificate); err != nil {
			return nil, fmt.Errorf("trust store %q cannot be used: %w", ref, err)
		}
	}
	return store.Certificates, nil
}

// load asks for the stores that a signing scheme is verified with, where notation-go has not come to that. It gives why one
// of them cannot be used.
func (s *stores) load(ctx context.Context, written []string, scheme signature.SigningScheme) (unusable error) {
	wanted := truststore.TypeCA
	if scheme == signature.SigningSchemeX509SigningAuthority {
		wanted = truststore.TypeSigningAuthority
	}
	for _, store := range written {
		if kind, name, _ := strings.Cut(store, ":"); truststore.Type(kind) == wanted {
			_, err := s.GetCertificates(ctx, wanted, name)
			unusable = cmp.Or(unusable, err)
		}
	}
	return unusable
}

// trusts tells whether a chain, which holds together, has a certificate of the stores that were asked for it. Before
// any was, it has none.
func (s *stores) trusts(chain []*x509.Certificate) bool {
	return !s.unusable && slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return slices.ContainsFunc(s.signers, c.Equal) })
}
