package verification

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// Cause is why a signature that verifies now will not, or may not, from a known moment on.
type Cause string

// The causes. The first three are certain; the others only say what is needed from then on.
const (
	EndOfSignature   Cause = "signature"   // its own expiry
	EndOfCertificate Cause = "certificate" // a certificate of the signer expires, and no timestamp is looked at
	EndOfCondition   Cause = "condition"   // a condition on an attestation, which reads the clock, is not met any more
	NeedsTimestamp   Cause = "timestamp"   // a certificate of the signer expires, and from then on its timestamp must verify
	NeedsRevocation  Cause = "crl"         // the revocation data expires: a newer CRL or OCSP answer is needed
)

// Certain tells whether the signature stops verifying at that moment whatever happens until then.
func (c Cause) Certain() bool {
	return c == EndOfSignature || c == EndOfCertificate || c == EndOfCondition
}

// End is a known moment from which a signature stops, or may stop, verifying.
type End struct {
	Cause   Cause     `json:"cause"`
	At      time.Time `json:"at"`
	Subject string    `json:"subject,omitzero"` // of the certificate, or what the condition says, clipped; "" where it is about none
}

// Anchor is a certificate of a trust store that a verified signature is trusted by.
type Anchor struct {
	Store       string    `json:"store"`       // as a statement names it, "ca:acme"
	Subject     string    `json:"subject"`     // clipped
	Fingerprint string    `json:"fingerprint"` // SHA-256 of the certificate, in hexadecimal
	NotAfter    time.Time `json:"notAfter"`    // of the certificate
}

// ends lists the known moments from which the checks that are enforced fail, or need more than is known now.
func (a *assessment) ends() (ends []End) {
	if a.Enforced[CheckExpiry] && !a.Expiry.IsZero() {
		ends = append(ends, End{Cause: EndOfSignature, At: a.Expiry.UTC()})
	}
	if a.Enforced[CheckAuthenticTimestamp] && !a.timestamped() {
		cause := EndOfCertificate
		if a.task.Statement.NamesTSA() {
			cause = NeedsTimestamp
		}
		for _, certificate := range a.Chain {
			ends = append(ends, End{Cause: cause, At: certificate.NotAfter.UTC(), Subject: subjectOf(certificate)})
		}
	}
	if a.Enforced[CheckRevocation] && !a.FreshUntil.IsZero() {
		ends = append(ends, End{Cause: NeedsRevocation, At: a.FreshUntil.UTC()})
	}
	return ends
}

// anchors lists the certificates of trust stores by which the statement trusts the signer.
func (a *assessment) anchors() (anchors []Anchor) {
	for _, written := range a.task.Statement.TrustStores {
		kind, name, _ := strings.Cut(written, ":")
		if kind != a.Scheme.Store() {
			continue
		}
		store := a.task.Stores[trust.StoreRef{Type: kind, Name: name}]
		for _, certificate := range a.Chain {
			if slices.ContainsFunc(store.Certificates, certificate.Equal) {
				anchors = append(anchors, Anchor{
					Store: written, Subject: subjectOf(certificate), NotAfter: certificate.NotAfter.UTC(),
					Fingerprint: fmt.Sprintf("%x", sha256.Sum256(certificate.Raw)),
				})
			}
		}
	}
	return anchors
}

func subjectOf(certificate *x509.Certificate) string {
	return reason.Clip(certificate.Subject.String(), reason.MaxName)
}
