package oracle

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
	kjson "sigs.k8s.io/json"
)

// The media types of envelopes, and of what they hold.
const (
	mediaTypeJWS     = "application/jose+json"
	mediaTypeCOSE    = "application/cose"
	mediaTypePayload = "application/vnd.cncf.notary.payload.v1+json"
)

// The signed attributes that the specification defines, and those by which a signature demands a plugin.
const (
	attributeScheme        = "io.cncf.notary.signingScheme"
	attributeTime          = "io.cncf.notary.signingTime"
	attributeAuthentic     = "io.cncf.notary.authenticSigningTime"
	attributeExpiry        = "io.cncf.notary.expiry"
	attributePlugin        = "io.cncf.notary.verificationPlugin"
	attributePluginVersion = "io.cncf.notary.verificationPluginMinVersion"

	schemeX509      = "notary.x509"
	schemeAuthority = "notary.x509.signingAuthority"
)

// envelope is a signature envelope as it was read: what is signed, by whom, and how.
type envelope struct {
	algorithm string // as in a JWS: "PS256", "ES384", ...
	chain     []*x509.Certificate
	signed    []byte // the bytes that the signature is over
	signature []byte

	payload     []byte
	contentType string
	scheme      string
	signingTime time.Time
	expiry      time.Time // zero for none
	critical    []string
	extended    map[string]string // signed attributes that are strings
}

// readEnvelope reads a JWS or COSE envelope.
func readEnvelope(mediaType string, text []byte) (envelope, bool) {
	switch mediaType {
	case mediaTypeJWS:
		return readJWS(text)
	case mediaTypeCOSE:
		return readCOSE(text)
	}
	return envelope{}, false
}

// readJWS reads the flattened JSON serialisation.
func readJWS(text []byte) (e envelope, ok bool) {
	var outer struct {
		Payload   string `json:"payload"`
		Protected string `json:"protected"`
		Signature string `json:"signature"`
		Header    struct {
			Chain [][]byte `json:"x5c"`
		} `json:"header"`
	}
	if kjson.UnmarshalCaseSensitivePreserveInts(text, &outer) != nil { // as names in JSON have a case
		return envelope{}, false
	}
	var errs [3]error
	var protected []byte
	protected, errs[0] = base64.RawURLEncoding.DecodeString(outer.Protected)
	e.payload, errs[1] = base64.RawURLEncoding.DecodeString(outer.Payload)
	e.signature, errs[2] = base64.RawURLEncoding.DecodeString(outer.Signature)
	if errs != [3]error{} {
		return envelope{}, false
	}
	e.signed = []byte(outer.Protected + "." + outer.Payload)
	var header map[string]any
	if json.Unmarshal(protected, &header) != nil {
		return envelope{}, false
	}
	e.algorithm, _ = header["alg"].(string)
	e.contentType, _ = header["cty"].(string)
	listed, _ := header["crit"].([]any)
	for _, name := range listed {
		text, _ := name.(string)
		e.critical = append(e.critical, text)
	}
	e.extended = map[string]string{}
	for name, value := range header {
		if text, isText := value.(string); isText {
			e.extended[name] = text
		}
	}
	parse := func(name string) time.Time {
		at, _ := time.Parse(time.RFC3339, e.extended[name])
		return at
	}
	e.scheme = e.extended[attributeScheme]
	e.expiry = parse(attributeExpiry)
	e.signingTime = parse(map[string]string{schemeX509: attributeTime, schemeAuthority: attributeAuthentic}[e.scheme])
	return e, e.readChain(outer.Header.Chain)
}

// readCOSE reads a COSE_Sign1 structure, RFC 9052 section 4.2.
func readCOSE(text []byte) (e envelope, ok bool) {
	var outer struct {
		_           struct{} `cbor:",toarray"`
		Protected   []byte
		Unprotected map[any]any
		Payload     []byte
		Signature   []byte
	}
	var tagged cbor.RawTag
	if cbor.Unmarshal(text, &tagged) != nil || tagged.Number != 18 || cbor.Unmarshal(tagged.Content, &outer) != nil {
		return envelope{}, false
	}
	var header map[any]any
	if cbor.Unmarshal(outer.Protected, &header) != nil {
		return envelope{}, false
	}
	e.payload, e.signature, e.extended = outer.Payload, outer.Signature, map[string]string{}
	signed, err := cbor.Marshal([]any{"Signature1", outer.Protected, []byte{}, outer.Payload})
	if err != nil {
		return envelope{}, false
	}
	e.signed = signed
	e.algorithm = coseAlgorithm(header[uint64(1)])
	listed, _ := header[uint64(2)].([]any)
	for _, name := range listed {
		text, _ := name.(string)
		e.critical = append(e.critical, text)
	}
	e.contentType, _ = header[uint64(3)].(string)
	for name, value := range header {
		key, named := name.(string)
		if text, isText := value.(string); isText && named {
			e.extended[key] = text
		}
	}
	e.scheme = e.extended[attributeScheme]
	e.expiry, _ = header[attributeExpiry].(time.Time)
	e.signingTime, _ = header[map[string]string{schemeX509: attributeTime, schemeAuthority: attributeAuthentic}[e.scheme]].(time.Time)
	var chain [][]byte
	switch listed := outer.Unprotected[uint64(33)].(type) {
	case []byte:
		chain = [][]byte{listed}
	case []any:
		for _, certificate := range listed {
			der, _ := certificate.([]byte)
			chain = append(chain, der)
		}
	}
	return e, e.readChain(chain)
}

// coseAlgorithm names an algorithm of the COSE registry as JWS does.
func coseAlgorithm(number any) string {
	n, _ := number.(int64)
	return map[int64]string{-7: "ES256", -35: "ES384", -36: "ES512", -37: "PS256", -38: "PS384", -39: "PS512"}[n]
}

func (e *envelope) readChain(chain [][]byte) bool {
	for _, der := range chain {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return false
		}
		e.chain = append(e.chain, certificate)
	}
	return len(e.chain) > 0
}

// demandsPlugin tells that the signature names a verification plugin.
func (e *envelope) demandsPlugin() bool { return e.extended[attributePlugin] != "" }

// understood tells whether every critical attribute is the specification's own.
func (e *envelope) understood() bool {
	own := []string{attributeScheme, attributeTime, attributeAuthentic, attributeExpiry, attributePlugin, attributePluginVersion}
	return !slices.ContainsFunc(e.critical, func(name string) bool { return !slices.Contains(own, name) })
}

// targets tells whether the payload is about an artifact: its digest, size and media type.
func (e *envelope) targets(artifact descriptor) bool {
	var payload struct {
		TargetArtifact descriptor `json:"targetArtifact"`
	}
	return json.Unmarshal(e.payload, &payload) == nil && payload.TargetArtifact == artifact && !strings.Contains(string(e.payload), "TargetArtifact")
}
