package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Image is an image for one platform, as a registry has it.
type Image struct {
	Platform v1.Platform
	Digest   v1.Hash
	Config   v1.Config
	Layers   []Layer // the lowest first
}

// Layer has the regular files of a layer in the order of its archive.
type Layer struct {
	Size  int64 // bytes, compressed
	Files []File
}

// File is one in an image. Its name is the path from the root, without a slash before it.
type File struct {
	Name    string
	Mode    fs.FileMode
	Content []byte
}

// File gives a file by its name, from the highest layer that has it.
func (i Image) File(name string) (File, bool) {
	found, ok := File{}, false
	for _, layer := range i.Layers {
		for _, file := range layer.Files {
			if file.Name == name {
				found, ok = file, true
			}
		}
	}
	return found, ok
}

// Read pulls the images of an index, in its order. What is no image for a platform, such as an attestation of BuildKit's, fails the test.
func Read(t *testing.T, reference name.Reference) []Image {
	t.Helper()
	index, err := remote.Index(reference)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	images := []Image{}
	for _, descriptor := range manifest.Manifests {
		if descriptor.Platform == nil || descriptor.Platform.OS != "linux" {
			t.Fatalf("%s has %s for %v", reference, descriptor.Digest, descriptor.Platform)
		}
		image, err := index.Image(descriptor.Digest)
		if err != nil {
			t.Fatal(err)
		}
		i, err := pulled(image)
		if err != nil {
			t.Fatalf("%s for %s: %v", reference, descriptor.Platform, err)
		}
		i.Platform, i.Digest = *descriptor.Platform, descriptor.Digest
		images = append(images, i)
	}
	return images
}

// Ours is the image for this machine.
func Ours(t *testing.T, images []Image) Image {
	t.Helper()
	for _, i := range images {
		if i.Platform.Architecture == runtime.GOARCH {
			return i
		}
	}
	t.Fatalf("no image for %s", runtime.GOARCH)
	return Image{}
}

func pulled(image v1.Image) (i Image, err error) {
	config, err := image.ConfigFile()
	if err != nil {
		return i, err
	}
	i.Config = config.Config
	layers, err := image.Layers()
	if err != nil {
		return i, err
	}
	for _, layer := range layers {
		l := Layer{}
		if l.Size, err = layer.Size(); err == nil {
			l.Files, err = files(layer)
		}
		if err != nil {
			return i, err
		}
		i.Layers = append(i.Layers, l)
	}
	return i, nil
}

func files(layer v1.Layer) (files []File, err error) {
	text, err := layer.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer text.Close()
	for archive := tar.NewReader(text); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			return nil, err
		}
		files = append(files, File{strings.TrimPrefix(header.Name, "/"), header.FileInfo().Mode(), content})
	}
}

// Make makes an image of one layer for a platform such as linux/arm64.
func Make(t *testing.T, platform string, config v1.Config, files ...File) v1.Image {
	t.Helper()
	parsed, err := v1.ParsePlatform(platform)
	if err != nil {
		t.Fatal(err)
	}
	packed := Pack(t, files...)
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed)), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: parsed.OS, Architecture: parsed.Architecture, Variant: parsed.Variant, Config: config, RootFS: v1.RootFS{Type: "layers"},
	})
	if err == nil {
		image, err = mutate.AppendLayers(image, layer)
	}
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// Pack gives a tar archive of files.
func Pack(t *testing.T, files ...File) []byte {
	t.Helper()
	var packed bytes.Buffer
	archive := tar.NewWriter(&packed)
	for _, file := range files {
		header := &tar.Header{Name: file.Name, Mode: int64(file.Mode.Perm()), Size: int64(len(file.Content))}
		if err := archive.WriteHeader(header); err != nil {
			t.Fatal(fmt.Errorf("%s: %w", file.Name, err))
		}
		if _, err := archive.Write(file.Content); err != nil {
			t.Fatal(fmt.Errorf("%s: %w", file.Name, err))
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}
