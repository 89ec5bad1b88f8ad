package trust

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// AttributeX5U is the signed attribute that says where the signing platform serves the signer's certificate. The venafi-csp
// plugin fetches it, and cannot verify a signature without it.
const AttributeX5U = "com.venafi.notation.plugin.x5u"

// PlatformAddress says why a plugin may not fetch from an address that a signature names; nil for an https URL at one of the
// signing platform's hosts. A signer may name any address, and the plugin would connect to it from inside the cluster and
// trust what it serves.
func PlatformAddress(address string, hosts []string) error {
	host, err := PlatformHost(address)
	if err != nil {
		return err
	}
	if !slices.Contains(hosts, host) {
		return fmt.Errorf("its host %q is not that of the signing platform", reason.Clip(host, reason.MaxName))
	}
	return nil
}

// hostName matches a DNS name in lower case, without a trailing dot.
var hostName = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?$`)

// PlatformHost gives the "host" or "host:port" of an https URL, in lower case and without the port 443. It refuses URLs that
// two parsers may read differently.
func PlatformHost(address string) (string, error) {
	parsed, err := url.Parse(address)
	switch {
	case err != nil || strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }):
		return "", errors.New("it is no URL in plain characters")
	case parsed.User != nil || strings.Contains(address, "#"):
		return "", errors.New("it has a user or a fragment")
	case !strings.HasPrefix(address, "https://"+parsed.Host) || parsed.Host == "":
		return "", errors.New("it is no https URL with a host")
	}
	host, port := strings.ToLower(parsed.Hostname()), parsed.Port()
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() == "" {
		host = ip.String()
		if ip.Is6() {
			host = "[" + host + "]"
		}
	} else if !hostName.MatchString(host) {
		return "", errors.New("its host is no name or address")
	}
	if strings.HasSuffix(parsed.Host, ":") {
		return "", errors.New("its port is empty")
	}
	if port == "" {
		return host, nil
	}
	number, err := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil || number == 0 || strconv.FormatUint(number, 10) != port:
		return "", errors.New("its port is no number from 1 to 65535")
	case number == 443:
		return host, nil
	}
	return host + ":" + port, nil
}
