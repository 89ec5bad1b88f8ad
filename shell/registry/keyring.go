package registry

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

	"github.com/nirmata/kyverno-notation-venafi/core/image"
)

// Keyring holds the credentials of a Docker configuration or a pull secret, for registries and for paths in them.
type Keyring struct {
	entries  []KeyringEntry
	problems []string
}

// KeyringEntry are the credentials for the repositories below a path.
type KeyringEntry struct {
	Credential auth.Credential
	host       string // canonical; may be a pattern such as *.azurecr.io
	path       string // prefix of the repositories that it is for; "" for all
	problem    error  // why there is no credential; nil when there is
}

// dockerEntry is an entry of Docker's configuration file. RegistryToken is sent to the registry itself, IdentityToken to
// its authorization service.
type dockerEntry struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"` // base64 of username:password
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// ParseDockerConfig reads a Docker configuration file, or the content of a secret of type kubernetes.io/dockerconfigjson.
func ParseDockerConfig(text []byte) Keyring {
	var config struct {
		Auths map[string]json.RawMessage `json:"auths"`
	}
	if json.Unmarshal(text, &config) != nil {
		return Keyring{problems: []string{".dockerconfigjson is not JSON with an object of auths"}}
	}
	return newKeyring(config.Auths)
}

// ParseDockerCfg reads the content of a secret of type kubernetes.io/dockercfg, the older form.
func ParseDockerCfg(text []byte) Keyring {
	var auths map[string]json.RawMessage
	if json.Unmarshal(text, &auths) != nil {
		return Keyring{problems: []string{".dockercfg is not a JSON object of auths"}}
	}
	return newKeyring(auths)
}

// InvalidKeyring is an empty keyring with a problem.
func InvalidKeyring(problem string) Keyring { return Keyring{problems: []string{problem}} }

// Problems says which entries cannot be used, and why. The texts never hold a part of a credential.
func (k Keyring) Problems() []string { return k.problems }

// Len is the number of credentials that can be used.
func (k Keyring) Len() (n int) {
	for _, e := range k.entries {
		if e.problem == nil {
			n++
		}
	}
	return n
}

// newKeyring orders the entries from the most specific to the least: by the longest path, then by the fewest wildcards of
// the host. An entry that cannot be read does not affect the others. Empty entries, which Docker leaves where a helper has
// the credentials, are dropped.
func newKeyring(auths map[string]json.RawMessage) Keyring {
	var ring Keyring
	for key, text := range auths {
		credential, err := parseEntry(text)
		if err != nil {
			ring.problems = append(ring.problems, fmt.Sprintf("the entry %q: %v", key, err))
		} else if credential == auth.EmptyCredential {
			continue
		}
		host, below := splitServer(key)
		ring.entries = append(ring.entries, KeyringEntry{credential, host, below, err})
	}
	slices.Sort(ring.problems)
	slices.SortFunc(ring.entries, func(a, b KeyringEntry) int {
		return cmp.Or(-a.compare(b), cmp.Compare(a.host, b.host), cmp.Compare(a.path, b.path),
			cmp.Compare(a.Credential.Username, b.Credential.Username), cmp.Compare(a.Credential.Password, b.Credential.Password))
	})
	return ring
}

// compare is greater than 0 when e is more specific than other.
func (e KeyringEntry) compare(other KeyringEntry) int {
	return cmp.Or(cmp.Compare(depth(e.path), depth(other.path)), cmp.Compare(strings.Count(other.host, "*"), strings.Count(e.host, "*")))
}

func depth(path string) int {
	if path == "" {
		return 0
	}
	return 1 + strings.Count(path, "/")
}

func parseEntry(text json.RawMessage) (auth.Credential, error) {
	var entry dockerEntry
	if json.Unmarshal(text, &entry) != nil {
		return auth.EmptyCredential, errors.New("it is not a JSON object of texts")
	}
	if entry.Auth != "" {
		decoded, err := decodeBase64(entry.Auth)
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

// decodeBase64 reads both alphabets, with and without padding, since tools differ in what they write.
func decodeBase64(text string) ([]byte, error) {
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(strings.TrimSpace(text), "="))
	return base64.RawStdEncoding.DecodeString(text)
}

// splitServer splits a key of auths into host and path: https://index.docker.io/v1/, registry.example.com:5000 and
// registry.example.com/team are all in use. The API versions v1 and v2 are not repository paths.
func splitServer(key string) (host, path string) {
	for _, scheme := range []string{"https://", "http://"} {
		if len(key) >= len(scheme) && strings.EqualFold(key[:len(scheme)], scheme) {
			key = key[len(scheme):]
		}
	}
	host, path, _ = strings.Cut(key, "/")
	path = strings.Trim(path, "/")
	if path == "v1" || path == "v2" {
		path = ""
	}
	return canonicalHost(host), path
}

// dockerHub is the host of Docker Hub's API.
const dockerHub = "registry-1.docker.io"

// canonicalHost is the canonical name of a registry's host; a pattern of hosts stays, in lower case.
func canonicalHost(host string) string {
	if name, err := image.CanonicalRegistry(host); err == nil {
		return name
	}
	return strings.ToLower(host)
}

// hostOf is the host of a registry's API.
func hostOf(registry string) string {
	if canonicalHost(registry) == "docker.io" {
		return dockerHub
	}
	return registry
}

// Find gives the most specific entry for a repository of a canonical host.
func (k Keyring) Find(host, repository string) (KeyringEntry, bool) {
	i := slices.IndexFunc(k.entries, func(e KeyringEntry) bool { return e.matches(host, repository) })
	if i < 0 {
		return KeyringEntry{}, false
	}
	return k.entries[i], true
}

// FindIn gives the most specific entry of several keyrings, and of equally specific ones the first keyring's. Entries that
// cannot be read are skipped.
func FindIn(rings []Keyring, host, repository string) (best KeyringEntry, found bool) {
	for _, ring := range rings {
		ring.entries = slices.DeleteFunc(slices.Clone(ring.entries), func(e KeyringEntry) bool { return e.problem != nil })
		if e, ok := ring.Find(canonicalHost(host), repository); ok && (!found || e.compare(best) > 0) {
			best, found = e, true
		}
	}
	return best, found
}

// matches compares hosts label by label, so that * does not match a dot, and paths by their elements (Kubernetes
// documentation, "Images", section "Interpretation of config.json").
func (e KeyringEntry) matches(host, repository string) bool {
	if e.path != "" && repository != e.path && !strings.HasPrefix(repository, e.path+"/") {
		return false
	}
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
