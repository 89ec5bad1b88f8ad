package core

import (
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Bounds on a request, beside the one on its size: the core repeats names for every image, and pointers for every pod spec.
const (
	maxDepth    = 100     // nesting of lists and objects
	maxKey      = 1024    // bytes, of an object's key
	maxShape    = 100_000 // lists, objects and commas: decoding takes time by their number and cannot be interrupted
	maxImages   = 1000    // images
	maxSpecs    = 1000    // pod specs in an object
	maxPointer  = 512     // bytes, of a pointer to a pod spec or to an image
	maxTypes    = 100     // attestation types
	maxPatterns = 1000    // of imageReferences

	maxPlatforms = 64 // entries of platforms
)

// boundShape refuses a body with lists and objects nested too deep, with very long keys, or with more values than any object
// that a cluster stores. It scans the text before it is decoded; whether the text is JSON is left to the decoder.
func boundShape(data []byte) error {
	depth, start := 0, -1 // start of the current string; -1 outside of strings
	var text int          // length of the last string, which is a key if a colon follows
	shape := 0            // lists, objects and commas
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case start >= 0 && c == '\\':
			i++
		case start >= 0 && c == '"':
			text, start = i-start-1, -1
		case start >= 0:
		case c == '"':
			start = i
		case c == ',':
			shape++
		case c == '{', c == '[':
			depth++
			shape++
		case c == '}', c == ']':
			depth--
		case c == ':' && text > maxKey:
			return invalid("", "the body has a key of %d bytes; at most %d are read", text, maxKey)
		}
		if depth > maxDepth {
			return invalid("", "the body nests lists and objects over a depth of %d; send the object as it is admitted", maxDepth)
		}
		if shape > maxShape {
			return invalid("", "the body has over %d lists, objects and commas; send one object, or the images of fewer", maxShape)
		}
	}
	return nil
}

// boundName refuses a name that is too long to be repeated for every image.
func boundName(field, name string) error {
	if len(name) > reason.MaxName {
		return invalid(field, "is %d bytes; a name has at most %d", len(name), reason.MaxName)
	}
	return nil
}
