package core

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
)

// Reference is a normalised image reference: registry and repository are never empty, and at least one of
// tag and digest is set.
type Reference struct {
	Registry   string // host[:port] in lower case; "docker.io" for Docker Hub
	Repository string // without the registry; "library/nginx" for Docker Hub's nginx
	Tag        string // "" when the reference has a digest only
	Digest     string // "algorithm:hex"; "" when the reference has a tag only
}

// ParseReference normalises an image name as a container runtime does: docker.io when no registry is named,
// library/ for its official images, the tag "latest" when there is neither tag nor digest. Hosts are compared
// without regard to case, so they are kept in lower case: GHCR.IO must not slip past a pattern for ghcr.io.
func ParseReference(name string) (Reference, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return Reference{}, fmt.Errorf("%q is not an image reference: %w", name, err)
	}
	registry := reference.Domain(named)
	switch lower := strings.ToLower(registry); {
	case lower != "localhost" && !strings.ContainsAny(lower, ".:"):
		return Reference{}, fmt.Errorf("%q names a registry by capitals alone, and in lower case would be Docker Hub's; write the registry with its port", name)
	case lower != registry:
		return ParseReference(canonicalRegistry(name)) // DOCKER.IO/nginx is an official image, too
	}
	named = reference.TagNameOnly(named)
	ref := Reference{Registry: registry, Repository: reference.Path(named)}
	if tagged, ok := named.(reference.Tagged); ok {
		ref.Tag = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		ref.Digest = digested.Digest().String()
	}
	return ref, nil
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

// Pinned names the digest and nothing else, "ghcr.io/acme/app@sha256:...".
func (r Reference) Pinned(digest string) string { return r.Name() + "@" + digest }

// defaultPort is the port of a registry that is named without one.
const defaultPort = ":443"

// canonicalRegistry writes the registry of a repository's name, or of a pattern for one, as references have it:
// in lower case.
func canonicalRegistry(name string) string {
	registry, repository, found := strings.Cut(name, "/")
	if !found {
		return name
	}
	return strings.ToLower(registry) + "/" + repository
}

// spellings lists the ways in which a policy's author may have written the reference, for wildcard patterns:
// with tag, with digest, with both, with neither (which Kyverno would match with nothing, and so drop a check
// without a word), Docker Hub's official images without "library/", and the registry with and
// without the port that it has anyway.
func (r Reference) spellings() []string {
	names := []string{r.Name()}
	if short, ok := strings.CutPrefix(r.Name(), "docker.io/library/"); ok {
		names = append(names, "docker.io/"+short)
	}
	if host, ok := strings.CutSuffix(r.Registry, defaultPort); ok {
		names = append(names, host+"/"+r.Repository)
	} else if !strings.Contains(r.Registry, ":") {
		names = append(names, r.Registry+defaultPort+"/"+r.Repository)
	}
	var all []string
	for _, name := range names {
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
	return all
}
