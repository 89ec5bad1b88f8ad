package egress_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/shell/egress"
)

// spellings are ways to write an IPv4 address that a name server may answer with, or a network translate.
var spellings = map[string]func(v4 [4]byte) [16]byte{
	"IPv4-mapped":     func(v [4]byte) [16]byte { return [16]byte{10: 0xff, 0xff, v[0], v[1], v[2], v[3]} },
	"IPv4-compatible": func(v [4]byte) [16]byte { return [16]byte{12: v[0], v[1], v[2], v[3]} },
	"IPv4-translated": func(v [4]byte) [16]byte { return [16]byte{8: 0xff, 0xff, 0, 0, v[0], v[1], v[2], v[3]} },
	"NAT64":           func(v [4]byte) [16]byte { return [16]byte{0, 0x64, 0xff, 0x9b, 12: v[0], v[1], v[2], v[3]} },
	"local NAT64 /96": func(v [4]byte) [16]byte { return [16]byte{0, 0x64, 0xff, 0x9b, 0, 1, 12: v[0], v[1], v[2], v[3]} },
	"local NAT64 /64": func(v [4]byte) [16]byte { return [16]byte{0, 0x64, 0xff, 0x9b, 0, 1, 0, 9, 0, v[0], v[1], v[2], v[3]} },
	"local NAT64 /56": func(v [4]byte) [16]byte { return [16]byte{0, 0x64, 0xff, 0x9b, 0, 1, 9, v[0], 0, v[1], v[2], v[3]} },
	"local NAT64 /48": func(v [4]byte) [16]byte { return [16]byte{0, 0x64, 0xff, 0x9b, 0, 1, v[0], v[1], 0, v[2], v[3]} },
	"6to4":            func(v [4]byte) [16]byte { return [16]byte{0x20, 0x02, v[0], v[1], v[2], v[3], 15: 1} },
	"Teredo":          func(v [4]byte) [16]byte { return [16]byte{0x20, 0x01, 12: ^v[0], ^v[1], ^v[2], ^v[3]} },
}

func TestControlRefusesForbiddenAddresses(t *testing.T) {
	tests := map[string]struct {
		address  string
		loopback bool // may be connected to with AllowLoopback
		refused  bool
	}{
		"a public address":               {"93.184.215.14", false, false},
		"a private one":                  {"10.1.2.3", false, false},
		"another private one":            {"192.168.0.10", false, false},
		"shared address space":           {"100.64.0.1", false, false},
		"the neighbour of a metadata":    {"100.100.100.201", false, false},
		"a virtual one of a mesh":        {"240.240.0.5", false, false},
		"public by IPv6":                 {"2606:2800:21f:cb07:6820:80da:af6b:8b2c", false, false},
		"unique-local":                   {"fd12:3456::1", false, false},
		"metadata":                       {"169.254.169.254", false, true},
		"the credentials of a task":      {"169.254.170.2", false, true},
		"metadata of Alibaba Cloud":      {"100.100.100.200", false, true},
		"the host of Azure":              {"168.63.129.16", false, true},
		"metadata of Oracle Cloud":       {"192.0.0.192", false, true},
		"metadata of AWS by IPv6":        {"fd00:ec2::254", false, true},
		"pod identity of AWS":            {"fd00:ec2::23", false, true},
		"metadata of Google by IPv6":     {"fd20:ce::254", false, true},
		"metadata of Scaleway by IPv6":   {"fd00:42::42", false, true},
		"link-local by IPv6":             {"fe80::1", false, true},
		"link-local with a zone":         {"fe80::a9fe:a9fe%eth0", false, true},
		"the end of link-local":          {"febf:ffff::1", false, true},
		"unspecified":                    {"0.0.0.0", false, true},
		"unspecified with a host":        {"0.1.2.3", false, true},
		"unspecified by IPv6":            {"::", false, true},
		"multicast":                      {"224.0.0.251", false, true},
		"multicast of an organisation":   {"239.1.1.1", false, true},
		"multicast by IPv6":              {"ff02::1", false, true},
		"multicast of a site by IPv6":    {"ff05::2", false, true},
		"broadcast":                      {"255.255.255.255", false, true},
		"loopback":                       {"127.0.0.1", true, true},
		"another loopback":               {"127.255.255.254", true, true},
		"loopback by IPv6":               {"::1", true, true},
		"loopback that is IPv4-mapped":   {"::ffff:127.0.0.1", true, true},
		"loopback by another NAT64 form": {"64:ff9b::7f00:1", true, true},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			addr := netip.MustParseAddr(test.address)
			all := map[string]netip.Addr{"as it is": addr}
			if addr.Is4() {
				for name, spelled := range spellings {
					all[name] = netip.AddrFrom16(spelled(addr.As4()))
				}
			}
			for spelling, addr := range all {
				if spelling != "as it is" && strings.HasPrefix(spelling, "local") && strings.HasPrefix(test.address, "0.") {
					continue // zeros are not told from what surrounds the address
				}
				address := netip.AddrPortFrom(addr, 443).String()
				check(t, spelling, egress.Rule{}.Control(t.Context(), "tcp", address, nil), test.refused)
				check(t, spelling+", loopback allowed", egress.Rule{AllowLoopback: true}.Control(t.Context(), "tcp", address, nil), test.refused && !test.loopback)
				check(t, spelling+", in a URL", egress.Rule{}.CheckHost(address), test.refused)
				check(t, spelling+", in a URL, loopback allowed", egress.Rule{AllowLoopback: true}.CheckHost(address), test.refused && !test.loopback)
			}
		})
	}
	for _, network := range []string{"udp", "unix", "ip"} {
		check(t, network, egress.Rule{}.Control(t.Context(), network, "93.184.215.14:443", nil), true)
	}
	check(t, "what is no address", egress.Rule{}.Control(t.Context(), "tcp", "example.com:443", nil), true)
}

func check(t *testing.T, what string, err error, refused bool) {
	t.Helper()
	if (err != nil) != refused {
		t.Errorf("%s: %v; refused should be %t", what, err, refused)
	}
	var told *egress.Error
	if err != nil && !errors.As(err, &told) {
		t.Errorf("%s: %T", what, err)
	}
}

func TestCheckHostRefusesForbiddenHosts(t *testing.T) {
	tests := map[string]struct {
		host    string
		refused bool
	}{
		"a name":                                   {"registry.example.com", false},
		"a name with a port":                       {"registry.example.com:5000", false},
		"a name of one label":                      {"registry:5000", false},
		"a name that begins with digits":           {"169.254.169.254.example.com", false},
		"a name of digits and letters":             {"0xregistry", false},
		"a name in punycode":                       {"xn--bcher-kva.example", false},
		"a private address":                        {"10.0.0.1:9000", false},
		"a private address as a number":            {"167772161", false},
		"five numbers":                             {"1.2.3.4.5", false},
		"too large a number":                       {"4294967296", false},
		"metadata":                                 {"169.254.169.254", true},
		"metadata with a port":                     {"169.254.169.254:80", true},
		"metadata with the dot of a full name":     {"169.254.169.254.", true},
		"metadata with that and a port":            {"169.254.169.254.:80", true},
		"metadata with two dots":                   {"169.254.169.254..", true},
		"metadata as a number":                     {"2852039166", true},
		"metadata as a hexadecimal number":         {"0xa9fea9fe", true},
		"metadata as an octal number":              {"025177524776", true},
		"metadata in hexadecimal parts":            {"0xA9.0xFE.0xA9.0xFE", true},
		"metadata in octal parts":                  {"0251.0376.0251.0376", true},
		"metadata in parts of several bases":       {"0xa9.254.0251.254", true},
		"metadata in two parts":                    {"169.16689662", true},
		"metadata in three parts":                  {"169.254.43518", true},
		"metadata with zeros before":               {"0169.0254.0169.0254", true},
		"metadata IPv4-mapped in a URL":            {"[::ffff:169.254.169.254]:80", true},
		"metadata IPv4-mapped in hexadecimal":      {"[::ffff:a9fe:a9fe]", true},
		"metadata IPv4-mapped at length":           {"[0:0:0:0:0:ffff:a9fe:a9fe]", true},
		"link-local with a zone":                   {"[fe80::1%eth0]:80", true},
		"link-local with a zone that is escaped":   {"[fe80::1%25eth0]:80", true},
		"metadata with a zone":                     {"[::ffff:169.254.169.254%1]", true},
		"metadata by IPv6 in capitals":             {"[FD00:EC2::254]", true},
		"metadata by IPv6 without brackets":        {"fd00:ec2::254", true},
		"metadata in wide digits":                  {"１６９.254.169.254", true},
		"metadata with ideographic dots":           {"169。254。169。254", true},
		"metadata by its name":                     {"metadata.google.internal", true},
		"metadata by its name in capitals, dotted": {"Metadata.Google.Internal.:80", true},
		"loopback":                              {"127.0.0.1:5000", true},
		"loopback in short":                     {"127.1", true},
		"loopback in short hexadecimal":         {"0x7f.1", true},
		"loopback as a number":                  {"2130706433", true},
		"loopback in octal":                     {"0177.0.0.01", true},
		"loopback by IPv6":                      {"[::1]:443", true},
		"localhost":                             {"localhost:5000", true},
		"localhost in capitals":                 {"LOCALHOST", true},
		"localhost with the dot of a full name": {"localhost.", true},
		"a name below localhost":                {"registry.localhost:5000", true},
		"localhost by IPv6":                     {"ip6-localhost", true},
		"all addresses in short":                {"0", true},
		"all addresses in hexadecimal":          {"0x0", true},
		"an empty hexadecimal number":           {"0x", true},
		"white space":                           {"169.254.169.254\t", true},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			check(t, test.host, egress.Rule{}.CheckHost(test.host), test.refused)
			loopback := strings.Contains(sentence, "loopback") || strings.Contains(sentence, "localhost")
			check(t, "loopback allowed", egress.Rule{AllowLoopback: true}.CheckHost(test.host), test.refused && !loopback)
			if egress.IsLoopback(test.host) != loopback {
				t.Errorf("loopback: %t", !loopback)
			}
		})
	}
}

func TestGuardChecksEveryConnection(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metadata" {
			http.Redirect(w, r, "http://0xa9fea9fe/latest", http.StatusFound)
		}
	}))
	t.Cleanup(server.Close)
	port := server.Listener.Addr().(*net.TCPAddr).Port
	tests := map[string]struct {
		rule    egress.Rule
		url     string
		refused bool
	}{
		"loopback":                             {egress.Rule{}, server.URL, true},
		"loopback that is allowed":             {egress.Rule{AllowLoopback: true}, server.URL, false},
		"a redirect to metadata":               {egress.Rule{AllowLoopback: true}, server.URL + "/metadata", true},
		"a name that is of this machine":       {egress.Rule{}, fmt.Sprintf("http://rebound.example:%d", port), true},
		"such a name where that is allowed":    {egress.Rule{AllowLoopback: true}, fmt.Sprintf("http://rebound.example:%d", port), false},
		"another spelling of loopback":         {egress.Rule{}, fmt.Sprintf("http://127.1:%d", port), true},
		"localhost, which is refused unlooked": {egress.Rule{}, fmt.Sprintf("http://localhost:%d", port), true},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			transport := &http.Transport{}
			t.Cleanup(transport.CloseIdleConnections)
			client := &http.Client{Transport: test.rule.Guard(transport, net.Dialer{Resolver: loopbackResolver(t)})}
			response, err := client.Get(test.url)
			if err == nil {
				response.Body.Close()
			}
			var refused *egress.Error
			if errors.As(err, &refused) != test.refused || !test.refused && err != nil {
				t.Errorf("%v; refused should be %t", err, test.refused)
			}
		})
	}
}

func TestGuardChecksHostsBehindAProxy(t *testing.T) {
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked = append(asked, r.URL.Host) }))
	t.Cleanup(proxy.Close)
	address, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(address)}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: egress.Rule{}.Guard(transport, net.Dialer{})}
	for _, host := range []string{"registry.example.com", "2852039166", "169.254.169.254", "metadata.google.internal", "localhost", "[::ffff:7f00:1]"} {
		response, err := client.Get("http://" + host + "/")
		if err == nil {
			response.Body.Close()
		}
		check(t, host, errors.Unwrap(err), host != "registry.example.com")
	}
	if len(asked) != 1 || asked[0] != "registry.example.com" {
		t.Errorf("the proxy was asked for %q", asked)
	}
}

// loopbackResolver finds every name on this machine, as a name server does that belongs to an attacker.
func loopbackResolver(t *testing.T) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	go answerLoopback(server)
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// answerLoopback answers every question for an IPv4 address with 127.0.0.1, and others with nothing (RFC 1035, section 4).
func answerLoopback(server net.PacketConn) {
	question := make([]byte, 512)
	for {
		n, from, err := server.ReadFrom(question)
		if err != nil {
			return
		}
		end := 12 + bytes.IndexByte(question[12:n], 0) + 1 + 4 // header, name, type and class
		answer := append([]byte{question[0], question[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question[12:end]...)
		if isA := question[end-3] == 1; isA {
			answer[7] = 1
			answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1)
		}
		_, _ = server.WriteTo(answer, from) // fails if the test is over
	}
}
