package verify

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"

	signature "github.com/notaryproject/notation-core-go/signature/cose"
	"github.com/notaryproject/notation-core-go/signature/jws"
	"github.com/notaryproject/tspclient-go"
	"github.com/veraison/go-cose"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// Bounds on an envelope, which anyone with push rights chooses. They are checked before anything in it is verified.
const (
	// maxProtected bounds the protected header, bytes: comparing its attributes with each other takes 70 ms at this size, and
	// cannot be interrupted.
	maxProtected = 32 << 10
	maxChain     = 10 // certificates, of the signer and of a timestamp
)

// contents are the payload of an envelope, and the parts that cost time to verify.
type contents struct {
	payload   []byte
	chain     []*x509.Certificate // from the leaf
	protected int                 // bytes of the protected header
	timestamp []byte              // RFC 3161 token
}

// contentsOf parses an envelope as notation-core-go does, without verifying it. It leaves out what cannot be parsed, since
// notation-core-go fails there as well.
func contentsOf(mediaType string, envelope []byte) contents {
	switch mediaType {
	case jws.MediaTypeEnvelope:
		return contentsOfJWS(envelope)
	case signature.MediaTypeEnvelope:
		return contentsOfCOSE(envelope)
	}
	return contents{}
}

func contentsOfJWS(envelope []byte) contents {
	var read struct {
		Payload   string `json:"payload"`
		Protected string `json:"protected"`
		Header    struct {
			Timestamp []byte   `json:"io.cncf.notary.timestampSignature,omitempty"`
			Chain     [][]byte `json:"x5c"`
			Agent     string   `json:"io.cncf.notary.signingAgent,omitempty"`
		} `json:"header"`
		Signature string `json:"signature"`
	}
	if json.Unmarshal(envelope, &read) != nil {
		return contents{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(read.Payload)
	if err != nil {
		return contents{}
	}
	return contents{payload: payload, chain: certificatesOf(read.Header.Chain), protected: len(read.Protected), timestamp: read.Header.Timestamp}
}

func contentsOfCOSE(envelope []byte) contents {
	var message cose.Sign1Message
	if message.UnmarshalCBOR(envelope) != nil {
		return contents{}
	}
	values, _ := message.Headers.Unprotected[cose.HeaderLabelX5Chain].([]any)
	var chain [][]byte
	for _, value := range values {
		encoded, _ := value.([]byte)
		chain = append(chain, encoded)
	}
	timestamp, _ := message.Headers.Unprotected["io.cncf.notary.timestampSignature"].([]byte)
	return contents{payload: message.Payload, chain: certificatesOf(chain), protected: len(message.Headers.RawProtected), timestamp: timestamp}
}

// certificatesOf parses at most one certificate more than is allowed.
func certificatesOf(encoded [][]byte) (certificates []*x509.Certificate) {
	for _, der := range encoded[:min(len(encoded), maxChain+1)] {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			certificate = &x509.Certificate{Raw: der}
		}
		certificates = append(certificates, certificate)
	}
	return certificates
}

// bound says why an envelope is too costly to verify; nil when it is not.
func (c contents) bound() error {
	if c.protected > maxProtected {
		return fmt.Errorf("its protected header has %d bytes, which is over the bound of %d", c.protected, maxProtected)
	}
	if err := boundChain(c.chain); err != nil {
		return err
	}
	if len(c.timestamp) == 0 {
		return nil
	}
	token, err := tspclient.ParseSignedToken(c.timestamp)
	if err != nil {
		return nil // then it does not verify
	}
	if n := len(token.SignerInfos); n > 1 {
		return fmt.Errorf("its timestamp has %d signatures; a timestamp has one", n)
	}
	if err := boundChain(token.Certificates); err != nil {
		return fmt.Errorf("its timestamp: %w", err)
	}
	return nil
}

func boundChain(chain []*x509.Certificate) error {
	if len(chain) > maxChain {
		return fmt.Errorf("it has more than %d certificates", maxChain)
	}
	for _, certificate := range chain {
		if err := trust.CertificateBound(certificate); err != nil {
			return err
		}
	}
	return nil
}
