package registry

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
)

// maxDepth bounds the nesting of a document; real ones have four levels.
const maxDepth = 32

// fields are the field names of manifests and indexes, and of the platforms in them.
var fields = []string{
	"schemaVersion", "mediaType", "artifactType", "config", "layers", "blobs", "manifests", "subject", "annotations",
	"digest", "size", "urls", "data", "platform", "os", "architecture", "variant",
}

// unambiguous refuses a JSON document that another parser could read differently: one that has a field twice, of which
// parsers take the first or the last, or a field in other case, which only some parsers accept.
func unambiguous(text []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return unambiguousValue(decoder, 0, false)
}

// unambiguousValue reads one value. free is set inside of annotations, whose keys are not fields.
func unambiguousValue(decoder *json.Decoder, depth int, free bool) error {
	if depth > maxDepth {
		return fmt.Errorf("it has more than %d levels", maxDepth)
	}
	token, err := decoder.Token()
	if err != nil {
		return err
	}
	opening, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	seen := map[string]bool{}
	for decoder.More() {
		inside := free
		if opening == '{' {
			key, err := decoder.Token()
			if err != nil {
				return err
			}
			name := key.(string)
			if seen[name] {
				return fmt.Errorf("it has the field %q twice", name)
			}
			if !free && slices.ContainsFunc(fields, func(f string) bool { return f != name && strings.EqualFold(f, name) }) {
				return fmt.Errorf("it has a field %q, which is none of the specification but for its letters", name)
			}
			seen[name], inside = true, free || name == "annotations"
		}
		if err := unambiguousValue(decoder, depth+1, inside); err != nil {
			return err
		}
	}
	_, err = decoder.Token()
	return err
}

// shape has the fields that tell kinds of documents apart.
type shape struct {
	MediaType string          `json:"mediaType"`
	Manifests json.RawMessage `json:"manifests"`
	Config    json.RawMessage `json:"config"`
	Layers    json.RawMessage `json:"layers"`
	Blobs     json.RawMessage `json:"blobs"`
}

// shapeOf reads a document's shape. It fails where the document could be taken for two kinds.
func shapeOf(text []byte) (shape, error) {
	var s shape
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("it is not JSON of a manifest: %w", err)
	}
	if err := unambiguous(text); err != nil {
		return s, err
	}
	if !bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{")) {
		return s, errors.New("it is no JSON object")
	}
	if s.Manifests != nil && (s.Config != nil || s.Layers != nil || s.Blobs != nil) || s.Layers != nil && s.Blobs != nil {
		return s, errors.New("it is an index and a manifest in one")
	}
	return s, nil
}

// typed gives a document's media type by the answer's header, or by the document itself where the header has no media type
// of manifests. It fails where the two contradict each other.
func typed(header string, s shape) (string, error) {
	mediaType := header
	if !isManifestType(header) {
		mediaType = s.MediaType
	}
	switch {
	case mediaType == "":
		return "", fmt.Errorf("it has the media type %q and names none itself", header)
	case s.MediaType != "" && s.MediaType != mediaType:
		return "", fmt.Errorf("it has the media type %q and says that it is %q", header, s.MediaType)
	}
	isIndex := mediaType == ocispec.MediaTypeImageIndex || mediaType == mediaTypeDockerList
	if isIndex && (s.Config != nil || s.Layers != nil || s.Blobs != nil) || !isIndex && s.Manifests != nil {
		return "", fmt.Errorf("it has the media type %q and the fields of another", mediaType)
	}
	return mediaType, nil
}

// decodeManifest reads an image manifest, or an artifact manifest, whose blobs become layers. The media type is the one
// inside the manifest, since the digest covers it, and not that of a header, which a registry may take from the last push.
// A manifest without one is OCI's, where alone the field is optional.
func decodeManifest(text []byte) (ocispec.Manifest, string, error) {
	s, err := shapeOf(text)
	if err != nil {
		return ocispec.Manifest{}, "", err
	}
	mediaType, err := typed(cmp.Or(s.MediaType, ocispec.MediaTypeImageManifest), s)
	if err != nil {
		return ocispec.Manifest{}, "", err
	}
	if mediaType != ocispec.MediaTypeImageManifest && mediaType != mediaTypeArtifactManifest {
		return ocispec.Manifest{}, "", fmt.Errorf("it has the media type %q; want %q", mediaType, ocispec.MediaTypeImageManifest)
	}
	var manifest struct {
		ocispec.Manifest
		Blobs []ocispec.Descriptor `json:"blobs"`
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		return ocispec.Manifest{}, "", fmt.Errorf("it is not JSON of a manifest: %w", err)
	}
	if mediaType == mediaTypeArtifactManifest {
		manifest.Layers = manifest.Blobs
	}
	for _, layer := range manifest.Layers {
		if layer.Size < 0 {
			return ocispec.Manifest{}, "", fmt.Errorf("its layer %s has the size %d", layer.Digest, layer.Size)
		}
	}
	return manifest.Manifest, mediaType, nil
}

// decodeIndex reads the first entries of an image index, or finds that a manifest is none.
func decodeIndex(text []byte, most int) (Index, error) {
	s, err := shapeOf(text)
	if err != nil {
		return Index{}, err
	}
	if s.Manifests == nil && s.MediaType != ocispec.MediaTypeImageIndex && s.MediaType != mediaTypeDockerList {
		return Index{}, nil
	}
	if _, err := typed(cmp.Or(s.MediaType, ocispec.MediaTypeImageIndex), s); err != nil {
		return Index{}, err
	}
	var entries []struct {
		entry
		Platform image.Platform `json:"platform"`
	}
	if s.Manifests != nil {
		if err := json.Unmarshal(s.Manifests, &entries); err != nil {
			return Index{}, fmt.Errorf("it has no list of manifests: %w", err)
		}
	}
	index := Index{IsIndex: true, Truncated: len(entries) > most}
	for _, e := range entries[:min(most, len(entries))] {
		index.Manifests = append(index.Manifests, Listed{Descriptor: ocispec.Descriptor{MediaType: e.MediaType, Digest: e.Digest, Size: e.Size}, Platform: e.Platform})
	}
	return index, nil
}

// entry is the part of a listed descriptor that is used. Annotations, which may be large, are not.
type entry struct {
	MediaType    string        `json:"mediaType"`
	Digest       digest.Digest `json:"digest"`
	Size         int64         `json:"size"`
	ArtifactType string        `json:"artifactType"`
}

// decodeList reads an image index as a list of referrers. The list may be null, as some registries write an empty one.
func decodeList(text []byte) ([]entry, error) {
	s, err := shapeOf(text)
	if err != nil {
		return nil, err
	}
	switch {
	case s.MediaType != "" && s.MediaType != ocispec.MediaTypeImageIndex:
		return nil, fmt.Errorf("it says that it is %q; want %q", s.MediaType, ocispec.MediaTypeImageIndex)
	case s.Manifests == nil:
		return nil, errors.New("it has no list of manifests")
	}
	var entries []entry
	if err := json.Unmarshal(s.Manifests, &entries); err != nil {
		return nil, fmt.Errorf("it has no list of manifests: %w", err)
	}
	for _, e := range entries {
		if err := validate(e.Digest); err != nil {
			return nil, fmt.Errorf("it lists a manifest with the digest %q: %w", e.Digest, err)
		}
	}
	return entries, nil
}
