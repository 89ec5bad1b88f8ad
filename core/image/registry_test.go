package image_test

import (
	"strings"
	"testing"

	"github.com/distribution/reference"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
)

// TestCanonicalRegistry holds every name of a registry to one, and those that are none to a reason.
func TestCanonicalRegistry(t *testing.T) {
	tests := map[string]struct{ want, refused string }{
		"reg.example":                   {"reg.example", ""},
		"REG.Example":                   {"reg.example", ""},
		"reg.example.":                  {"reg.example", ""},
		"reg.example:443":               {"reg.example", ""},
		"reg.example:0443":              {"reg.example", ""},
		"reg.example.:00443":            {"reg.example", ""},
		"reg.example:80":                {"reg.example:80", ""}, // is another port, and spoken to in another way
		"reg.example:05000":             {"reg.example:5000", ""},
		"reg.example:65535":             {"reg.example:65535", ""},
		"docker.io":                     {"docker.io", ""},
		"index.docker.io":               {"docker.io", ""},
		"Registry-1.Docker.io":          {"docker.io", ""},
		"registry-1.docker.io.:0443":    {"docker.io", ""},
		"registry.hub.docker.com":       {"docker.io", ""},
		"registry.ipv6.docker.com":      {"docker.io", ""},
		"docker.io:5000":                {"docker.io:5000", ""},
		"localhost":                     {"localhost", ""},
		"LOCALHOST:443":                 {"localhost", ""},
		"localhost:5000":                {"localhost:5000", ""},
		"reg":                           {"reg:443", ""}, // reg/app is an image of Docker Hub
		"reg:443":                       {"reg:443", ""},
		"reg:5000":                      {"reg:5000", ""},
		"xn--bcher-kva.example":         {"xn--bcher-kva.example", ""},
		"10.0.0.1":                      {"10.0.0.1", ""},
		"10.0.0.1:0443":                 {"10.0.0.1", ""},
		"[::1]":                         {"[::1]", ""},
		"[::1]:443":                     {"[::1]", ""},
		"[::1]:5000":                    {"[::1]:5000", ""},
		"[0:0:0:0:0:0:0:1]:5000":        {"[::1]:5000", ""},
		"[2001:DB8::0:1]":               {"[2001:db8::1]", ""},
		"[::ffff:a00:1]:5000":           {"10.0.0.1:5000", ""},
		"[::ffff:10.0.0.1]":             {"10.0.0.1", ""},
		"":                              {"", "is no host"},
		":443":                          {"", "is no host"},
		"reg.example:":                  {"", "is no port"},
		"reg.example:0":                 {"", "is no port"},
		"reg.example:65536":             {"", "is no port"},
		"reg.example:+443":              {"", "is no port"},
		"reg.example:0x1bb":             {"", "is no port"},
		"reg.example:99999999999":       {"", "is no port"},
		"reg.example..":                 {"", "is no host"},
		".reg.example":                  {"", "is no host"},
		"my_reg.example":                {"", "letters, digits and inner hyphens"},
		"-reg.example":                  {"", "is no host"},
		"bücher.example":                {"", "xn--"},
		"reg.example/app":               {"", "is no host"},
		"https://reg.example":           {"", "is no port"},
		"user@reg.example":              {"", "is no host"},
		" reg.example":                  {"", "is no host"},
		"reg.example\n":                 {"", "is no host"},
		"::1":                           {"", "in brackets"},
		"[fe80::1%eth0]":                {"", "zone"},
		"[10.0.0.1]":                    {"", "no IPv6"},
		"[::1":                          {"", "is no host"},
		"[]":                            {"", "no IPv6"},
		"127.1":                         {"", "four decimal numbers"},
		"2130706433:5000":               {"", "four decimal numbers"},
		"0x7f000001:5000":               {"", "four decimal numbers"},
		"010.0.0.1":                     {"", "four decimal numbers"},
		"10.0.0.256":                    {"", "four decimal numbers"},
		"reg.10":                        {"", "four decimal numbers"},
		strings.Repeat("a", 64) + ".b":  {"", "at most 63"},
		strings.Repeat("a.", 127) + "b": {"", "at most 253"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := image.CanonicalRegistry(name)
			if got != tt.want || (err == nil) != (tt.refused == "") || err != nil && !strings.Contains(err.Error(), tt.refused) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// TestParse holds image names to the one name that they have here.
func TestParse(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	tests := map[string]struct{ want, refused string }{
		"nginx":                              {"docker.io/library/nginx:latest", ""},
		"index.docker.io/nginx":              {"docker.io/library/nginx:latest", ""},
		"registry-1.docker.io/library/nginx": {"docker.io/library/nginx:latest", ""},
		"registry-1.docker.io/nginx":         {"docker.io/library/nginx:latest", ""},
		"DOCKER.IO:0443/nginx":               {"docker.io/library/nginx:latest", ""},
		"reg.example:0443/app:v1":            {"reg.example/app:v1", ""},
		"reg:0443/app:v1":                    {"reg:443/app:v1", ""},
		"[::1]:5000/x":                       {"[::1]:5000/x:latest", ""},
		"[0::1]:05000/x/y@" + digest:         {"[::1]:5000/x/y@" + digest, ""},
		"[::ffff:a00:1]:5000/x":              {"10.0.0.1:5000/x:latest", ""},
		"sha256":                             {"docker.io/library/sha256:latest", ""},
		"reg.example/sha256:v1":              {"reg.example/sha256:v1", ""},
		"nginx:" + strings.Repeat("a", 64):   {"docker.io/library/nginx:" + strings.Repeat("a", 64), ""},

		digest:                               {"", "ID of an image on a node"},
		"sha256:" + strings.Repeat("a", 8):   {"", "ID of an image on a node"}, // runtimes take a part of one, too
		"sha512:" + strings.Repeat("a", 128): {"", "ID of an image on a node"},
		strings.Repeat("a", 64):              {"", "ID of an image on a node"},
		"my_reg.example/x":                   {"", "my_reg.example\" is no host"},
		"reg.example./x":                     {"", "not an image reference"},
		"127.1/x":                            {"", "four decimal numbers"},
		"reg.example:65536/x":                {"", "is no port"},
		"[fe80::1%25eth0]:5000/x":            {"", "zone"},
		"bücher.example/x":                   {"", "xn--"},
		"REG/x":                              {"", "capitals alone"},
		"https://reg.example/x":              {"", "is no port"},
		"nginx ":                             {"", "not an image reference"},
		"reg.example/x@sha256:" + strings.Repeat("A", 64): {"", "not an image reference"},
		"reg.example/" + strings.Repeat("a", 2000):        {"", "at most 1024"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := image.Parse(name)
			if (err == nil) != (tt.refused == "") || err != nil && !strings.Contains(err.Error(), tt.refused) || err == nil && got.String() != tt.want {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// runtimeAgrees holds a reference against what a container runtime makes of the name (containerd and the kubelet with
// distribution/reference): it names the same repository of the same registry, and the same tag or digest there.
func runtimeAgrees(t *testing.T, name string, ref image.Reference) {
	t.Helper()
	pulled, err := reference.ParseDockerRef(name)
	if err != nil {
		t.Fatalf("%q is %s here, and a runtime refuses it: %v", name, ref, err)
	}
	registry, err := image.CanonicalRegistry(reference.Domain(pulled))
	path := reference.Path(pulled)
	if registry == "docker.io" {
		path = strings.TrimPrefix(path, "library/")
	}
	if err != nil || registry != ref.Registry || path != strings.TrimPrefix(ref.Repository, "library/") && path != ref.Repository {
		t.Fatalf("%q is %s here and %s for a runtime: %v", name, ref, pulled, err)
	}
	tag, digest := "", ""
	if tagged, ok := pulled.(reference.Tagged); ok {
		tag = tagged.Tag()
	}
	if digested, ok := pulled.(reference.Digested); ok {
		digest = digested.Digest().String()
	}
	if digest != ref.Digest || digest == "" && tag != ref.Tag {
		t.Fatalf("%q is %s here and %s for a runtime", name, ref, pulled)
	}
}
