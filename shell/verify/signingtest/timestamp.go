package signingtest

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"github.com/notaryproject/tspclient-go"
)

// TSA is a timestamp authority in the process, RFC 3161. It implements
// tspclient.Timestamper and may be used concurrently.
type TSA struct {
	signer *Signer
	now    func() time.Time
}

// NewTSA makes a timestamp authority with a certificate of the CA and a clock
// of the caller's choice, which allows for timestamps of the past. The
// certificate is good for as long as the CA's.
func NewTSA(ca *CA, now func() time.Time) (*TSA, error) {
	signer, err := ca.Issue(LeafOptions{
		CommonName:   "timestamps",
		KeyType:      ECDSA256, // signatureAlgorithm below
		NotBefore:    ca.Certificate.NotBefore,
		NotAfter:     ca.Certificate.NotAfter,
		TimeStamping: true,
	})
	if err != nil {
		return nil, fmt.Errorf("make a timestamp authority: %w", err)
	}
	return &TSA{signer: signer, now: now}, nil
}

// Timestamp implements tspclient.Timestamper: it vouches for the digest in the
// request having existed at the time of the authority's clock.
func (t *TSA) Timestamp(ctx context.Context, request *tspclient.Request) (*tspclient.Response, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := request.Validate(); err != nil {
		return nil, fmt.Errorf("timestamp: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		return nil, fmt.Errorf("timestamp: choose a serial number: %w", err)
	}
	info, err := asn1.Marshal(tspclient.TSTInfo{
		Version:        1,
		Policy:         oidBaselinePolicy,
		MessageImprint: request.MessageImprint,
		SerialNumber:   serial,
		GenTime:        t.now().UTC().Truncate(time.Second),
		Accuracy:       tspclient.Accuracy{Seconds: 1},
		Nonce:          request.Nonce,
	})
	if err != nil {
		return nil, fmt.Errorf("timestamp: encode TSTInfo: %w", err)
	}
	token, err := t.sign(info)
	if err != nil {
		return nil, fmt.Errorf("timestamp: sign the token: %w", err)
	}
	return &tspclient.Response{TimestampToken: asn1.RawValue{FullBytes: token}}, nil
}

// The object identifiers of a timestamp token: CMS (RFC 5652), RFC 3161, RFC
// 5035, and the policy of RFC 3628.
var (
	oidSignedData      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidContentType     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidTSTInfo         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
	oidSigningCert     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}
	oidBaselinePolicy  = asn1.ObjectIdentifier{0, 4, 0, 2023, 1, 1}
	oidSHA256          = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidECDSAWithSHA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidExtKeyUsage     = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidTimeStamping    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}
)

// contentInfo and the structures below are those of RFC 5652 sections 3 to 5,
// without the optional parts that a timestamp token does not need.
type contentInfo struct {
	ContentType asn1.ObjectIdentifier
	Content     signedData `asn1:"explicit,tag:0"`
}

type signedData struct {
	Version          int
	DigestAlgorithms []pkix.AlgorithmIdentifier `asn1:"set"`
	Encapsulated     encapsulated
	Certificates     []asn1.RawValue `asn1:"set,tag:0"`
	SignerInfos      []signerInfo    `asn1:"set"`
}

type encapsulated struct {
	ContentType asn1.ObjectIdentifier
	Content     []byte `asn1:"explicit,tag:0"`
}

type signerInfo struct {
	Version            int
	Issuer             issuerAndSerial
	DigestAlgorithm    pkix.AlgorithmIdentifier
	SignedAttributes   []attribute `asn1:"set,tag:0"`
	SignatureAlgorithm pkix.AlgorithmIdentifier
	Signature          []byte
}

type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

type attribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

// signingCertificateV2 names the certificate that signed by its SHA-256, RFC
// 5035 section 3, so that it cannot be exchanged for another of the same key.
type signingCertificateV2 struct {
	Certificates []certificateID
}

type certificateID struct {
	Hash []byte
}

// sign wraps the TSTInfo in SignedData, RFC 5652 section 5.
func (t *TSA) sign(info []byte) ([]byte, error) {
	signer, err := t.signerInfo(info)
	if err != nil {
		return nil, err
	}
	data := signedData{
		Version:          3,
		DigestAlgorithms: []pkix.AlgorithmIdentifier{{Algorithm: oidSHA256}},
		Encapsulated:     encapsulated{ContentType: oidTSTInfo, Content: info},
		SignerInfos:      []signerInfo{signer},
	}
	for _, certificate := range t.signer.Chain {
		data.Certificates = append(data.Certificates, asn1.RawValue{FullBytes: certificate.Raw})
	}
	return asn1.Marshal(contentInfo{ContentType: oidSignedData, Content: data})
}

// signerInfo signs the attributes, which include the digest of the TSTInfo.
func (t *TSA) signerInfo(info []byte) (signerInfo, error) {
	attributes, err := t.attributes(info)
	if err != nil {
		return signerInfo{}, err
	}
	// What is signed is the explicit SET, not the implicit [0] of the message:
	// RFC 5652 section 5.4.
	signed, err := asn1.MarshalWithParams(attributes, "set")
	if err != nil {
		return signerInfo{}, fmt.Errorf("encode the attributes: %w", err)
	}
	digest := sha256.Sum256(signed)
	signature, err := t.signer.Key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return signerInfo{}, err
	}
	return signerInfo{
		Version: 1,
		Issuer: issuerAndSerial{
			Issuer: asn1.RawValue{FullBytes: t.signer.Certificate.RawIssuer},
			Serial: t.signer.Certificate.SerialNumber,
		},
		DigestAlgorithm:    pkix.AlgorithmIdentifier{Algorithm: oidSHA256},
		SignedAttributes:   attributes,
		SignatureAlgorithm: pkix.AlgorithmIdentifier{Algorithm: oidECDSAWithSHA256},
		Signature:          signature,
	}, nil
}

// attributes returns the three attributes that RFC 3161 section 2.4.2 wants.
func (t *TSA) attributes(info []byte) ([]attribute, error) {
	content := sha256.Sum256(info)
	certificate := sha256.Sum256(t.signer.Certificate.Raw)
	var attributes []attribute
	for _, value := range []struct {
		oid   asn1.ObjectIdentifier
		value any
	}{
		{oidContentType, oidTSTInfo},
		{oidMessageDigest, content[:]},
		{oidSigningCert, signingCertificateV2{[]certificateID{{certificate[:]}}}},
	} {
		encoded, err := asn1.Marshal(value.value)
		if err != nil {
			return nil, fmt.Errorf("encode attribute %s: %w", value.oid, err)
		}
		attributes = append(attributes, attribute{
			Type:   value.oid,
			Values: []asn1.RawValue{{FullBytes: encoded}},
		})
	}
	return attributes, nil
}

// markTimeStamping gives a certificate template the extended key usage of a
// timestamp authority, critical as RFC 3161 section 2.3 demands.
func markTimeStamping(template *x509.Certificate) error {
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{oidTimeStamping})
	if err != nil {
		return fmt.Errorf("encode the extended key usage: %w", err)
	}
	template.ExtKeyUsage = nil
	template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{
		Id:       oidExtKeyUsage,
		Critical: true,
		Value:    usage,
	})
	return nil
}
