package verify

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// horizon collects until when the answers hold on which a verification relies, such as lists of revoked certificates.
// notation-core-go does not give them with its result, so they are noted where they come in.
type horizon struct {
	mu    sync.Mutex
	until time.Time // zero: no bound
}

type horizonKey struct{}

// withHorizon lets what is done under a context note its horizon.
func withHorizon(ctx context.Context) (context.Context, *horizon) {
	h := &horizon{}
	return context.WithValue(ctx, horizonKey{}, h), h
}

// horizonOf gives a context's horizon; one that nobody reads where there is none.
func horizonOf(ctx context.Context) *horizon {
	if h, ok := ctx.Value(horizonKey{}).(*horizon); ok {
		return h
	}
	return &horizon{}
}

// note takes in a bound; a zero time is none.
func (h *horizon) note(until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.until.IsZero() || !until.IsZero() && until.Before(h.until) {
		h.until = until
	}
}

// bound is the earliest that was noted.
func (h *horizon) bound() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.until
}

// maxOCSP bounds an OCSP answer that is looked at; bytes. notation-core-go reads no more of one.
const maxOCSP = 20 << 10

// ocspHorizon notes the next update of OCSP answers that pass by. Whether to believe them is not its business.
type ocspHorizon struct{ next http.RoundTripper }

// RoundTrip passes the request on.
func (t ocspHorizon) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxOCSP))
	if err != nil {
		_ = response.Body.Close() // the first error is what counts
		return nil, err
	}
	if err := boundResponder(body, issuersOf(request.Context())); err != nil {
		_ = response.Body.Close()
		return nil, err
	}
	if answer, err := ocsp.ParseResponse(body, nil); err == nil {
		horizonOf(request.Context()).note(answer.NextUpdate)
	}
	rest := response.Body
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), rest), rest}
	return response, nil
}

type issuersKey struct{}

// withIssuers lets what is done under a context know whose certificates a look-up is about.
func withIssuers(ctx context.Context, chain []*x509.Certificate) context.Context {
	return context.WithValue(ctx, issuersKey{}, chain)
}

func issuersOf(ctx context.Context) []*x509.Certificate {
	chain, _ := ctx.Value(issuersKey{}).([]*x509.Certificate)
	return chain
}

// boundResponder says why an OCSP answer may not be verified. Anyone on the way can answer, and the certificate that an
// answer brings is verified with before it is known whose it is. It must be the CA's own, or one that the CA marked for
// this (RFC 6960, section 4.2.2.2); golang.org/x/crypto/ocsp takes every certificate of the CA, a signer's too.
func boundResponder(answer []byte, chain []*x509.Certificate) error {
	var outer struct {
		Status   asn1.Enumerated
		Response struct {
			Type    asn1.ObjectIdentifier
			Content []byte
		} `asn1:"explicit,tag:0,optional"`
	}
	var basic struct {
		Data         asn1.RawValue
		Algorithm    pkix.AlgorithmIdentifier
		Signature    asn1.BitString
		Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	if _, err := asn1.Unmarshal(answer, &outer); err != nil {
		return nil // not an answer that is read any further
	}
	if _, err := asn1.Unmarshal(outer.Response.Content, &basic); err != nil || len(basic.Certificates) == 0 {
		return nil
	}
	responder, err := x509.ParseCertificate(basic.Certificates[0].FullBytes)
	if err != nil {
		return fmt.Errorf("the answer's certificate cannot be read: %w", err)
	}
	if err := trust.CertificateBound(responder); err != nil {
		return err
	}
	delegated := slices.Contains(responder.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning)
	if !delegated && !slices.ContainsFunc(chain[min(1, len(chain)):], responder.Equal) {
		return errors.New("the answer is signed with a certificate that is not meant for it")
	}
	return nil
}
