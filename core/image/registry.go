package image

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// dockerHub is the canonical name of Docker Hub's registry.
const dockerHub = "docker.io"

// dockerHubNames are the names under which Docker Hub serves images.
func dockerHubNames() []string {
	return []string{dockerHub, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "registry.ipv6.docker.com"}
}

// defaultPort is the port of registries that are named without one.
const defaultPort = ":443"

// CanonicalRegistry gives the name under which a registry "host[:port]" is compared and connected to: in lower case, without
// a trailing dot and the default port, with addresses as in RFC 5952 and mapped ones as IPv4, and Docker Hub as docker.io. A
// host of one label keeps its port, even ":443", since without one it would be a path of Docker Hub; "localhost" would not.
// It fails where the name cannot be a registry's.
func CanonicalRegistry(name string) (string, error) {
	host, port, err := cutPort(name)
	if err != nil {
		return "", err
	}
	if host, err = canonicalHost(host); err != nil {
		return "", err
	}
	switch {
	case port != defaultPort && host == name[:min(len(host), len(name))] && port == name[min(len(host), len(name)):]:
		return name, nil
	case port != defaultPort:
		return host + port, nil
	case slices.Contains(dockerHubNames(), host):
		return dockerHub, nil
	case NamesRegistry(host):
		return host, nil
	}
	return host + defaultPort, nil
}

// NamesRegistry tells whether the first component of an image's name is its registry, and not a path of Docker Hub.
func NamesRegistry(first string) bool {
	return strings.ContainsAny(first, ".:") || first == "localhost"
}

// cutPort splits a registry's name into host and port, such as ":5000". A name without one has the default port.
func cutPort(name string) (host, port string, err error) {
	end := strings.LastIndexByte(name, ':')
	if end < 0 || strings.HasSuffix(name, "]") {
		return name, defaultPort, nil
	}
	digits := strings.TrimLeft(name[end+1:], "0")
	number, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || number == 0 {
		return "", "", fmt.Errorf("%q is no port; a port is a number from 1 to 65535", reason.Clip(name[end+1:], reason.MaxName))
	}
	return name[:end], ":" + digits, nil
}

// Bounds on a host's name (RFC 1035, section 2.3.4), bytes.
const (
	maxHost  = 253
	maxLabel = 63
)

// isLabel tells whether a text is a label of a host's name, in lower case.
func isLabel(part string) bool {
	if part == "" || len(part) > maxLabel || part[0] == '-' || part[len(part)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(part, func(c rune) bool { return c >= utf8.RuneSelf || !isLowerOrDigit(byte(c)) && c != '-' })
}

// isNumber tells whether resolvers may take a text for an address, or for a part of one.
func isNumber(part string) bool {
	if digits, isHex := strings.CutPrefix(part, "0x"); isHex {
		return strings.Trim(digits, "0123456789abcdef") == ""
	}
	return part != "" && strings.Trim(part, "0123456789") == ""
}

func canonicalHost(written string) (string, error) {
	if len(written) > maxHost+1 {
		return "", fmt.Errorf("its host is %d bytes; a host's name has at most %d", len(written), maxHost)
	}
	host := strings.ToLower(written)
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		return canonicalIPv6(host[1 : len(host)-1])
	}
	host = strings.TrimSuffix(host, ".")
	if isNumber(host[strings.LastIndexByte(host, '.')+1:]) {
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return "", fmt.Errorf("%q is no host: an address is written as four decimal numbers, such as 10.0.0.1", written)
		}
		return addr.String(), nil
	}
	for part := range strings.SplitSeq(host, ".") {
		if !isLabel(part) {
			return "", fmt.Errorf("%q is no host: its parts are of letters, digits and inner hyphens, at most %d; write other letters as xn--..., and an IPv6 address in brackets", written, maxLabel)
		}
	}
	return host, nil
}

func canonicalIPv6(written string) (string, error) {
	addr, err := netip.ParseAddr(written)
	switch {
	case err != nil || !addr.Is6():
		return "", fmt.Errorf("%q is no IPv6 address, which alone stands in brackets", written)
	case addr.Zone() != "":
		return "", errors.New("its address has a zone, which means nothing on another machine")
	case addr.Is4In6():
		return addr.Unmap().String(), nil
	}
	return "[" + addr.String() + "]", nil
}
