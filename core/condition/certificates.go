package condition

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
)

// certificates adds the function that reads them.
func (l functions) certificates() {
	l.add("x509_decode", short(32<<10, 100, 50), x509Decode, "string")
}

// rsaKey is a public key as x509_decode shows it, its modulus in decimal digits.
type rsaKey struct {
	N string
	E int
}

// x509Decode shows the first block of a PEM text, a certificate or a request for one, with the names that Go gives to its fields.
func x509Decode(a []any) (any, error) {
	block, _ := pem.Decode([]byte(textOf(a, 0)))
	if block == nil {
		return nil, errors.New("failed to decode PEM block")
	}
	switch block.Type {
	case "CERTIFICATE":
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if certificate.PublicKey, err = shownKey(certificate.PublicKeyAlgorithm, certificate.RawSubjectPublicKeyInfo); err != nil {
			return nil, err
		}
		return fields(certificate)
	case "CERTIFICATE REQUEST":
		request, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			return nil, err
		}
		if request.PublicKey, err = shownKey(request.PublicKeyAlgorithm, request.RawSubjectPublicKeyInfo); err != nil {
			return nil, err
		}
		return fields(request)
	}
	return nil, errors.New("PEM block neither contains a CERTIFICATE or CERTIFICATE REQUEST")
}

func shownKey(algorithm x509.PublicKeyAlgorithm, raw []byte) (any, error) {
	if algorithm != x509.RSA {
		return nil, errors.New("certificate should use rsa algorithm")
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(raw, &info); err != nil {
		return nil, errors.New("failed to parse subject public key info")
	}
	key, err := x509.ParsePKCS1PublicKey(info.Key.Bytes)
	if err != nil {
		return nil, errors.New("failed to parse subject public key info")
	}
	return rsaKey{key.N.String(), key.E}, nil
}

// fields are those of a Go value, as JSON has them.
func fields(value any) (any, error) {
	written, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	object := map[string]any{}
	if err := json.Unmarshal(written, &object); err != nil {
		return nil, err
	}
	return object, nil
}
