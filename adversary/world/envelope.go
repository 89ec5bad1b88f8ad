package world

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// The media types of envelopes.
const (
	JWS  = "application/jose+json"
	COSE = "application/cose"
)

// Subject is what a signature is made for.
type Subject struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// Envelope is a signature to be made, with all that a signer may choose. The zero value of a field is the honest choice.
type Envelope struct {
	Format      string // JWS or COSE; "" is JWS
	Signer      *Signer
	Chain       [][]byte // DER, instead of the signer's
	Payload     []byte   // instead of the subject's
	ContentType string
	Algorithm   string
	Time        time.Time
	Expiry      time.Time
	Scheme      string
	Attributes  map[string]string
	Critical    []string // names among Attributes
	ByStranger  *Signer  // whose key signs in truth
	Spoil       func([]byte) []byte
}

const (
	payloadType     = "application/vnd.cncf.notary.payload.v1+json"
	schemeX509      = "notary.x509"
	schemeAuthority = "notary.x509.signingAuthority"
)

// Make signs for a subject.
func (e Envelope) Make(subject Subject) ([]byte, error) {
	if e.Payload == nil {
		payload, err := json.Marshal(map[string]Subject{"targetArtifact": subject})
		if err != nil {
			return nil, err
		}
		e.Payload = payload
	}
	if e.Chain == nil {
		for _, certificate := range e.Signer.Chain {
			e.Chain = append(e.Chain, certificate.Raw)
		}
	}
	key := e.Signer.Key
	if e.ByStranger != nil {
		key = e.ByStranger.Key
	}
	if e.Algorithm == "" {
		e.Algorithm = algorithmOf(key.Public())
	}
	e.ContentType = or(e.ContentType, payloadType)
	e.Scheme = or(e.Scheme, schemeX509)
	make := e.jws
	if e.Format == COSE {
		make = e.cose
	}
	text, err := make(key)
	if err != nil {
		return nil, fmt.Errorf("sign as %s: %w", e.Signer.Name, err)
	}
	if e.Spoil != nil {
		text = e.Spoil(text)
	}
	return text, nil
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// header gives the signed attributes but algorithm and critical, and the names of those that are critical.
func (e Envelope) header(encode func(time.Time) any) (attributes map[string]any, critical []string) {
	attributes = map[string]any{"io.cncf.notary.signingScheme": e.Scheme}
	critical = []string{"io.cncf.notary.signingScheme"}
	if e.Scheme == schemeAuthority {
		attributes["io.cncf.notary.authenticSigningTime"] = encode(e.Time)
		critical = append(critical, "io.cncf.notary.authenticSigningTime")
	} else {
		attributes["io.cncf.notary.signingTime"] = encode(e.Time)
	}
	if !e.Expiry.IsZero() {
		attributes["io.cncf.notary.expiry"] = encode(e.Expiry)
		critical = append(critical, "io.cncf.notary.expiry")
	}
	for name, value := range e.Attributes {
		attributes[name] = value
	}
	return attributes, append(critical, e.Critical...)
}

func (e Envelope) jws(key crypto.Signer) ([]byte, error) {
	attributes, critical := e.header(func(t time.Time) any { return t.UTC().Format(time.RFC3339) })
	attributes["alg"], attributes["cty"], attributes["crit"] = e.Algorithm, e.ContentType, critical
	protected, err := json.Marshal(attributes)
	if err != nil {
		return nil, err
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode(protected) + "." + encode(e.Payload)
	signature, err := sign(key, e.Algorithm, []byte(signed))
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"payload": encode(e.Payload), "protected": encode(protected), "signature": encode(signature),
		"header": map[string]any{"x5c": e.Chain, "io.cncf.notary.signingAgent": "adversary"},
	})
}

func (e Envelope) cose(key crypto.Signer) ([]byte, error) {
	attributes, critical := e.header(func(t time.Time) any { return cbor.Tag{Number: 1, Content: t.Unix()} })
	header := map[any]any{1: coseAlgorithms()[e.Algorithm], 2: critical, 3: e.ContentType}
	for name, value := range attributes {
		header[name] = value
	}
	encoder, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	protected, err := encoder.Marshal(header)
	if err != nil {
		return nil, err
	}
	signed, err := encoder.Marshal([]any{"Signature1", protected, []byte{}, e.Payload})
	if err != nil {
		return nil, err
	}
	signature, err := sign(key, e.Algorithm, signed)
	if err != nil {
		return nil, err
	}
	unprotected := map[any]any{33: e.Chain, "io.cncf.notary.signingAgent": "adversary"}
	return encoder.Marshal(cbor.Tag{Number: 18, Content: []any{protected, unprotected, e.Payload, signature}})
}

func coseAlgorithms() map[string]int {
	return map[string]int{"ES256": -7, "ES384": -35, "ES512": -36, "PS256": -37, "PS384": -38, "PS512": -39}
}

// algorithmOf is the algorithm that the specification gives a key; for keys that it does not allow, one that works.
func algorithmOf(key crypto.PublicKey) string {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return map[int]string{3072: "PS384", 4096: "PS512"}[k.N.BitLen()] + map[bool]string{true: "PS256"}[k.N.BitLen() < 3072]
	case *ecdsa.PublicKey:
		return map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[k.Params().BitSize]
	}
	return "none"
}

func sign(key crypto.Signer, algorithm string, text []byte) ([]byte, error) {
	hash := map[string]crypto.Hash{"384": crypto.SHA384, "512": crypto.SHA512}[algorithm[min(2, len(algorithm)):]]
	if hash == 0 {
		hash = crypto.SHA256
	}
	h := hash.New()
	h.Write(text)
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return rsa.SignPSS(rand.Reader, k, hash, h.Sum(nil), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, h.Sum(nil))
		half := (k.Params().BitSize + 7) / 8
		if err != nil {
			return nil, err
		}
		return slices.Concat(r.FillBytes(make([]byte, half)), s.FillBytes(make([]byte, half))), nil
	}
	return nil, fmt.Errorf("no key to sign with")
}
