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

// Keyring is what a Docker configuration or a pull secret holds: credentials for registries and for parts of them.
type Keyring struct {
	entries  []KeyringEntry
	problems []string
}

// KeyringEntry are the credentials for the repositories below a path.
type KeyringEntry struct {
	Credential auth.Credential
	host       string // canonical; may be a pattern such as *.azurecr.io
	path       string // of the repositories it was meant for; "" for all
	problem    error  // why there is no credential; nil when there is
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

// ParseDockerConfig reads a Docker configuration file, which is the content of a secret of type
// kubernetes.io/dockerconfigjson, too.
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

// InvalidKeyring is empty, with the reason.
func InvalidKeyring(problem string) Keyring { return Keyring{problems: []string{problem}} }

// Problems tells why some or all of it cannot be used. It never has a part of a credential.
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

// newKeyring orders the entries from the most specific one to the least: the longest path, then the plainest host. One
// that cannot be read breaks itself only, and an empty one, which Docker leaves where a helper has the credentials, is
// none.
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

// compare is more than 0 where an entry is more specific than another.
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

// decodeBase64 reads both alphabets, with padding and without: tools differ in what they write.
func decodeBase64(text string) ([]byte, error) {
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(strings.TrimSpace(text), "="))
	return base64.RawStdEncoding.DecodeString(text)
}

// splitServer takes a key of auths apart: https://index.docker.io/v1/, registry.example.com:5000 and
// registry.example.com/team are all in use. The versions of registry APIs are no paths of repositories.
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

// dockerHub is the host at which Docker Hub's API is.
const dockerHub = "registry-1.docker.io"

// canonicalHost gives a registry's host its one name, and leaves what is a pattern for some.
func canonicalHost(host string) string {
	if name, err := image.CanonicalRegistry(host); err == nil {
		return name
	}
	return strings.ToLower(host)
}

// hostOf is where a registry's API is.
func hostOf(registry string) string {
	if canonicalHost(registry) == "docker.io" {
		return dockerHub
	}
	return registry
}

// Find gives the most specific entry for a repository of a host, as canonicalHost writes it.
func (k Keyring) Find(host, repository string) (KeyringEntry, bool) {
	i := slices.IndexFunc(k.entries, func(e KeyringEntry) bool { return e.matches(host, repository) })
	if i < 0 {
		return KeyringEntry{}, false
	}
	return k.entries[i], true
}

// FindIn gives the most specific entry that several keyrings have, of the first where some are alike. Entries that
// cannot be read are passed over.
func FindIn(rings []Keyring, host, repository string) (best KeyringEntry, found bool) {
	for _, ring := range rings {
		ring.entries = slices.DeleteFunc(slices.Clone(ring.entries), func(e KeyringEntry) bool { return e.problem != nil })
		if e, ok := ring.Find(canonicalHost(host), repository); ok && (!found || e.compare(best) > 0) {
			best, found = e, true
		}
	}
	return best, found
}

// matches compares hosts label by label, so that a * does not reach over a dot, and paths by their elements (Kubernetes,
// "Images", section "Interpretation of config.json").
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
