//go:build e2e && e2e_func && linux

package function

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/nirmata/kyverno-notation-venafi/e2e/image"
)

// programFile is the function in the image.
const programFile = "func/f"

// pushed is the image that func pushed for a repository, by the digest that it noted.
func (u *user) pushed(t *testing.T, repository string) name.Digest {
	t.Helper()
	noted, err := os.ReadFile(filepath.Join(u.clone, ".func/built-image"))
	if err != nil {
		t.Fatal(err)
	}
	digest, err := name.NewDigest(string(noted))
	if err != nil || digest.Context().Name() != u.host+"/"+repository {
		t.Fatalf("func noted %s; %v", noted, err)
	}
	return digest
}

// platforms looks at the image: every platform, each with what is in it.
func (u *user) platforms(t *testing.T, reference name.Digest) {
	t.Helper()
	platforms := []string{}
	for _, i := range image.Read(t, reference) {
		platforms = append(platforms, i.Platform.String())
		if user, _, _ := strings.Cut(i.Config.User, ":"); user == "0" || user == "" || strings.Trim(user, "0123456789") != "" {
			t.Errorf("%s: user %q; runAsNonRoot wants a number", i.Platform, i.Config.User)
		}
		told, compressed := []string{}, int64(0)
		for _, layer := range i.Layers {
			compressed += layer.Size
			bytes := 0
			for _, f := range layer.Files {
				bytes += len(f.Content)
			}
			told = append(told, fmt.Sprintf("%d files from %s: %d bytes, %d compressed", len(layer.Files), layer.Files[0].Name, bytes, layer.Size))
		}
		t.Logf("%s: %s", i.Platform, strings.Join(told, "; "))
		if compressed > 32<<20 {
			t.Errorf("%s: the image has %d bytes", i.Platform, compressed)
		}
	}
	if slices.Sort(platforms); !slices.Equal(platforms, []string{"linux/amd64", "linux/arm/v7", "linux/arm64"}) {
		t.Errorf("platforms %v", platforms)
	}
}

// pull gives the image for this machine, and the program of it as a file.
func pull(t *testing.T, reference string) (config v1.Config, program string) {
	t.Helper()
	parsed, err := name.NewDigest(reference)
	if err != nil {
		t.Fatalf("the image is not named by digest: %v", err)
	}
	ours := image.Ours(t, image.Read(t, parsed))
	last := ours.Layers[len(ours.Layers)-1].Files
	if len(last) != 1 || last[0].Name != programFile {
		t.Fatalf("the last layer has not %s alone, but %d files", programFile, len(last))
	}
	program = filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(program, last[0].Content, last[0].Mode.Perm()); err != nil {
		t.Fatal(err)
	}
	return ours.Config, program
}

// buildsOnTheImageWithThePlugin builds the function on an image as the Dockerfile makes it, and expects plugin, environment and user
// of that beside the function's program.
func (u *user) buildsOnTheImageWithThePlugin(t *testing.T, command string) {
	base := u.pushImageWithThePlugin(t)
	u.follow(t, strings.ReplaceAll(command, "NAME@sha256:...", base))
	images := image.Read(t, u.pushed(t, function))
	if len(images) != 3 {
		t.Fatalf("%d images", len(images))
	}
	for _, i := range images {
		if c := i.Config; c.User != "65532:65532" || !slices.Contains(c.Env, "PLUGINS_DIR=/plugins") || len(c.Entrypoint) > 0 || !slices.Equal(c.Cmd, []string{"/" + programFile}) {
			t.Errorf("%s: %+v", i.Platform, c)
		}
		for _, wanted := range []string{pluginFile, programFile} {
			if _, ok := i.File(wanted); !ok {
				t.Errorf("%s: the image has no %s", i.Platform, wanted)
			}
		}
	}
}

const pluginFile = "plugins/venafi-csp/notation-venafi-csp"

// pushImageWithThePlugin pushes an image of one platform as the Dockerfile makes it, and gives its name with the digest.
func (u *user) pushImageWithThePlugin(t *testing.T) string {
	t.Helper()
	made := image.Make(t, "linux/"+runtime.GOARCH, v1.Config{
		Entrypoint: []string{"/kyverno-notation-venafi"}, Cmd: []string{"serve"}, Env: []string{"PLUGINS_DIR=/plugins"}, User: "65532:65532",
	}, image.File{Name: pluginFile, Mode: 0o555, Content: []byte("the plugin")})
	digest, err := made.Digest()
	if err != nil {
		t.Fatal(err)
	}
	reference, err := name.NewDigest(u.host + "/with-plugin@" + digest.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(reference, made); err != nil {
		t.Fatal(err)
	}
	return reference.String()
}
