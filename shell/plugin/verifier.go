package plugin

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/notaryproject/notation-plugin-framework-go/plugin"
	"gopkg.in/ini.v1"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// Verifier is a version of a plugin that verifies signatures without declaring the capability in its metadata. notation-go
// refuses signatures that demand such a plugin, although the plugin itself made them.
type Verifier struct {
	Name, Version string
	Capability    plugin.Capability
	Reason        string // how it is known to verify
}

// knownVerifiers are the versions that were tested.
func knownVerifiers() []Verifier {
	return []Verifier{
		{"venafi-csp", "0.3.3", plugin.CapabilityTrustedIdentityVerifier, "its verify-signature command holds the certificate at x5u against the signer's key; only the declaration was dropped"},
	}
}

// ParseVerifiers reads settings of the form "name@version".
func ParseVerifiers(settings []string) ([]Verifier, error) {
	var verifiers []Verifier
	for _, setting := range settings {
		name, version, _ := strings.Cut(strings.TrimSpace(setting), "@")
		if !pluginName.MatchString(name) || version == "" {
			return nil, fmt.Errorf("pluginVerifies: %q is not name@version, such as venafi-csp@0.3.4", setting)
		}
		verifiers = append(verifiers, Verifier{name, version, plugin.CapabilityTrustedIdentityVerifier, "--pluginVerifies names it"})
	}
	return verifiers, nil
}

// completed adds the capability that a known version does not declare.
func (m *Manager) completed(metadata plugin.GetMetadataResponse) plugin.GetMetadataResponse {
	if Verifies(&metadata) {
		return metadata
	}
	for _, known := range slices.Concat(knownVerifiers(), m.options.Verifiers) {
		if known.Name == metadata.Name && known.Version == metadata.Version {
			metadata.Capabilities = append(slices.Clone(metadata.Capabilities), known.Capability)
			return metadata
		}
	}
	return metadata
}

// configKey is the key of the plugins' configuration that holds the path of venafi-csp's own configuration file.
const configKey = "config"

// maxConfigFile bounds that file; bytes.
const maxConfigFile = 1 << 20

// errNoPlatform is a configuration that does not name the signing platform.
var errNoPlatform = errors.New("the plugin's configuration has no key config with the path of its file, in which tpp_url names the signing platform; add it, or name the platform's host in --pluginX5UHosts")

// Platforms gives the hosts from which a plugin may fetch a signer's certificate: the host of the signing platform's URL in
// the current configuration, and those of the options. Where the configuration cannot be read, it gives the hosts of the
// options and an error. A configuration without a URL is no error when the options name hosts.
func (m *Manager) Platforms() ([]string, error) {
	hosts := slices.Clone(m.options.X5UHosts)
	address, err := platformURL(m.Config())
	switch {
	case err == errNoPlatform && len(hosts) > 0:
		return hosts, nil
	case err != nil:
		return hosts, err
	}
	host, err := trust.PlatformHost(address)
	if err != nil {
		return hosts, fmt.Errorf("the signing platform's URL in the plugin's configuration cannot be used: %w", err)
	}
	return append(hosts, host), nil
}

// platformURL reads the platform's URL as venafi-csp does: from the keys before the first section of its configuration
// file, or without a file from the configuration itself.
func platformURL(config map[string]string) (string, error) {
	path, ok := config[configKey]
	if !ok {
		if address := config["tpp_url"]; address != "" {
			return address, nil
		}
		return "", errNoPlatform
	}
	file, err := os.Open(path)
	if err != nil {
		return "", errors.New("the file that the plugin's configuration names in config cannot be read; mount it, or name the platform's host in --pluginX5UHosts")
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxConfigFile))
	if err != nil {
		return "", errors.New("the file that the plugin's configuration names in config cannot be read")
	}
	parsed, err := ini.Load(text)
	if err != nil {
		return "", errors.New("the file that the plugin's configuration names in config is no INI file")
	}
	for _, key := range []string{"tpp_url", "url", "cloud_url"} {
		if address := parsed.Section(ini.DefaultSection).Key(key).String(); address != "" {
			return address, nil
		}
	}
	return "", errors.New("the file that the plugin's configuration names in config has no tpp_url")
}
