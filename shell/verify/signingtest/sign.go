package signingtest

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"time"

	"github.com/notaryproject/notation-core-go/signature"
	"github.com/notaryproject/notation-core-go/signature/cose"
	"github.com/notaryproject/notation-core-go/signature/jws"
	"github.com/notaryproject/tspclient-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The envelope formats, by media type.
const (
	JWS  = jws.MediaTypeEnvelope
	COSE = cose.MediaTypeEnvelope
)

// payloadType is the content type of what is signed.
// https://github.com/notaryproject/specifications/blob/v1.1.0/specs/signature-specification.md#payload
const payloadType = "application/vnd.cncf.notary.payload.v1+json"

// The extended attributes by which a signature asks for a verification plugin,
// and the one that venafi-csp adds.
// https://github.com/notaryproject/specifications/blob/v1.1.0/specs/signature-specification.md#extended-attributes
const (
	attributePlugin           = "io.cncf.notary.verificationPlugin"
	attributePluginMinVersion = "io.cncf.notary.verificationPluginMinVersion"
	attributeX5U              = "com.venafi.notation.plugin.x5u"
)

// Signer signs with one certificate.
type Signer struct {
	Certificate *x509.Certificate
	Chain       []*x509.Certificate // from Certificate to the root
	Key         crypto.Signer
}

// SignRequest is what to sign and how. Subject is required.
type SignRequest struct {
	Subject ocispec.Descriptor

	// Format is JWS or COSE; zero is JWS.
	Format string

	// SigningTime is when the signature claims to have been made. Zero is
	// now, or the nearest time at which the certificate was valid.
	SigningTime time.Time

	// Expiry is how long after SigningTime the signature expires; zero is
	// never. To make an expired signature, set a SigningTime in the past.
	Expiry time.Duration

	// SigningScheme is signature.SigningSchemeX509 or
	// signature.SigningSchemeX509SigningAuthority; zero is the former.
	SigningScheme signature.SigningScheme

	// Plugin makes the signature ask for a verification plugin; nil does not.
	Plugin *PluginAttributes

	// UserMetadata becomes the annotations of the signed descriptor.
	UserMetadata map[string]string

	// Timestamper countersigns the signature (RFC 3161); nil does not. Its
	// root must be among TimestampRoots.
	Timestamper    tspclient.Timestamper
	TimestampRoots *x509.CertPool
}

// PluginAttributes are the extended attributes of a signature made with a
// plugin, critical but for X5U. Empty ones are left out.
type PluginAttributes struct {
	Name       string
	MinVersion string
	X5U        string

	// Other are further critical attributes.
	Other map[string]string
}

// UnansweredX5U is an address of a signing platform that nobody answers.
const UnansweredX5U = "https://tpp.example.com/vedsdk/pks/lookup?id=1"

// Venafi returns the attributes that signatures of venafi-csp carry. A platform
// that answers is a [Platform].
func Venafi() *PluginAttributes {
	return &PluginAttributes{
		Name:       "venafi-csp",
		MinVersion: "0.2.0",
		X5U:        UnansweredX5U,
	}
}

// Sign makes a signature envelope. The library refuses signing times at which
// a certificate of the chain was not valid, and keys that do not fit; what it
// accepts is signed as `notation sign` would have signed it then.
func (s *Signer) Sign(ctx context.Context, request SignRequest) ([]byte, error) {
	payload, err := payloadFor(request)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", request.Subject.Digest, err)
	}
	local, err := signature.NewLocalSigner(s.Chain, s.Key)
	if err != nil {
		return nil, fmt.Errorf("sign %s as %s: %w", request.Subject.Digest, s.Certificate.Subject, err)
	}
	low := &signature.SignRequest{
		Payload:                  signature.Payload{ContentType: payloadType, Content: payload},
		Signer:                   local,
		SigningTime:              s.signingTime(request),
		SigningScheme:            request.SigningScheme,
		ExtendedSignedAttributes: request.Plugin.extended(),
		SigningAgent:             "signing-test",
		Timestamper:              request.Timestamper,
		TSARootCAs:               request.TimestampRoots,
	}
	if low.SigningScheme == "" {
		low.SigningScheme = signature.SigningSchemeX509
	}
	if request.Expiry != 0 {
		low.Expiry = low.SigningTime.Add(request.Expiry)
	}
	envelope, err := signature.NewEnvelope(formatOrDefault(request.Format))
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", request.Subject.Digest, err)
	}
	signed, err := envelope.Sign(low.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("sign %s as %s: %w", request.Subject.Digest, s.Certificate.Subject, err)
	}
	return signed, nil
}

// TrustedIdentity returns the signer as a trust policy names it.
func (s *Signer) TrustedIdentity() string {
	return "x509.subject: " + s.Certificate.Subject.String()
}

// ChainPEM returns the certificates from the signer to the root.
func (s *Signer) ChainPEM() []byte { return encodePEM(s.Chain...) }

// signingTime returns the requested time, or the time nearest to now within
// the validity of the certificate. The envelope keeps whole seconds only.
func (s *Signer) signingTime(request SignRequest) time.Time {
	if !request.SigningTime.IsZero() {
		return request.SigningTime
	}
	now := time.Now()
	if now.After(s.Certificate.NotAfter) {
		return s.Certificate.NotAfter
	}
	if now.Before(s.Certificate.NotBefore) {
		return s.Certificate.NotBefore
	}
	return now
}

// payloadFor encodes the descriptor that is signed: media type, digest, size
// and the user's metadata, nothing else.
func payloadFor(request SignRequest) ([]byte, error) {
	return json.Marshal(struct {
		TargetArtifact ocispec.Descriptor `json:"targetArtifact"`
	}{
		TargetArtifact: ocispec.Descriptor{
			MediaType:   request.Subject.MediaType,
			Digest:      request.Subject.Digest,
			Size:        request.Subject.Size,
			Annotations: request.UserMetadata,
		},
	})
}

// extended returns the attributes as the envelope wants them.
func (p *PluginAttributes) extended() []signature.Attribute {
	if p == nil {
		return nil
	}
	var attributes []signature.Attribute
	add := func(key, value string) {
		if value != "" {
			attributes = append(attributes, signature.Attribute{Key: key, Critical: true, Value: value})
		}
	}
	add(attributePlugin, p.Name)
	add(attributePluginMinVersion, p.MinVersion)
	if p.X5U != "" { // which venafi-csp does not mark as critical
		attributes = append(attributes, signature.Attribute{Key: attributeX5U, Value: p.X5U})
	}
	for key, value := range p.Other {
		add(key, value)
	}
	return attributes
}

func formatOrDefault(format string) string {
	if format == "" {
		return JWS
	}
	return format
}
