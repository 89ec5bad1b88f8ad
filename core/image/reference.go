package image

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
)

// Reference is a normalised image reference: registry and repository are never empty, and at least one of
// tag and digest is set.
type Reference struct {
	Registry   string `json:"registry"`        // as CanonicalRegistry gives it; "docker.io" for Docker Hub
	Repository string `json:"repository"`      // without the registry; "library/nginx" for Docker Hub's nginx
	Tag        string `json:"tag,omitzero"`    // "" when the reference has a digest only
	Digest     string `json:"digest,omitzero"` // "algorithm:hex"; "" when the reference has a tag only
}

// maxReference bounds a reference, bytes. It allows for a registry, a repository (255), a tag (128) and a digest.
const maxReference = 1024

// IsID tells whether a container runtime may read a name as the ID of a local image, the digest of its configuration.
// Runtimes look for IDs first, so they would not pull a repository of that name.
func IsID(name string) bool {
	switch algorithm, _, found := strings.Cut(name, ":"); {
	case found:
		return algorithm == "sha256" || algorithm == "sha384" || algorithm == "sha512" || algorithm == "blake3"
	default:
		return len(name) == 64 && strings.Trim(name, "0123456789abcdef") == ""
	}
}

// Parse normalises an image name as a container runtime does: docker.io when no registry is named,
// library/ for its official images, the tag "latest" when there is neither tag nor digest. The registry gets its
// canonical name, so that GHCR.IO:0443 does not evade a pattern for ghcr.io.
func Parse(name string) (Reference, error) {
	switch {
	case len(name) > maxReference:
		return Reference{}, fmt.Errorf("is %d bytes, and an image reference has at most %d", len(name), maxReference)
	case IsID(name):
		return Reference{}, fmt.Errorf("%q is the ID of an image on a node, which cannot be verified; write the image's repository and tag or digest", name)
	}
	registry, err := registryOf(name)
	if err != nil {
		return Reference{}, err
	}
	if ref, ok := parsePlain(name, registry); ok {
		return ref, nil
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return Reference{}, fmt.Errorf("%q is not an image reference: %w", name, err)
	}
	return fromLibrary(named, registry), nil
}

// fromLibrary is a name in a registry, as the library has read it.
func fromLibrary(named reference.Named, registry string) Reference {
	named = reference.TagNameOnly(named)
	ref := Reference{Registry: registry, Repository: reference.Path(named)}
	if registry == dockerHub && !strings.Contains(ref.Repository, "/") {
		ref.Repository = "library/" + ref.Repository // DOCKER.IO/nginx is an official image too
	}
	if tagged, ok := named.(reference.Tagged); ok {
		ref.Tag = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		ref.Digest = digested.Digest().String()
	}
	return ref
}

// registryOf gives the canonical registry of an image name.
func registryOf(name string) (string, error) {
	first, _, found := strings.Cut(name, "/")
	switch lower := strings.ToLower(first); {
	case !found || lower == first && !NamesRegistry(first):
		return dockerHub, nil
	case !NamesRegistry(lower):
		return "", fmt.Errorf("%q names a registry by capitals alone, and in lower case would be Docker Hub's; write the registry with its port", name)
	}
	registry, err := CanonicalRegistry(first)
	if err != nil {
		return "", fmt.Errorf("%q does not name a registry before its first slash: %w", name, err)
	}
	return registry, nil
}

// Name is the repository with its registry, "ghcr.io/acme/app": what a registry scope is compared with.
func (r Reference) Name() string { return r.Registry + "/" + r.Repository }

// String is the whole reference, "ghcr.io/acme/app:v1@sha256:...".
func (r Reference) String() string {
	s := r.Name()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

// Len is the length of the whole reference, bytes.
func (r Reference) Len() int {
	n := len(r.Registry) + len("/") + len(r.Repository)
	if r.Tag != "" {
		n += len(":") + len(r.Tag)
	}
	if r.Digest != "" {
		n += len("@") + len(r.Digest)
	}
	return n
}

// Pinned is the reference by digest only, "ghcr.io/acme/app@sha256:...".
func (r Reference) Pinned(digest string) string {
	return r.Registry + "/" + r.Repository + "@" + digest
}

// PinnedAs is Pinned, and keeps the registry's default port where it was written, since a node looks up its credentials by
// the registry as it is written.
func (r Reference) PinnedAs(written, digest string) string {
	if first, _, _ := strings.Cut(written, "/"); r.Registry != dockerHub && strings.EqualFold(first, r.Registry+defaultPort) {
		r.Registry += defaultPort
	}
	return r.Pinned(digest)
}

// Spellings lists the forms in which the author of a wildcard pattern may have written the reference: with tag, digest, both
// or neither, the registry with and without its default port, Docker Hub under each of its names, and its official images
// without "library/". Kyverno does not match a pattern without tag and digest, which would silently drop a check.
func (r Reference) Spellings() []string {
	registries, repositories := []string{r.Registry}, []string{r.Repository}
	if r.Registry == dockerHub {
		registries = dockerHubNames()
		if short, ok := strings.CutPrefix(r.Repository, "library/"); ok {
			repositories = append(repositories, short)
		}
	}
	if _, port, err := cutPort(r.Registry); err == nil && port == defaultPort && !strings.HasSuffix(r.Registry, defaultPort) {
		for _, registry := range registries {
			registries = append(registries, registry+defaultPort)
		}
	}
	var all []string
	for _, registry := range registries {
		for _, repository := range repositories {
			name := registry + "/" + repository
			all = append(all, name)
			if r.Tag != "" {
				all = append(all, name+":"+r.Tag)
			}
			if r.Digest != "" {
				all = append(all, name+"@"+r.Digest)
			}
			if r.Tag != "" && r.Digest != "" {
				all = append(all, name+":"+r.Tag+"@"+r.Digest)
			}
		}
	}
	return all
}
