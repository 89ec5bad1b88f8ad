package egress

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// forbidden are the addresses that are never connected to, with the reason. Others are allowed; private networks in
// particular may hold a registry.
var forbidden = []struct {
	prefix netip.Prefix
	reason string
}{
	{netip.MustParsePrefix("169.254.0.0/16"), "it is link-local, where clouds have their metadata services"},
	{netip.MustParsePrefix("fe80::/10"), "it is link-local"},
	{netip.MustParsePrefix("100.100.100.200/32"), "it is a metadata service (Alibaba Cloud)"},
	{netip.MustParsePrefix("168.63.129.16/32"), "it is a metadata service (Azure)"},
	{netip.MustParsePrefix("192.0.0.0/24"), "it is kept for protocols, and a metadata service (Oracle Cloud)"},
	{netip.MustParsePrefix("fd00:ec2::/32"), "it is a metadata service (AWS)"},
	{netip.MustParsePrefix("fd20:ce::254/128"), "it is a metadata service (Google Cloud)"},
	{netip.MustParsePrefix("fd00:42::42/128"), "it is a metadata service (Scaleway)"},
	{netip.MustParsePrefix("0.0.0.0/8"), "it is unspecified and means this machine"},
	{netip.MustParsePrefix("::/128"), "it is unspecified and means this machine"},
	{netip.MustParsePrefix("224.0.0.0/4"), "it is multicast"},
	{netip.MustParsePrefix("ff00::/8"), "it is multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "it is broadcast"},
}

// metadataNames are the host names of the addresses above in clouds, which a proxy would resolve.
var metadataNames = map[string]string{
	"metadata.google.internal":   "it is a metadata service (Google Cloud)",
	"metadata.goog":              "it is a metadata service (Google Cloud)",
	"metadata":                   "it is a metadata service (Google Cloud)",
	"instance-data":              "it is a metadata service (AWS)",
	"instance-data.ec2.internal": "it is a metadata service (AWS)",
	"metadata.tencentyun.com":    "it is a metadata service (Tencent Cloud)",
}

// embedding is a range of IPv6 addresses that embed an IPv4 address, and which of the 16 bytes hold it.
type embedding struct {
	prefix netip.Prefix
	at     [4]int
	mask   byte // combined with the bytes by XOR
}

// embeddings are the ranges that a host or its network may translate to IPv4: RFC 4291 (compatible, mapped), RFC 2765 (translated),
// RFC 6052 and RFC 8215 (NAT64, whose operator chooses the place), RFC 3056 (6to4), RFC 4380 (Teredo).
var embeddings = []embedding{
	{netip.MustParsePrefix("::/96"), [4]int{12, 13, 14, 15}, 0},
	{netip.MustParsePrefix("::ffff:0:0/96"), [4]int{12, 13, 14, 15}, 0},
	{netip.MustParsePrefix("::ffff:0:0:0/96"), [4]int{12, 13, 14, 15}, 0},
	{netip.MustParsePrefix("64:ff9b::/96"), [4]int{12, 13, 14, 15}, 0},
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{12, 13, 14, 15}, 0},
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{9, 10, 11, 12}, 0},
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{7, 9, 10, 11}, 0},
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{6, 7, 9, 10}, 0},
	{netip.MustParsePrefix("2002::/16"), [4]int{2, 3, 4, 5}, 0},
	{netip.MustParsePrefix("2001::/32"), [4]int{12, 13, 14, 15}, 0xff},
}

// checkAddr refuses an address that is forbidden, or that embeds a forbidden IPv4 address.
func (r Rule) checkAddr(written string, addr netip.Addr) error {
	addr = addr.WithZone("")
	for _, meant := range append([]netip.Addr{addr}, embedded(addr)...) {
		if meant.IsLoopback() {
			if r.AllowLoopback {
				continue
			}
			return &Error{written, "it is this machine itself; --allowLoopback lets registries have such addresses"}
		}
		for _, f := range forbidden {
			if f.prefix.Contains(meant) {
				return &Error{written, f.reason}
			}
		}
	}
	return nil
}

// embedded gives the IPv4 addresses that an IPv6 address may embed.
func embedded(addr netip.Addr) (meant []netip.Addr) {
	if !addr.Is6() || addr.IsLoopback() {
		return nil
	}
	bytes := addr.As16()
	for _, e := range embeddings {
		if !e.prefix.Contains(addr) {
			continue
		}
		var four [4]byte
		for i, at := range e.at {
			four[i] = bytes[at] ^ e.mask
		}
		if e.prefix.Bits() == 48 && four[0] == 0 { // zero bytes: the address is in another place
			continue
		}
		meant = append(meant, netip.AddrFrom4(four))
	}
	return meant
}

// hostname is a URL's host in lower case, without port, brackets and trailing dots.
func hostname(host string) string {
	name := host
	if split, _, err := net.SplitHostPort(host); err == nil {
		name = split
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	return strings.ToLower(strings.TrimRight(name, "."))
}

// isLocalhost tells a name that means loopback wherever it is resolved (RFC 6761, section 6.3).
func isLocalhost(name string) bool {
	return name == "localhost" || name == "localhost.localdomain" || strings.HasSuffix(name, ".localhost") ||
		name == "ip6-localhost" || name == "ip6-loopback"
}

// literals gives the addresses that a host may be parsed to, in every notation that some resolver accepts: a number with a
// leading zero is octal to one and decimal to another. It gives none for a name.
func literals(name string) (found []netip.Addr) {
	name, _, _ = strings.Cut(strings.ReplaceAll(name, "%25", "%"), "%")
	if addr, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{addr}
	}
	for _, base := range []int{8, 10} {
		if addr, ok := parseNumbers(name, base); ok {
			found = append(found, addr)
		}
	}
	return found
}

// parseNumbers reads one to four numbers as inet_aton does: each is one byte, except that the last fills the remaining
// bytes. Numbers with a leading zero have the base zeroBase.
func parseNumbers(name string, zeroBase int) (netip.Addr, bool) {
	parts := strings.Split(name, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var value uint64
	for i, part := range parts {
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (5 - len(parts))
		}
		base := 10
		switch digits, isHex := strings.CutPrefix(part, "0x"); {
		case isHex:
			part, base = "0"+digits, 16 // "0x" alone is zero
		case strings.HasPrefix(part, "0"):
			base = zeroBase
		}
		n, err := strconv.ParseUint(part, base, bits)
		if err != nil {
			return netip.Addr{}, false
		}
		value = value<<bits | n
	}
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)}), true
}
