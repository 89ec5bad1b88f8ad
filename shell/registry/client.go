// Package registry reads images, signatures and attestations from OCI registries, with bounds on everything that a registry
// may answer.
//
// A [Client] holds what requests share for each registry: connections, tokens, and turns for reads. A [Repository] waits
// for its turn and then reads:
//
//  1. [Repository.Resolve] asks for a tag's descriptor with HEAD, or with GET where the answer to HEAD is incomplete.
//  2. [Repository.Referrers] lists what refers to a digest, page by page of the referrers API, or by the fallback tag.
//  3. [Repository.Manifest] and [Repository.Blob] fetch content and verify its digest.
//
// Requests are retried within a budget. Failures are an [Error] with a code. Content whose digest holds and that cannot be
// used is [ErrUnusable], the artifact's fault and a reason to deny; an answer that violates the specification is the
// registry's fault, and may be gone with the next try.
package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/shell/fair"
)

// Options of a Client. The zero value speaks TLS to everyone and knows no credentials.
type Options struct {
	Credential    CredentialFunc // nil is anonymous
	CAFile        string         // PEM with further roots beside the system's; "" for none
	InsecureHosts []string       // hosts spoken to over plain HTTP
	AllowInsecure bool           // any registry that does not speak TLS is spoken to over plain HTTP
	AllowLoopback bool           // registries at loopback addresses are connected to
	MaxReferrers  int            // of one artifact and artifact type that are listed
	MaxRequests   int            // reads from one registry at once; 0 is 64
	Pace          Pace           // asked before every request; nil for no bound but MaxRequests
	Shared        Shared         // tells other replicas which registries want no requests; nil for nobody

	// Mirrors names registries that have what another one has, by that one: "mirror.example", or "mirror.example/prefix" where its
	// repositories have names with a prefix. They are asked for content by digest before the registry itself.
	Mirrors map[string][]string
	// MirrorsResolve asks mirrors for tags and for lists of signatures too, which no digest vouches for. Then who runs a mirror can move a tag
	// back to an older image that is signed, and leave attestations out.
	MirrorsResolve bool

	UserAgent   string
	Traceparent bool // registries are told the trace and span of each request
}

// Client opens repositories. It shares connections and tokens between those of one registry, and bounds the resources that
// each registry uses.
type Client struct {
	options Options
	roots   *x509.CertPool // nil is the system's
	hosts   hosts
	budgets *budgets
	mirrors map[string][]mirror // by canonical registry
	sources sources
	counts  *counts

	documents *fair.ByteBudget // bytes of long documents, by registry
}

// defaultRequests is enough for several large pods, and few enough for any registry.
const defaultRequests = 64

// New makes a client. It fails when CAFile cannot be used.
func New(options Options) (*Client, error) {
	if options.MaxRequests < 1 {
		options.MaxRequests = defaultRequests
	}
	roots, err := rootsWith(options.CAFile)
	if err != nil {
		return nil, err
	}
	options.InsecureHosts = slices.Clone(options.InsecureHosts)
	for i, host := range options.InsecureHosts { // in the canonical form that references have
		if options.InsecureHosts[i], err = image.CanonicalRegistry(host); err != nil {
			return nil, fmt.Errorf("insecure registry: %w", err)
		}
	}
	mirrors, err := mirrorsOf(options.Mirrors)
	if err != nil {
		return nil, err
	}
	return &Client{
		options: options, roots: roots, hosts: hosts{known: map[string]*host{}}, counts: &counts{},
		budgets: newBudgets(options.Shared), mirrors: mirrors, sources: sources{down: map[string]time.Time{}},
		documents: fair.NewByteBudget(documentsAtOnce, documentsOfOne),
	}, nil
}

// maxRedirects of one request, as in net/http.
const maxRedirects = 10

// Close closes idle connections.
func (c *Client) Close() { c.hosts.close() }

func rootsWith(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil // the system's, with SSL_CERT_FILE and SSL_CERT_DIR
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("registry CA file: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("system's certificates: %w", err)
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("registry CA file %s holds no PEM certificate", file)
	}
	return roots, nil
}

// plainFallback speaks plain HTTP to hosts that answer TLS with plain HTTP, where the operator allowed it.
type plainFallback struct {
	next  http.RoundTripper
	plain sync.Map // host -> struct{}{}
}

// RoundTrip tries TLS first, once per host.
func (t *plainFallback) RoundTrip(request *http.Request) (*http.Response, error) {
	if _, known := t.plain.Load(request.URL.Host); !known || request.URL.Scheme != "https" {
		response, err := t.next.RoundTrip(request)
		var notTLS tls.RecordHeaderError
		if !errors.As(err, &notTLS) || string(notTLS.RecordHeader[:]) != "HTTP/" {
			return response, err
		}
		t.plain.Store(request.URL.Host, struct{}{})
	}
	plain := request.Clone(request.Context())
	plain.URL.Scheme = "http"
	response, err := t.next.RoundTrip(plain)
	if err == nil {
		response.Request = request // it is the same registry
	}
	return response, err
}

// Repository opens the repository of a reference, without a request to the registry.
func (c *Client) Repository(ref image.Reference) *Repository {
	return &Repository{client: c, ref: image.Reference{Registry: ref.Registry, Repository: ref.Repository}}
}

// speaksPlain tells whether a registry is configured for plain HTTP, with credentials too.
func (o Options) speaksPlain(name string) bool {
	return slices.ContainsFunc(o.InsecureHosts, func(h string) bool { return canonicalHost(h) == canonicalHost(name) })
}
