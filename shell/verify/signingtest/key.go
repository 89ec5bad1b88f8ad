package signingtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
)

// KeyType is a kind of key that the Notary Project allows. The zero value is
// ECDSA256, the fastest to make.
// https://github.com/notaryproject/specifications/blob/v1.1.0/specs/signature-specification.md#algorithm-selection
type KeyType int

// The allowed kinds. An RSA key takes up to seconds to make: make one with
// NewKey and hand it to several Options.
const (
	ECDSA256 KeyType = iota
	ECDSA384
	ECDSA521
	RSA2048
	RSA3072
	RSA4096
)

// NewKey makes a private key.
func NewKey(keyType KeyType) (crypto.Signer, error) {
	switch keyType {
	case ECDSA256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ECDSA384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case ECDSA521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	default:
		return nil, fmt.Errorf("key type %d is not known", keyType)
	}
}

// keyOrNew returns the given key, or a new one where there is none.
func keyOrNew(key crypto.Signer, keyType KeyType) (crypto.Signer, error) {
	if key != nil {
		return key, nil
	}
	return NewKey(keyType)
}
