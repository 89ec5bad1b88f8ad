package oracle

import (
	"encoding/json"
	"slices"
	"strings"
)

// Registry is what registries truly hold: repositories by their canonical name, "reg.example/acme/app".
type Registry map[string]*Repository

// Repository is the content of one repository.
type Repository struct {
	Tags      map[string][]string // every digest that a tag ever had, the present one last
	Manifests map[string]Manifest // by digest
	Blobs     map[string][]byte   // by digest
}

// Manifest is a manifest as it was pushed.
type Manifest struct {
	MediaType string
	Content   []byte
}

// descriptor is what a signature is made for.
type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// fields are those of an image manifest that count here.
type fields struct {
	ArtifactType string       `json:"artifactType"`
	Config       descriptor   `json:"config"`
	Layers       []descriptor `json:"layers"`
	Subject      *descriptor  `json:"subject"`
}

// descriptorOf describes a manifest of the repository.
func (r *Repository) descriptorOf(digest string) (descriptor, bool) {
	manifest, ok := r.Manifests[digest]
	return descriptor{manifest.MediaType, digest, int64(len(manifest.Content))}, ok
}

// digests lists what a reference may stand for.
func (r *Repository) digests(ref Reference) []string {
	if ref.Digest == "" {
		return r.Tags[ref.Tag]
	}
	if _, ok := r.Manifests[ref.Digest]; ok {
		return []string{ref.Digest}
	}
	return nil
}

const mediaTypeManifest = "application/vnd.oci.image.manifest.v1+json"

// referrer is a manifest whose subject is another.
type referrer struct {
	digest string
	fields fields
}

// referrers finds those of an artifact and a type by looking at every manifest.
func (r *Repository) referrers(subject, artifactType string) []referrer {
	return r.find(artifactType, func(of string) bool { return of == subject })
}

// elsewhere finds those of a type that are attached to anything but an artifact.
func (r *Repository) elsewhere(subject, artifactType string) []referrer {
	return r.find(artifactType, func(of string) bool { return of != subject })
}

func (r *Repository) find(artifactType string, attached func(to string) bool) []referrer {
	var found []referrer
	for digest, manifest := range r.Manifests {
		var read fields
		if manifest.MediaType != mediaTypeManifest || json.Unmarshal(manifest.Content, &read) != nil {
			continue
		}
		if read.Subject == nil || !attached(read.Subject.Digest) {
			continue
		}
		declared := read.ArtifactType
		if declared == "" {
			declared = read.Config.MediaType
		}
		if declared == artifactType {
			found = append(found, referrer{digest, read})
		}
	}
	slices.SortFunc(found, func(a, b referrer) int { return strings.Compare(a.digest, b.digest) })
	return found
}
