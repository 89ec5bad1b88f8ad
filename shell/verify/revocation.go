package verify

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jellydator/ttlcache/v3"
	"github.com/notaryproject/notation-core-go/revocation"
	"github.com/notaryproject/notation-core-go/revocation/crl"
	"github.com/notaryproject/notation-core-go/revocation/purpose"
	"github.com/notaryproject/notation-core-go/revocation/result"
	"github.com/samber/lo"
	"golang.org/x/sync/semaphore"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/egress"
	"github.com/nirmata/kyverno-notation-venafi/shell/fair"
	"github.com/nirmata/kyverno-notation-venafi/shell/tracing"
)

// Bounds on revocation checks. A certificate authority that does not answer must leave time for the verdict.
const (
	ocspTimeout = 2 * time.Second
	crlTimeout  = 4 * time.Second
	maxCRLs     = 64
	maxCRLAge   = time.Hour
	// maxCRLBytes bounds the cached lists, decoded; crlEntry is the memory of one entry beside its encoded form.
	maxCRLBytes = 64 << 20
	crlEntry    = 240
	// maxAddresses bounds the addresses of further lists in a list. notation-core-go connects to them one after the other,
	// even past the request's end, before it verifies the list.
	maxAddresses = 64
	// maxRevocationHeader bounds the header of an answer, bytes.
	maxRevocationHeader = 64 << 10
	// maxCRL bounds one list, bytes. Decoded it takes twenty times the memory, so only largeCRLs of the lists over smallCRL are
	// read and decoded at once: anyone on the network path can answer.
	maxCRL    = 8 << 20
	smallCRL  = 256 << 10
	largeCRLs = 2
)

// revocationCheck checks signing and timestamping certificates by OCSP and CRL, as notation-go does, with CRLs
// kept in memory.
type revocationCheck struct {
	signing, timestamping revocation.Validator
	transport             *http.Transport
}

// newRevocationCheck makes a check that connects only where the rule allows, since certificates may name any address.
func newRevocationCheck(rule egress.Rule) (revocationCheck, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = maxRevocationHeader
	guarded := rule.Guard(transport, net.Dialer{Timeout: ocspTimeout, KeepAlive: 30 * time.Second})
	fetcher, err := crl.NewHTTPFetcher(&http.Client{Timeout: crlTimeout, Transport: crlTransport{guarded, semaphore.NewWeighted(largeCRLs)}})
	if err != nil {
		return revocationCheck{}, fmt.Errorf("CRL fetcher: %w", err)
	}
	fetcher.Cache = newCRLCache()
	check := revocationCheck{transport: transport}
	for purpose, into := range map[purpose.Purpose]*revocation.Validator{purpose.CodeSigning: &check.signing, purpose.Timestamping: &check.timestamping} {
		*into, err = revocation.NewWithOptions(revocation.Options{
			OCSPHTTPClient:   &http.Client{Timeout: ocspTimeout, Transport: ocspTransport{guarded}},
			CRLFetcher:       fetcher,
			CertChainPurpose: purpose,
		})
		if err != nil {
			return revocationCheck{}, fmt.Errorf("revocation check: %w", err)
		}
	}
	return check, nil
}

func (c revocationCheck) close() { c.transport.CloseIdleConnections() }

// watchedRevocation checks the revocation of one chain. It connects to no address of a certificate whose signer is not
// authentic, and records what notation-go does not return.
type watchedRevocation struct {
	next      revocation.Validator
	authentic func(chain []*x509.Certificate) error // why the signer is not authentic; nil when it is

	withheld         bool // no server was asked, since the signer is not authentic
	revoked, unknown bool // the status of some certificate
	causes           []string
}

// ValidateContext checks a chain, if its signer is authentic.
func (w *watchedRevocation) ValidateContext(ctx context.Context, options revocation.ValidateContextOptions) ([]*result.CertRevocationResult, error) {
	if !slices.ContainsFunc(options.CertChain, func(c *x509.Certificate) bool { return len(c.OCSPServer)+len(c.CRLDistributionPoints) > 0 }) {
		return unrevocable(options.CertChain), nil // notation-core-go would validate the chain once more for the same result
	}
	if err := w.authentic(options.CertChain); err != nil {
		w.withheld = true
		return nil, fmt.Errorf("nobody was asked, since %w", err)
	}
	options.CertChain = lo.Map(options.CertChain, func(c *x509.Certificate, _ int) *x509.Certificate { return withAddresses(c) })
	ctx, span := tracing.Start(ctx, "revocation", "")
	defer span.End()
	results, err := w.next.ValidateContext(withIssuers(ctx, options.CertChain), options)
	w.unknown = err != nil
	for _, of := range results {
		w.revoked = w.revoked || of.Result == result.ResultRevoked
		if of.Result != result.ResultUnknown {
			continue
		}
		w.unknown = true
		for _, server := range of.ServerResults {
			if server.Error != nil {
				w.causes = append(w.causes, reason.Clip(fmt.Sprintf("%s: %s", server.Server, sentence(server.Error)), reason.MaxWords/2))
			}
		}
	}
	span.Flag("revoked", w.revoked)
	span.Flag("unknown", w.unknown)
	return results, err
}

// unrevocable is the result for a chain whose certificates name no OCSP or CRL address.
func unrevocable(chain []*x509.Certificate) []*result.CertRevocationResult {
	return lo.Map(chain, func(*x509.Certificate, int) *result.CertRevocationResult {
		server := &result.ServerResult{Result: result.ResultNonRevokable, RevocationMethod: result.RevocationMethodUnknown}
		return &result.CertRevocationResult{Result: server.Result, ServerResults: []*result.ServerResult{server}, RevocationMethod: server.RevocationMethod}
	})
}

// report gives what was recorded.
func (w *watchedRevocation) report() verification.RevocationReport {
	report := verification.RevocationReport{Withheld: w.withheld, Revoked: w.revoked, Unknown: w.unknown}
	if len(w.causes) > 0 {
		report.Causes = reason.Clip(" ("+strings.Join(w.causes, "; ")+")", reason.MaxWords)
	}
	return report
}

// withAddresses removes CRL addresses that cannot be fetched, such as those of ldap, where the certificate has others.
// Otherwise notation-core-go would try them, fail, and leave the status unknown.
func withAddresses(certificate *x509.Certificate) *x509.Certificate {
	fetched := lo.Filter(certificate.CRLDistributionPoints, func(address string, _ int) bool {
		return len(address) > len("http:") && strings.EqualFold(address[:len("http:")], "http:")
	})
	if len(fetched) == 0 || len(fetched) == len(certificate.CRLDistributionPoints) {
		return certificate
	}
	reduced := *certificate
	reduced.CRLDistributionPoints = fetched
	return &reduced
}

// crlTransport bounds CRLs, and converts those in PEM to DER.
type crlTransport struct {
	next  http.RoundTripper
	large *semaphore.Weighted // lists over smallCRL at once
}

// RoundTrip passes the request on.
func (t crlTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	list := newCRLBody(request.Context(), response.Body, t.large)
	head := make([]byte, len("-----BEGIN"))
	n, err := io.ReadFull(list, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		_ = list.Close() // the first error is what counts
		return nil, err
	}
	rest := io.Reader(io.MultiReader(bytes.NewReader(head[:n]), list))
	if string(head[:n]) == "-----BEGIN" {
		text, err := io.ReadAll(rest)
		if err != nil {
			_ = list.Close()
			return nil, err
		}
		if block, _ := pem.Decode(text); block != nil {
			text = block.Bytes
		}
		if bytes.Count(text, []byte("://")) > maxAddresses {
			_ = list.Close()
			return nil, fmt.Errorf("it has more than %d addresses", maxAddresses)
		}
		rest = bytes.NewReader(text)
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{rest, list}
	return response, nil
}

// crlBody is a list as it is read. One that turns out large waits for its turn, which lasts until it is decoded: then
// notation-core-go closes it.
type crlBody struct {
	fair.LongBody
	n         int // bytes so far
	addresses int // in them
}

func newCRLBody(ctx context.Context, body io.ReadCloser, large *semaphore.Weighted) *crlBody {
	acquire := func() (func(), error) {
		if err := large.Acquire(ctx, 1); err != nil {
			return nil, err
		}
		return func() { large.Release(1) }, nil
	}
	return &crlBody{LongBody: fair.LongBody{ReadCloser: body, After: smallCRL, Acquire: acquire, What: "large lists"}}
}

// Read fails past the bound.
func (b *crlBody) Read(p []byte) (int, error) {
	n, err := b.LongBody.Read(p)
	b.n += n
	b.addresses += bytes.Count(p[:n], []byte("://"))
	switch {
	case b.n > maxCRL:
		return 0, fmt.Errorf("it has more than %d bytes", maxCRL)
	case b.addresses > maxAddresses:
		return 0, fmt.Errorf("it has more than %d addresses", maxAddresses)
	}
	return n, err
}

// crlCache is notation-core-go's CRL cache in memory. The fetcher itself refuses lists past their next update.
type crlCache struct {
	lists *ttlcache.Cache[string, *crl.Bundle]
}

func newCRLCache() *crlCache {
	return &crlCache{ttlcache.New(
		ttlcache.WithTTL[string, *crl.Bundle](maxCRLAge),
		ttlcache.WithCapacity[string, *crl.Bundle](maxCRLs),
		ttlcache.WithMaxCost(maxCRLBytes, func(item ttlcache.CostItem[string, *crl.Bundle]) uint64 {
			return uint64(sizeOfLists(item.Value))
		}),
		ttlcache.WithDisableTouchOnHit[string, *crl.Bundle](),
	)}
}

// sizeOfLists is the memory of decoded lists, bytes.
func sizeOfLists(bundle *crl.Bundle) (n int) {
	for _, list := range []*x509.RevocationList{bundle.BaseCRL, bundle.DeltaCRL} {
		if list != nil {
			n += len(list.Raw) + crlEntry*len(list.RevokedCertificateEntries)
		}
	}
	return n
}

// Get gives a list, or crl.ErrCacheMiss.
func (c *crlCache) Get(ctx context.Context, url string) (*crl.Bundle, error) {
	item := c.lists.Get(url)
	if item == nil {
		return nil, crl.ErrCacheMiss
	}
	seen(ctx, item.Value())
	return item.Value(), nil
}

// Set caches a list that the CA signed, unless it would evict all others. An unsigned list, which anyone on the network path
// can send, must not be cached: it would be refused for as long as it is.
func (c *crlCache) Set(ctx context.Context, url string, bundle *crl.Bundle) error {
	seen(ctx, bundle)
	signed := func(list *x509.RevocationList) bool {
		return list == nil || slices.ContainsFunc(issuersOf(ctx), func(ca *x509.Certificate) bool { return list.CheckSignatureFrom(ca) == nil })
	}
	if sizeOfLists(bundle) > maxCRLBytes || !signed(bundle.BaseCRL) || !signed(bundle.DeltaCRL) {
		return nil
	}
	c.lists.Set(url, bundle, ttlcache.DefaultTTL)
	return nil
}

func seen(ctx context.Context, bundle *crl.Bundle) {
	for _, list := range []*x509.RevocationList{bundle.BaseCRL, bundle.DeltaCRL} {
		if list != nil {
			freshnessOf(ctx).note(list.NextUpdate)
		}
	}
}
