package plugin

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/sandbox"
)

// ParseSandbox reads the name of a mode.
func ParseSandbox(name string) (sandbox.Mode, error) {
	switch name {
	case "prefer":
		return sandbox.Prefer, nil
	case string(sandbox.Require), string(sandbox.Off):
		return sandbox.Mode(name), nil
	}
	return "", fmt.Errorf("pluginSandbox: %q is none of prefer, require and off", name)
}

// Unconfined names by what the processes of plugins are not confined, for people; "" when by everything.
func (m *Manager) Unconfined() string {
	if m.options.Sandbox == sandbox.Off {
		return "a sandbox (--pluginSandbox=off)"
	}
	lacks := sandbox.Probe()
	return strings.Join(slices.Concat(lacks.Essential, lacks.Further), ", ")
}

// Reach is what plugins may reach beside their own folder and configuration.
type Reach struct{ execute, write []string }

// ParseReach reads settings of the form "path", which may be read and executed, and "path:rw", which may be read and written.
func ParseReach(settings []string) (Reach, error) {
	var reach Reach
	for _, setting := range settings {
		path, writable := strings.CutSuffix(strings.TrimSpace(setting), ":rw")
		if !filepath.IsAbs(path) {
			return Reach{}, fmt.Errorf("pluginSandboxPaths: %q is no absolute path, with or without :rw after it", setting)
		}
		if writable {
			reach.write = append(reach.write, path)
		} else {
			reach.execute = append(reach.execute, path)
		}
	}
	return reach, nil
}

// publicFiles are those that a program needs for TLS, names and times: CAs where Go's crypto/x509 looks for them, with the folders to
// which their links lead, and the configuration of name resolution and time zones.
var publicFiles = []string{
	"/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem", "/etc/pki/tls/certs", "/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted",
	"/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
	"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/protocols", "/etc/localtime", "/usr/share/zoneinfo",
}

// policy is what a plugin at a path may do: it reads and executes its folder, reads its configuration file and public files, and connects
// to the ports of the signing platform, of proxies and of https.
func (m *Manager) policy(path string) sandbox.Policy {
	reach := m.options.Reach
	policy := sandbox.Policy{
		Execute: append([]string{filepath.Dir(path)}, reach.execute...),
		Read:    slices.Concat(publicFiles, m.certificateFiles()),
		Write:   reach.write,
		Ports:   m.ports(),
		Time:    m.options.Timeout + time.Second,
	}
	if file := m.Config()[configKey]; file != "" {
		policy.Read = append(policy.Read, file)
	}
	return policy
}

// certificateFiles are the CAs that the plugins' environment names (crypto/x509, SSL_CERT_FILE and SSL_CERT_DIR).
func (m *Manager) certificateFiles() []string {
	var files []string
	for _, setting := range m.env {
		switch name, value, _ := strings.Cut(setting, "="); name {
		case "SSL_CERT_FILE":
			files = append(files, value)
		case "SSL_CERT_DIR":
			files = append(files, filepath.SplitList(value)...)
		}
	}
	return slices.DeleteFunc(files, func(file string) bool { return file == "" })
}

// ports are those to which a plugin may connect. Where the configuration cannot be read they are fewer: no signature is then verified.
func (m *Manager) ports() []uint16 {
	const https = 443
	ports := []uint16{https}
	hosts, _ := m.Platforms()
	for _, host := range hosts {
		ports = append(ports, portOf("https://"+host)...)
	}
	for _, setting := range m.env {
		switch name, value, _ := strings.Cut(setting, "="); strings.ToLower(name) {
		case "http_proxy", "https_proxy":
			ports = append(ports, portOf(value)...)
		}
	}
	return ports
}

// portOf gives the port of an address such as https://host:8443 or host:3128, if it has one, else that of its scheme.
func portOf(address string) []uint16 {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	parsed, err := url.Parse(address)
	if err != nil || parsed.Host == "" {
		return nil
	}
	port, err := strconv.ParseUint(parsed.Port(), 10, 16)
	if err != nil {
		port = map[string]uint64{"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}[parsed.Scheme]
	}
	if port == 0 {
		return nil
	}
	return []uint16{uint16(port)}
}
