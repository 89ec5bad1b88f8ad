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

// freshness collects when the revocation data of a verification expires: OCSP answers and CRLs. notation-core-go does not
// return that with its result, so it is noted where the data arrives.
type freshness struct {
	mu    sync.Mutex
	until time.Time // zero: no bound
}

type freshnessKey struct{}

// withFreshness gives a context under which expiries are noted.
func withFreshness(ctx context.Context) (context.Context, *freshness) {
	h := &freshness{}
	return context.WithValue(ctx, freshnessKey{}, h), h
}

// freshnessOf gives a context's freshness; one that nobody reads where there is none.
func freshnessOf(ctx context.Context) *freshness {
	if h, ok := ctx.Value(freshnessKey{}).(*freshness); ok {
		return h
	}
	return &freshness{}
}

// note adds an expiry; a zero time is none.
func (h *freshness) note(until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.until.IsZero() || !until.IsZero() && until.Before(h.until) {
		h.until = until
	}
}

// bound is the earliest expiry; zero for none.
func (h *freshness) bound() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.until
}

// maxOCSP bounds an OCSP answer, bytes. notation-core-go reads no more.
const maxOCSP = 20 << 10

// ocspTransport notes when OCSP answers expire, and refuses those of unfit responders. notation-core-go verifies them.
type ocspTransport struct{ next http.RoundTripper }

// RoundTrip passes the request on.
func (t ocspTransport) RoundTrip(request *http.Request) (*http.Response, error) {
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
		freshnessOf(request.Context()).note(answer.NextUpdate)
	}
	rest := response.Body
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), rest), rest}
	return response, nil
}

type issuersKey struct{}

// withIssuers gives a context with the chain whose revocation is looked up.
func withIssuers(ctx context.Context, chain []*x509.Certificate) context.Context {
	return context.WithValue(ctx, issuersKey{}, chain)
}

func issuersOf(ctx context.Context) []*x509.Certificate {
	chain, _ := ctx.Value(issuersKey{}).([]*x509.Certificate)
	return chain
}

// boundResponder says why an OCSP answer must not be verified. Anyone on the network path can answer, and verification uses
// the certificate in the answer before it is known to be trusted, so its key is bounded. It must be the CA's own, or one for
// OCSP signing (RFC 6960, section 4.2.2.2): golang.org/x/crypto/ocsp accepts every certificate of the CA, a signer's too.
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
