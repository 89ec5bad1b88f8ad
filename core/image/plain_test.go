package image

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
)

// FuzzPlain holds that a name that is read without the library is read as the library does.
func FuzzPlain(f *testing.F) {
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	for _, repository := range []string{
		"acme/app", "a.b", "a..b", "a_b", "a__b", "a___b", "a---b", "a-.b", "-a", "a-", ".a", "a/", "/a", "a//b", "a/-b", "A", "", "ü", strings.Repeat("a/", 127) + "a", strings.Repeat("a/", 127) + "ab",
	} {
		for _, rest := range []string{"", ":v1", ":", ":_V.1-", ":.v", ":-v", ":" + strings.Repeat("v", 128), ":" + strings.Repeat("v", 129), ":v@" + digest, "@" + digest, "@" + digest[:70], "@sha512:" + digest, ":v:w", "@", "@" + digest + "@" + digest, "@" + strings.ToUpper(digest)} {
			f.Add("ghcr.io/" + repository + rest)
		}
	}
	for _, name := range []string{"localhost/app", "localhost:5000/app", "127.0.0.1:05000/app", "127.0.0.1:5000/app", "reg:443/app", "reg.example./app", "[::1]:5000/app", "docker.io/app", "ghcr.io:443/app"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		registry, err := registryOf(name)
		if err != nil {
			return
		}
		plain, ok := parsePlain(name, registry)
		if !ok {
			return
		}
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			t.Fatalf("%q is read as %+v, and is no reference: %v", name, plain, err)
		}
		if want := fromLibrary(named, registry); plain != want {
			t.Fatalf("%q is read as %+v, want %+v", name, plain, want)
		}
	})
}

// TestUsualNamesArePlain so that they need no regular expressions.
func TestUsualNamesArePlain(t *testing.T) {
	for _, name := range []string{"ghcr.io/acme/app:v1", "reg.example:5000/acme/web_app", "127.0.0.1:5000/app@sha256:" + strings.Repeat("a", 64)} {
		if _, ok := parsePlain(name, name[:strings.IndexByte(name, '/')]); !ok {
			t.Errorf("%s is left to the library", name)
		}
	}
}
