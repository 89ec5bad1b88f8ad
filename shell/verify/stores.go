package verify

import (
	"context"
	"crypto/x509"
	"fmt"

	"github.com/notaryproject/notation-go/verifier/truststore"

	"github.com/nirmata/kyverno-notation-venafi/core"
)

// stores is notation-go's X509TrustStore over a snapshot, for one verification.
type stores struct {
	trust   core.Snapshot
	missing bool // a store was asked for that does not exist or cannot be used
}

// GetCertificates gives a store's certificates.
func (s *stores) GetCertificates(_ context.Context, kind truststore.Type, name string) ([]*x509.Certificate, error) {
	ref := core.StoreRef{Type: string(kind), Name: name}
	store, ok := s.trust.Stores[ref]
	if !ok {
		s.missing = true
		return nil, fmt.Errorf("trust store %q does not exist; create it or correct trustStores", ref)
	}
	if store.Problem != "" {
		s.missing = true
		return nil, fmt.Errorf("trust store %q cannot be used: %s", ref, store.Problem)
	}
	return store.Certificates, nil
}
