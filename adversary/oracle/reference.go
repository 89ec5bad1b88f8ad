package oracle

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Reference names an image: its repository in canonical form, and a tag or digest.
type Reference struct {
	Name   string // "reg.example/acme/app"
	Tag    string // "" beside a digest only
	Digest string
}

var (
	pathPattern   = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	labelPattern  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
	imageID       = regexp.MustCompile(`^(sha256:.*|[0-9a-f]{64})$`)
)

// hubNames are the names of Docker Hub's registry.
var hubNames = map[string]bool{"docker.io": true, "index.docker.io": true, "registry-1.docker.io": true}

// ParseReference reads an image name as a container runtime does. It is false for what is none.
func ParseReference(written string) (Reference, bool) {
	if imageID.MatchString(written) {
		return Reference{}, false // the ID of a local image, to a runtime
	}
	var ref Reference
	rest, digest, pinned := strings.Cut(written, "@")
	if pinned && !digestPattern.MatchString(digest) {
		return Reference{}, false
	}
	ref.Digest = digest
	if colon := strings.LastIndex(rest, ":"); colon > strings.LastIndex(rest, "/") {
		rest, ref.Tag = rest[:colon], rest[colon+1:]
		if !tagPattern.MatchString(ref.Tag) {
			return Reference{}, false
		}
	}
	if ref.Tag == "" && ref.Digest == "" {
		ref.Tag = "latest"
	}
	host, path := splitHost(rest)
	host, ok := canonicalHost(host)
	if !ok {
		return Reference{}, false
	}
	if host == "docker.io" && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	ref.Name = host + "/" + path
	return ref, pathPattern.MatchString(path) && len(ref.Name) <= 255
}

// splitHost parts the registry from the path. What has no dot, no colon and is not localhost is none.
func splitHost(name string) (host, path string) {
	first, rest, found := strings.Cut(name, "/")
	if !found || !strings.ContainsAny(first, ".:") && !strings.EqualFold(first, "localhost") {
		return "docker.io", name
	}
	return first, rest
}

// canonicalHost gives a registry one name: in lower case, without the port that it has anyway, IP addresses as netip
// writes them, Docker Hub by its short name.
func canonicalHost(host string) (string, bool) {
	if strings.HasSuffix(host, ":") {
		return "", false
	}
	host, port := splitPort(strings.ToLower(host))
	if port != "" {
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 {
			return "", false
		}
		port = ":" + strconv.FormatUint(number, 10)
		if number == 443 && (strings.ContainsAny(host, ".:") || host == "localhost") {
			port = "" // other names need it, to be no part of Docker Hub
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || addr.Zone() != "" {
			return "", false
		}
		return "[" + addr.String() + "]" + port, true
	}
	if hubNames[host] {
		return "docker.io" + port, labelPattern.MatchString(host)
	}
	if last := host[strings.LastIndex(host, ".")+1:]; strings.Trim(last, "0123456789") == "" {
		addr, err := netip.ParseAddr(host) // a name does not end in a number
		return host + port, err == nil && addr.Is4()
	}
	return host + port, labelPattern.MatchString(host)
}

// splitPort parts "host:port"; the port is "" where there is none.
func splitPort(host string) (name, port string) {
	if colon := strings.LastIndex(host, ":"); colon > strings.LastIndex(host, "]") {
		return host[:colon], host[colon+1:]
	}
	return host, ""
}

// CanonicalName writes a registry scope as references have their repository.
func CanonicalName(scope string) string {
	if scope == "*" {
		return scope
	}
	host, path := splitHost(scope)
	canonical, ok := canonicalHost(host)
	if !ok {
		return scope
	}
	if canonical == "docker.io" && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	return canonical + "/" + path
}
