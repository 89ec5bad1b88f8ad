package signing

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
)

// markTimeStamping gives a certificate template the extended key usage of a
// timestamp authority, critical as RFC 3161 section 2.3 demands.
func markTimeStamping(template *x509.Certificate) error {
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	if err != nil {
		return fmt.Errorf("encode the extended key usage: %w", err)
	}
	template.ExtKeyUsage = nil
	template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{
		Id:       asn1.ObjectIdentifier{2, 5, 29, 37},
		Critical: true,
		Value:    usage,
	})
	return nil
}
