package kube

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// keyring is what a pull secret holds: credentials for registry hosts, the most specific ones first.
type keyring struct {
	entries  []keyEntry
	problems []string // why some or all of it cannot be used; never a part of a credential
}

type keyEntry struct {
	host       string // canonical; may be a pattern such as *.azurecr.io
	path       string // of the repositories it was meant for; "" for all
	credential auth.Credential
}

// dockerEntry is an entry of Docker's configuration file. RegistryToken is for the registry itself,
// IdentityToken for its authorization service.
type dockerEntry struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"` // base64 of username:password
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// parseDockerConfig reads the content of a secret of type kubernetes.io/dockerconfigjson.
func parseDockerConfig(text []byte) keyring {
	var config struct {
		Auths map[string]json.RawMessage `json:"auths"`
	}
	if json.Unmarshal(text, &config) != nil {
		return keyring{problems: []string{".dockerconfigjson is not JSON with an object of auths"}}
	}
	return newKeyring(config.Auths)
}

// parseDockerCfg reads the content of a secret of type kubernetes.io/dockercfg, the older form.
func parseDockerCfg(text []byte) keyring {
	var auths map[string]json.RawMessage
	if json.Unmarshal(text, &auths) != nil {
		return keyring{problems: []string{".dockercfg is not a JSON object of auths"}}
	}
	return newKeyring(auths)
}

// newKeyring keeps what can be read; one bad entry breaks itself only.
func newKeyring(auths map[string]json.RawMessage) keyring {
	var ring keyring
	for key, text := range auths {
		credential, err := parseEntry(text)
		if err != nil {
			ring.problems = append(ring.problems, fmt.Sprintf("the entry %q: %v", key, err))
			continue
		}
		host, rest := splitServer(key)
		ring.entries = append(ring.entries, keyEntry{host, rest, credential})
	}
	slices.Sort(ring.problems)
	slices.SortFunc(ring.entries, func(a, b keyEntry) int {
		return cmp.Or(cmp.Compare(strings.Count(a.host, "*"), strings.Count(b.host, "*")),
			cmp.Compare(a.path, b.path), cmp.Compare(a.host, b.host))
	})
	return ring
}

func parseEntry(text json.RawMessage) (auth.Credential, error) {
	var entry dockerEntry
	if json.Unmarshal(text, &entry) != nil {
		return auth.EmptyCredential, errors.New("it is not a JSON object of texts")
	}
	if entry.Auth != "" {
		decoded, err := base64.StdEncoding.DecodeString(entry.Auth)
		if err != nil {
			return auth.EmptyCredential, errors.New("auth is not base64")
		}
		user, password, found := strings.Cut(string(decoded), ":")
		if !found {
			return auth.EmptyCredential, errors.New("auth is not base64 of username:password")
		}
		entry.Username, entry.Password = user, strings.Trim(password, "\x00") // Docker pads some with zeros
	}
	return auth.Credential{
		Username: entry.Username, Password: entry.Password,
		RefreshToken: entry.IdentityToken, AccessToken: entry.RegistryToken,
	}, nil
}

// splitServer takes a key of auths apart: https://index.docker.io/v1/, registry.example.com:5000 and
// registry.example.com/team are all in use. The versions of registry APIs are no paths of repositories.
func splitServer(key string) (host, path string) {
	for _, scheme := range []string{"https://", "http://"} {
		key = strings.TrimPrefix(key, scheme)
	}
	host, path, _ = strings.Cut(key, "/")
	path = strings.Trim(path, "/")
	if path == "v1" || path == "v2" {
		path = ""
	}
	return canonicalHost(host), path
}

// canonicalHost gives Docker Hub's many names one.
func canonicalHost(host string) string {
	host = strings.ToLower(host)
	if slices.Contains([]string{"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}, host) {
		return "docker.io"
	}
	return host
}

// find gives the credential for a host, as canonicalHost writes it.
func (k keyring) find(host string) (auth.Credential, bool) {
	i := slices.IndexFunc(k.entries, func(e keyEntry) bool { return e.matches(host) })
	if i < 0 {
		return auth.EmptyCredential, false
	}
	return k.entries[i].credential, true
}

// matches compares label by label, so that a * does not reach over a dot (Kubernetes, "Images", section
// "Interpretation of config.json").
func (e keyEntry) matches(host string) bool {
	patterns, labels := strings.Split(e.host, "."), strings.Split(host, ".")
	if len(patterns) != len(labels) {
		return false
	}
	for i, pattern := range patterns {
		if ok, err := path.Match(pattern, labels[i]); err != nil || !ok {
			return false
		}
	}
	return true
}
