// Package egress holds the rule for connections out of the process: to registries, to their redirects and token endpoints,
// and to the revocation and timestamping services that certificates name. Whoever pushes images or signatures chooses
// these addresses. None may lead to the machine itself or to the metadata service of its cloud.
//
// A request passes two checks, which [Rule.Guard] adds to an HTTP transport:
//
//  1. The host of its URL is checked before it is sent, since behind a proxy it is not resolved here.
//  2. The address that the host resolved to is checked on connecting, so that a name that resolves to a forbidden address
//     only the second time is refused too.
package egress

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
)

// Rule says which addresses may be connected to. The zero value is the secure one.
type Rule struct {
	AllowLoopback bool // allow loopback addresses: for development, tests and registries on the same machine
}

// Error is a refused host or address.
type Error struct {
	Host   string // as it was written, or the address that it resolved to
	Reason string // why not
}

// Error is one sentence.
func (e *Error) Error() string {
	return fmt.Sprintf("no connection is made to %s: %s", e.Host, e.Reason)
}

// Control refuses a connection by the address that a name resolved to. It is for net.Dialer's ControlContext.
func (r Rule) Control(_ context.Context, network, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !strings.HasPrefix(network, "tcp") {
		return &Error{address, "it is no TCP address"}
	}
	return r.checkAddr(to.Addr().String(), to.Addr())
}

// CheckHost refuses a URL's host, "host" or "host:port", that is a forbidden address in any notation that a resolver or a
// proxy may accept, or a name that always resolves to one. Other names pass, and Control checks what they resolve to.
func (r Rule) CheckHost(host string) error {
	name := hostname(host)
	if strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return &Error{fmt.Sprintf("%q", host), "it is not written in ASCII"} // width variants of digits become digits
	}
	if reason, forbidden := metadataNames[name]; forbidden {
		return &Error{host, reason}
	}
	if isLocalhost(name) {
		return r.checkAddr(host, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	}
	for _, addr := range literals(name) {
		if err := r.checkAddr(host, addr); err != nil {
			return err
		}
	}
	return nil
}

// IsLoopback tells whether a URL's host, "host" or "host:port", is a loopback address or name.
func IsLoopback(host string) bool {
	return Rule{}.CheckHost(host) != nil && Rule{AllowLoopback: true}.CheckHost(host) == nil
}

// Guard applies the rule to every connection and request of a transport. The caller sends requests through the result, not
// through the transport. The proxies that transport.Proxy names are exempt, since the operator chose them.
func (r Rule) Guard(transport *http.Transport, dialer net.Dialer) http.RoundTripper {
	var proxies sync.Map // "host:port" of the proxies in use -> struct{}
	if choose := transport.Proxy; choose != nil {
		transport.Proxy = func(request *http.Request) (*url.URL, error) {
			proxy, err := choose(request)
			if err == nil && proxy != nil {
				proxies.Store(addressOf(proxy), struct{}{})
			}
			return proxy, err
		}
	}
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialing := dialer
		if _, isProxy := proxies.Load(address); !isProxy {
			dialing.ControlContext = r.Control
		}
		return dialing.DialContext(ctx, network, address)
	}
	return &guarded{rule: r, next: transport}
}

// addressOf is a proxy's "host:port".
func addressOf(proxy *url.URL) string {
	port := proxy.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[proxy.Scheme]
	}
	return net.JoinHostPort(proxy.Hostname(), port)
}

// guarded checks the host of every request, redirects included.
type guarded struct {
	rule Rule
	next http.RoundTripper
}

// RoundTrip is part of http.RoundTripper.
func (g *guarded) RoundTrip(request *http.Request) (*http.Response, error) {
	if err := g.rule.CheckHost(request.URL.Host); err != nil {
		if request.Body != nil {
			_ = request.Body.Close() // http.RoundTripper demands it, on errors too
		}
		return nil, err
	}
	return g.next.RoundTrip(request)
}
