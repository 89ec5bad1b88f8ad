package registry

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// connecting bounds a connection's start, also one that nobody waits for any more.
const connecting = 5 * time.Second

// dialer connects to a registry, and to where it leads: storage, token endpoints. Whoever names an image chooses the
// registry, and the registry chooses where it leads, so that neither may choose this machine's own network: metadata
// services of clouds and other link-local addresses never, and loopback only where the registry itself is. What a
// proxy connects to is the proxy's decision.
type dialer struct {
	own     string   // the registry's "host" or "host:port"
	proxies sync.Map // "host:port" of the proxies that the environment names -> struct{}
}

// forbidden tells of an address at which no registry is.
type forbidden struct{ addr netip.Addr }

// Error is one sentence.
func (f *forbidden) Error() string {
	return fmt.Sprintf("%s is this machine's own network, and no registry's", f.addr)
}

// proxy is the environment's.
func (d *dialer) proxy(request *http.Request) (*url.URL, error) {
	found, err := http.ProxyFromEnvironment(request)
	if err == nil && found != nil {
		d.proxies.Store(addressOf(found), struct{}{})
	}
	return found, err
}

// addressOf is a URL's "host:port".
func addressOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialing := &net.Dialer{Timeout: connecting, KeepAlive: 30 * time.Second}
	if _, isProxy := d.proxies.Load(address); !isProxy {
		own := d.isOwn(address)
		dialing.ControlContext = func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
			return d.check(resolved, own)
		}
	}
	return dialing.DialContext(ctx, network, address)
}

// isOwn tells whether "host:port" is the registry's own address, which has a port only if it is not the usual one.
func (d *dialer) isOwn(address string) bool {
	hostname, _, err := net.SplitHostPort(address)
	return address == d.own || err == nil && hostname == strings.Trim(d.own, "[]")
}

// local tells whether the registry is named as one on this machine.
func (d *dialer) local() bool {
	hostname := (&url.URL{Host: d.own}).Hostname()
	addr, err := netip.ParseAddr(hostname)
	return hostname == "localhost" || err == nil && addr.IsLoopback()
}

// check looks at the address that a name was resolved to.
func (d *dialer) check(resolved string, own bool) error {
	to, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return fmt.Errorf("address %q: %w", resolved, err)
	}
	addr := to.Addr().Unmap().WithZone("")
	if own && addr.IsLoopback() {
		return nil
	}
	return d.checkForeign(addr)
}

// checkForeign looks at an address that is not the registry's own loopback.
func (d *dialer) checkForeign(addr netip.Addr) error {
	if addr.IsLoopback() && d.local() {
		return nil
	}
	if addr.IsMulticast() || slices.ContainsFunc(auth.DefaultBlockedRealmPrefixes(), func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return &forbidden{addr}
	}
	return nil
}

// mayLeadTo looks at a redirect's host where it is an address, since behind a proxy nobody else would.
func (d *dialer) mayLeadTo(address string) error {
	hostname := (&url.URL{Host: address}).Hostname()
	addr, err := netip.ParseAddr(hostname)
	if err != nil { // a name
		return nil
	}
	if err := d.checkForeign(addr.Unmap().WithZone("")); err != nil {
		return fmt.Errorf("it redirects to %s: %w", address, err)
	}
	return nil
}
