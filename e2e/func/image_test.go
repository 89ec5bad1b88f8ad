//go:build e2e && e2e_func && linux

package function

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
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
	index, err := remote.Index(reference)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	platforms := []string{}
	for _, m := range manifest.Manifests {
		platforms = append(platforms, m.Platform.String())
		image, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		layers, err := image.Layers()
		if err != nil {
			t.Fatal(err)
		}
		file, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if user, _, _ := strings.Cut(file.Config.User, ":"); user == "0" || user == "" || strings.Trim(user, "0123456789") != "" {
			t.Errorf("%s: user %q; runAsNonRoot wants a number", m.Platform, file.Config.User)
		}
		told, compressed := []string{}, int64(0)
		for _, layer := range layers {
			size, err := layer.Size()
			if err != nil {
				t.Fatal(err)
			}
			compressed += size
			held := files(t, layer)
			bytes := int64(0)
			for _, f := range held {
				bytes += f.Size
			}
			told = append(told, fmt.Sprintf("%d files from %s: %d bytes, %d compressed", len(held), held[0].Name, bytes, size))
		}
		t.Logf("%s: %s", m.Platform, strings.Join(told, "; "))
		if compressed > 32<<20 {
			t.Errorf("%s: the image has %d bytes", m.Platform, compressed)
		}
	}
	if slices.Sort(platforms); !slices.Equal(platforms, []string{"linux/amd64", "linux/arm/v7", "linux/arm64"}) {
		t.Errorf("platforms %v", platforms)
	}
}

// files are the regular files in a layer.
func files(t *testing.T, layer v1.Layer) (files []*tar.Header) {
	t.Helper()
	each(t, layer, func(header *tar.Header, _ io.Reader) {
		if header.Typeflag == tar.TypeReg {
			files = append(files, header)
		}
	})
	return files
}

func each(t *testing.T, layer v1.Layer, do func(*tar.Header, io.Reader)) {
	t.Helper()
	text, err := layer.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	for archive := tar.NewReader(text); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		header.Name = strings.TrimPrefix(header.Name, "/")
		do(header, archive)
	}
}

// pull gives the image for this machine, and the program of it as a file.
func pull(t *testing.T, reference string) (config v1.Config, program string) {
	t.Helper()
	parsed, err := name.NewDigest(reference)
	if err != nil {
		t.Fatalf("the image is not named by digest: %v", err)
	}
	image, err := remote.Image(parsed, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}))
	if err != nil {
		t.Fatal(err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(t.TempDir(), "f")
	each(t, layers[len(layers)-1], func(header *tar.Header, content io.Reader) {
		text, err := io.ReadAll(content)
		if header.Name != programFile || err != nil {
			t.Errorf("the last layer has %s; %v", header.Name, err)
			return
		}
		if err := os.WriteFile(program, text, header.FileInfo().Mode()); err != nil {
			t.Error(err)
		}
	})
	return file.Config, program
}

// buildsOnTheImageWithThePlugin builds the function on an image as the Dockerfile makes it, and expects plugin, environment and user
// of that beside the function's program.
func (u *user) buildsOnTheImageWithThePlugin(t *testing.T, command string) {
	base := u.pushImageWithThePlugin(t)
	u.follow(t, strings.ReplaceAll(command, "NAME@sha256:...", base))
	index, err := remote.Index(u.pushed(t, function))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 3 {
		t.Fatalf("%v, %+v", err, manifest)
	}
	for _, m := range manifest.Manifests {
		image, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		file, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if c := file.Config; c.User != "65532:65532" || !slices.Contains(c.Env, "PLUGINS_DIR=/plugins") || len(c.Entrypoint) > 0 || !slices.Equal(c.Cmd, []string{"/" + programFile}) {
			t.Errorf("%s: %+v", m.Platform, c)
		}
		layers, err := image.Layers()
		if err != nil {
			t.Fatal(err)
		}
		names := []string{}
		for _, layer := range layers {
			for _, f := range files(t, layer) {
				names = append(names, f.Name)
			}
		}
		if !slices.Contains(names, pluginFile) || !slices.Contains(names, programFile) {
			t.Errorf("%s: the image has only %d files", m.Platform, len(names))
		}
	}
}

const pluginFile = "plugins/venafi-csp/notation-venafi-csp"

// pushImageWithThePlugin pushes an image of one platform as the Dockerfile makes it, and gives its name with the digest.
func (u *user) pushImageWithThePlugin(t *testing.T) string {
	t.Helper()
	var text bytes.Buffer
	archive := tar.NewWriter(&text)
	content := []byte("the plugin")
	err := archive.WriteHeader(&tar.Header{Name: pluginFile, Mode: 0o555, Size: int64(len(content))})
	if err == nil {
		_, err = archive.Write(content)
	}
	if err := errors.Join(err, archive.Close()); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers"}, Config: v1.Config{
		Entrypoint: []string{"/kyverno-notation-venafi"}, Cmd: []string{"serve"}, Env: []string{"PLUGINS_DIR=/plugins"}, User: "65532:65532",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if image, err = mutate.AppendLayers(image, layer); err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	reference, err := name.NewDigest(u.host + "/with-plugin@" + digest.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(reference, image); err != nil {
		t.Fatal(err)
	}
	return reference.String()
}
