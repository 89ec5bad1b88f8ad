// Package registry reads images, signatures and attestations from OCI registries, with bounds on everything that
// a registry may answer. It classifies failures, because a denial and a registry that is down are two things to
// the one who waits.
package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/retry"

	"github.com/nirmata/kyverno-notation-venafi/core"
)

// Bounds on answers, bytes. Manifests as the distribution specification recommends.
const (
	maxManifest = 4 << 20
	maxEnvelope = 4 << 20
)

// Options of a Client. The zero value speaks TLS to everyone and knows no credentials.
type Options struct {
	Credential    auth.CredentialFunc // by registry host; nil is anonymous
	CAFile        string              // PEM with further roots beside the system's; "" for none
	InsecureHosts []string            // hosts spoken to over plain HTTP
	AllowInsecure bool                // any registry that does not speak TLS is spoken to over plain HTTP
	MaxReferrers  int                 // of one artifact and type that are looked at
	UserAgent     string
}

// Client opens repositories. It shares connections and tokens between them.
type Client struct {
	options   Options
	auth      *auth.Client
	transport *http.Transport
}

// New makes a client. It fails when CAFile cannot be used.
func New(options Options) (*Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 32
	transport.ResponseHeaderTimeout = 15 * time.Second
	roots, err := rootsWith(options.CAFile)
	if err != nil {
		return nil, err
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	var base http.RoundTripper = transport
	if options.AllowInsecure {
		base = &plainFallback{next: transport}
	}
	client := &Client{options: options, transport: transport}
	client.auth = &auth.Client{
		Client:     &http.Client{Transport: &retry.Transport{Base: base, Policy: retryPolicy}, CheckRedirect: options.checkRedirect},
		Header:     http.Header{"User-Agent": {options.UserAgent}},
		Cache:      auth.NewCache(),
		Credential: inTime(options.Credential),
	}
	return client, nil
}

// maxRedirects is how often a request follows, as net/http has it.
const maxRedirects = 10

// checkRedirect keeps a registry that was spoken to over TLS from sending the request on over plain HTTP, where who
// sits on the network can answer, unless the host is one that may be spoken to so.
func (o Options) checkRedirect(next *http.Request, via []*http.Request) error {
	switch secure := via[len(via)-1].URL.Scheme == "https"; {
	case len(via) >= maxRedirects:
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
	case secure && next.URL.Scheme == "http" && !o.AllowInsecure && !slices.Contains(o.InsecureHosts, next.URL.Host):
		return fmt.Errorf("it redirects from TLS to plain HTTP at %s", next.URL.Host)
	}
	return nil
}

// Close ends idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

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

// retryPolicy backs off on 429 and 5xx. It gives up when the request's deadline would pass in the meantime, so
// that the registry's own answer is what is reported.
func retryPolicy() retry.Policy {
	const longest = time.Second
	return &retry.GenericPolicy{
		Backoff: retry.ExponentialBackoff(100*time.Millisecond, 2, 0.2),
		MinWait: 50 * time.Millisecond, MaxWait: longest, MaxRetry: 4,
		Retryable: func(response *http.Response, err error) (bool, error) {
			if response != nil && response.Request != nil {
				if deadline, ok := response.Request.Context().Deadline(); ok && time.Until(deadline) < longest {
					return false, nil
				}
			}
			return retry.DefaultPredicate(response, err)
		},
	}
}

// plainFallback speaks plain HTTP to hosts that turn out not to speak TLS. Its use is the user's decision.
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
	return t.next.RoundTrip(plain)
}

// Repository opens the repository of a reference. It asks nothing of the registry yet.
func (c *Client) Repository(ref core.Reference) *Repository {
	return &Repository{
		most: c.options.MaxReferrers,
		remote: &remote.Repository{
			Client:               c.auth,
			Reference:            registry.Reference{Registry: ref.Registry, Repository: ref.Repository},
			PlainHTTP:            slices.Contains(c.options.InsecureHosts, ref.Registry),
			MaxMetadataBytes:     maxManifest,
			ReferrerListMaxPages: max(10, c.options.MaxReferrers),
		},
	}
}

// CredentialFunc answers with the credentials for a registry host; an empty one is anonymous.
type CredentialFunc = func(ctx context.Context, host string) (auth.Credential, error)
