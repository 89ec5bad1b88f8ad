package image_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
)

// FuzzPointer holds that what ParsePointer accepts is a pointer, that names survive it, and that pointers have
// one order.
func FuzzPointer(f *testing.F) {
	for _, s := range []string{"/spec/containers/0/image", "/a~1b/~0", "", "/", "//", "/~", "/~2", "/~01", "/10", "/9", "/010", "/99999999999", "/-1", "/a/"} {
		for _, other := range []string{"/spec/containers/10/image", "/a", "/9/b", "x/y~z"} {
			f.Add(s, other)
		}
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if tokens, ok := resolveTokens(a); ok != parses(a) {
			t.Fatalf("ParsePointer accepts %q: %t, and its tokens are %q, %t", a, parses(a), tokens, ok)
		}
		tokens, ok := resolveTokens(string(image.Pointer("").Field(a).Field(b).Index(7)))
		if !ok || !slices.Equal(tokens, []string{a, b, "7"}) {
			t.Fatalf("the tokens of %q, %q and 7 are %q", a, b, tokens)
		}
		x, y := image.Pointer(a), image.Pointer(b)
		if x.Compare(y) != -y.Compare(x) || (x.Compare(y) == 0) != (a == b) {
			t.Fatalf("%q compares %d with %q, which compares %d with it", a, x.Compare(y), b, y.Compare(x))
		}
	})
}

func parses(s string) bool {
	_, err := image.ParsePointer(s)
	return err == nil
}

// FuzzReference holds that what a reference normalises to is a fixed point, can be pinned, and is what a container
// runtime pulls by the name.
func FuzzReference(f *testing.F) {
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	for _, s := range []string{
		"nginx", "nginx:1.27", "docker.io/nginx", "index.docker.io/library/nginx", "ghcr.io/acme/app:v1", "GHCR.IO/acme/app",
		"localhost/app", "localhost:5000/app:v1@" + digest, "app@" + digest, "[::1]:5000/app", "a/b/c/d", "A", "a:b:c", "A/0", "LOCALHOST/app", "DOCKER.io/nginx", "", "@", ":", strings.Repeat("a", 64), "ghcr.io:443/acme/app",
		"ghcr.io:0443/acme/app", "registry-1.docker.io/nginx", "registry.hub.docker.com:443/library/nginx", "[0:0::1]:05000/app", "[::ffff:a00:1]/app",
		"10.0.0.1:5000/app", "127.1/app", "0x7f.1/app", "my_reg.example/app", "reg.example./app", "reg:443/app", "REG:0443/app", digest,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		ref, err := image.Parse(name)
		if err != nil {
			return
		}
		if ref.Registry == "" || ref.Repository == "" || ref.Tag == "" && ref.Digest == "" || ref.Registry != strings.ToLower(ref.Registry) {
			t.Fatalf("%q is %+v", name, ref)
		}
		again, err := image.Parse(ref.String())
		if err != nil || again != ref {
			t.Fatalf("%q is %+v, and its normal form %q is %+v: %v", name, ref, ref.String(), again, err)
		}
		runtimeAgrees(t, name, ref)
		if registry, err := image.CanonicalRegistry(ref.Registry); err != nil || registry != ref.Registry {
			t.Fatalf("the registry of %q is %q, and its canonical name is %q: %v", name, ref.Registry, registry, err)
		}
		pinned, err := image.Parse(ref.Pinned(digest))
		if err != nil || pinned.Name() != ref.Name() || pinned.Digest != digest || pinned.Tag != "" {
			t.Fatalf("%q is pinned to %+v: %v", name, pinned, err)
		}
	})
}

// resolveTokens reads a pointer by the grammar of RFC 6901 section 3, character by character.
func resolveTokens(pointer string) (tokens []string, ok bool) {
	for i := 0; i < len(pointer); i++ {
		switch {
		case pointer[i] == '/':
			tokens = append(tokens, "")
		case len(tokens) == 0:
			return nil, false
		case pointer[i] != '~':
			tokens[len(tokens)-1] += pointer[i : i+1]
		case i+1 < len(pointer) && (pointer[i+1] == '0' || pointer[i+1] == '1'):
			i++
			tokens[len(tokens)-1] += map[byte]string{'0': "~", '1': "/"}[pointer[i]]
		default:
			return nil, false
		}
	}
	return tokens, len(tokens) > 0
}
