package image

import "strings"

// parsePlain parses image names of the most frequent form without regular expressions: "registry/repository" with a tag, a
// digest or both, where registry is already canonical. It returns false for all other names; some of them are valid
// references too, so that the caller must parse them in full.
func parsePlain(name, registry string) (Reference, bool) {
	rest, ok := strings.CutPrefix(name, registry)
	if !ok || registry == dockerHub || registry[0] == '[' || rest == "" || rest[0] != '/' {
		return Reference{}, false
	}
	ref := Reference{Registry: registry}
	rest, ref.Digest, ok = strings.Cut(rest[1:], "@")
	if ok && !isSHA256(ref.Digest) {
		return Reference{}, false
	}
	ref.Repository, ref.Tag, ok = strings.Cut(rest, ":")
	switch {
	case ok && !isTag(ref.Tag):
		return Reference{}, false
	case ref.Tag == "" && ref.Digest == "":
		ref.Tag = "latest"
	}
	return ref, isRepository(ref.Repository)
}

func isSHA256(digest string) bool {
	hex, ok := strings.CutPrefix(digest, "sha256:")
	return ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}

// Bounds on the parts of a reference, as in github.com/distribution/reference; bytes.
const (
	maxRepository = 255
	maxTag        = 128
)

func isTag(tag string) bool {
	if tag == "" || len(tag) > maxTag || tag[0] == '.' || tag[0] == '-' {
		return false
	}
	for _, c := range []byte(tag) {
		if !isLowerOrDigit(c) && (c < 'A' || c > 'Z') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// isRepository checks the grammar of a repository: components separated by slashes, of lowercase letters and digits, with
// single separators between them: a period, one or two underscores, or hyphens.
func isRepository(path string) bool {
	if path == "" || len(path) > maxRepository || !isLowerOrDigit(path[len(path)-1]) {
		return false
	}
	since := -1 // index of the first byte after the last letter or digit
	for i := 0; i < len(path); i++ {
		if isLowerOrDigit(path[i]) {
			since = i + 1
			continue
		}
		if since < 0 || !isSeparator(path[since:i+1]) {
			return false // the path begins with a separator, or has two of them together
		}
	}
	return true
}

func isSeparator(s string) bool {
	return s == "/" || s == "." || s == "_" || s == "__" || strings.Trim(s, "-") == ""
}

func isLowerOrDigit(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
