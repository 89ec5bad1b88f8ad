package verify

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/jellydator/ttlcache/v3"
	"github.com/notaryproject/notation-core-go/revocation"
	"github.com/notaryproject/notation-core-go/revocation/crl"
	"github.com/notaryproject/notation-core-go/revocation/purpose"
	"github.com/notaryproject/notation-go/verifier"
)

// Bounds on revocation checks. A certificate authority that does not answer must leave time for the verdict.
const (
	ocspTimeout = 2 * time.Second
	crlTimeout  = 4 * time.Second
	maxCRLs     = 64
	maxCRLAge   = time.Hour
	// maxCRLBytes bounds the lists that are kept, as they came; decoded, they take several times that. One may have
	// 32 MiB, and under a level that only logs, anyone's certificate may name one.
	maxCRLBytes = 32 << 20
)

// revocationCheck checks signing and timestamping certificates by OCSP and CRL, as notation-go does, with CRLs
// kept in memory.
type revocationCheck struct {
	signing, timestamping revocation.Validator
	transport             *http.Transport
}

func newRevocationCheck() (revocationCheck, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: ocspTimeout, KeepAlive: 30 * time.Second, ControlContext: refuseLinkLocal}).DialContext
	fetcher, err := crl.NewHTTPFetcher(&http.Client{Timeout: crlTimeout, Transport: transport})
	if err != nil {
		return revocationCheck{}, fmt.Errorf("CRL fetcher: %w", err)
	}
	fetcher.Cache = newCRLCache()
	check := revocationCheck{transport: transport}
	for purpose, into := range map[purpose.Purpose]*revocation.Validator{purpose.CodeSigning: &check.signing, purpose.Timestamping: &check.timestamping} {
		*into, err = revocation.NewWithOptions(revocation.Options{
			OCSPHTTPClient:   &http.Client{Timeout: ocspTimeout, Transport: ocspHorizon{transport}},
			CRLFetcher:       fetcher,
			CertChainPurpose: purpose,
		})
		if err != nil {
			return revocationCheck{}, fmt.Errorf("revocation check: %w", err)
		}
	}
	return check, nil
}

func (c revocationCheck) options() verifier.VerifierOptions {
	return verifier.VerifierOptions{RevocationCodeSigningValidator: c.signing, RevocationTimestampingValidator: c.timestamping}
}

func (c revocationCheck) close() { c.transport.CloseIdleConnections() }

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

// sizeOfLists is what lists take, encoded; bytes.
func sizeOfLists(bundle *crl.Bundle) (n int) {
	for _, list := range []*x509.RevocationList{bundle.BaseCRL, bundle.DeltaCRL} {
		if list != nil {
			n += len(list.Raw)
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

// Set keeps a list, unless it would drive out all others.
func (c *crlCache) Set(ctx context.Context, url string, bundle *crl.Bundle) error {
	seen(ctx, bundle)
	if sizeOfLists(bundle) > maxCRLBytes {
		return nil
	}
	c.lists.Set(url, bundle, ttlcache.DefaultTTL)
	return nil
}

func seen(ctx context.Context, bundle *crl.Bundle) {
	for _, list := range []*x509.RevocationList{bundle.BaseCRL, bundle.DeltaCRL} {
		if list != nil {
			horizonOf(ctx).note(list.NextUpdate)
		}
	}
}

// refuseLinkLocal keeps a certificate, which may be a stranger's, from having metadata services of clouds asked.
func refuseLinkLocal(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	if addr := to.Addr().Unmap(); addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr.WithZone("") == netip.MustParseAddr("fd00:ec2::254") {
		return fmt.Errorf("%s is no address of a revocation service", addr)
	}
	return nil
}
