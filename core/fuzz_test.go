package core_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core"
)

// FuzzParseRequest holds that any body is understood in full or refused in words, and that what is understood is
// in order.
func FuzzParseRequest(f *testing.F) {
	for _, path := range goldenPaths(f) {
		f.Add(readGolden(f, path).request)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		request, err := core.ParseRequest(body)
		if err != nil {
			var refused *core.RequestError
			if !errors.As(err, &refused) || refused.Code != core.RequestInvalid || refused.Text == "" {
				t.Fatalf("ParseRequest(%q) = %v, want a *RequestError", body, err)
			}
			return
		}
		plan, err := core.NewPlan(request, everything(), "default")
		if err != nil || len(plan.Images) != len(request.Images) {
			t.Fatalf("NewPlan(%q) plans %d of %d images: %v", body, len(plan.Images), len(request.Images), err)
		}
		inOrder(t, request.Images)
	})
}

// inOrder demands images in the order of their pointers, each of them once.
func inOrder(t *testing.T, images []core.Image) {
	t.Helper()
	for i := 1; i < len(images); i++ {
		if images[i-1].Pointer.Compare(images[i].Pointer) >= 0 {
			t.Fatalf("%s comes before %s", images[i-1].Pointer, images[i].Pointer)
		}
	}
}

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
		tokens, ok := resolveTokens(string(core.Pointer("").Field(a).Field(b).Index(7)))
		if !ok || !slices.Equal(tokens, []string{a, b, "7"}) {
			t.Fatalf("the tokens of %q, %q and 7 are %q", a, b, tokens)
		}
		x, y := core.Pointer(a), core.Pointer(b)
		if x.Compare(y) != -y.Compare(x) || (x.Compare(y) == 0) != (a == b) {
			t.Fatalf("%q compares %d with %q, which compares %d with it", a, x.Compare(y), b, y.Compare(x))
		}
	})
}

func parses(s string) bool {
	_, err := core.ParsePointer(s)
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
		ref, err := core.ParseReference(name)
		if err != nil {
			return
		}
		if ref.Registry == "" || ref.Repository == "" || ref.Tag == "" && ref.Digest == "" || ref.Registry != strings.ToLower(ref.Registry) {
			t.Fatalf("%q is %+v", name, ref)
		}
		again, err := core.ParseReference(ref.String())
		if err != nil || again != ref {
			t.Fatalf("%q is %+v, and its normal form %q is %+v: %v", name, ref, ref.String(), again, err)
		}
		runtimeAgrees(t, name, ref)
		if registry, err := core.CanonicalRegistry(ref.Registry); err != nil || registry != ref.Registry {
			t.Fatalf("the registry of %q is %q, and its canonical name is %q: %v", name, ref.Registry, registry, err)
		}
		pinned, err := core.ParseReference(ref.Pinned(digest))
		if err != nil || pinned.Name() != ref.Name() || pinned.Digest != digest || pinned.Tag != "" {
			t.Fatalf("%q is pinned to %+v: %v", name, pinned, err)
		}
	})
}

// FuzzObjectPointers holds that every pointer into an object points at just the text that was taken from there,
// and that no container of a pod spec is left out.
func FuzzObjectPointers(f *testing.F) {
	for _, path := range goldenPaths(f) {
		var request struct{ Object json.RawMessage }
		if json.Unmarshal(readGolden(f, path).request, &request) == nil && request.Object != nil {
			f.Add([]byte(request.Object))
		}
	}
	f.Add([]byte(`{"kind":"X","a/b~c":{"":{"spec":{"initContainers":[{"image":"a"}]}}}}`))
	f.Fuzz(func(t *testing.T, object []byte) {
		var document any
		if json.Unmarshal(object, &document) != nil {
			return
		}
		request, err := core.ParseRequest(slices.Concat([]byte(`{"object":`), object, []byte(`}`)))
		if err != nil {
			return
		}
		if len(request.Images) == 0 {
			t.Fatalf("%s gives no images and no error", object)
		}
		for _, image := range request.Images {
			if found := resolve(document, string(image.Pointer)); found != image.Written {
				t.Fatalf("%s: %s points at %v, want %q", object, image.Pointer, found, image.Written)
			}
		}
		inOrder(t, request.Images)
	})
}

// resolve finds what a JSON pointer points at, as RFC 6901 section 4 says; nil where there is nothing.
func resolve(document any, pointer string) any {
	tokens, ok := resolveTokens(pointer)
	if !ok {
		return nil
	}
	for _, token := range tokens {
		switch d := document.(type) {
		case map[string]any:
			document = d[token]
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(d) || strconv.Itoa(i) != token {
				return nil
			}
			document = d[i]
		default:
			return nil
		}
	}
	return document
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
