package release

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// user is who the program runs as; numeric, so that runAsNonRoot can be checked.
const user = 65532

// file is an entry of a layer; a name that ends with a slash is a folder's.
type file struct {
	name    string
	mode    int64
	owner   int
	content []byte
}

// baseFiles are what the image has beside the program, in place of distroless: accounts, a folder for temporary files, and Mozilla's
// root certificates as golang.org/x/crypto has them, whose content go.sum pins.
func baseFiles() []file {
	var roots bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil { // which a file of certificates cannot express
			continue
		}
		_ = pem.Encode(&roots, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer takes all
	}
	return []file{
		{name: "etc/", mode: 0o755},
		{name: "etc/group", mode: 0o644, content: []byte("root:x:0:\nnonroot:x:65532:\n")},
		{name: "etc/passwd", mode: 0o644, content: []byte("root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n")},
		{name: "etc/ssl/", mode: 0o755},
		{name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, content: roots.Bytes()},
		{name: "home/", mode: 0o755},
		{name: "home/nonroot/", mode: 0o700, owner: user},
		{name: "plugins/", mode: 0o755},
		{name: "tmp/", mode: 0o1777},
	}
}

// archive writes files as a tar, all of one time, in the order given.
func archive(files []file, at time.Time) ([]byte, error) {
	var text bytes.Buffer
	writer := tar.NewWriter(&text)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: f.mode, Uid: f.owner, Gid: f.owner, Size: int64(len(f.content)), ModTime: at, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if f.name[len(f.name)-1] == '/' {
			header.Typeflag = tar.TypeDir
		}
		err := writer.WriteHeader(header)
		if err == nil {
			_, err = writer.Write(f.content)
		}
		if err != nil {
			return nil, err
		}
	}
	err := writer.Close()
	return text.Bytes(), err
}

// imageOf puts an image together: base, plugin if there is one, program.
func imageOf(binary Binary, plugin []byte, options Options, source Source) (v1.Image, error) {
	program, err := os.ReadFile(binary.Path)
	if err != nil {
		return nil, err
	}
	layers := [][]file{baseFiles()}
	if plugin != nil {
		layers = append(layers, []file{
			{name: "plugins/venafi-csp/", mode: 0o755},
			{name: "plugins/venafi-csp/notation-venafi-csp", mode: 0o555, content: plugin},
		})
	}
	layers = append(layers, []file{{name: "kyverno-notation-venafi", mode: 0o755, content: program}})
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	image, err = mutate.ConfigFile(image, configOf(binary.Platform, options, source))
	for _, files := range layers {
		if err != nil {
			return nil, err
		}
		image, err = appended(image, files, source.Time)
	}
	return image, err
}

func appended(image v1.Image, files []file, at time.Time) (v1.Image, error) {
	text, err := archive(files, at)
	if err != nil {
		return nil, err
	}
	opener := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
	layer, err := tarball.LayerFromOpener(opener, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	return mutate.Append(image, mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: at}, CreatedBy: "make release"}})
}

// configOf is the configuration that the Dockerfile gives.
func configOf(platform v1.Platform, options Options, source Source) *v1.ConfigFile {
	return &v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Architecture, Variant: platform.Variant,
		Created: v1.Time{Time: source.Time},
		RootFS:  v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User:         "65532:65532",
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt", "PLUGINS_DIR=/plugins"},
			ExposedPorts: map[string]struct{}{"8080/tcp": {}, "9443/tcp": {}},
			Entrypoint:   []string{"/kyverno-notation-venafi"},
			Cmd:          []string{"serve"},
			WorkingDir:   "/",
			Labels:       labels(options, source),
		},
	}
}

func labels(options Options, source Source) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       "kyverno-notation-venafi",
		"org.opencontainers.image.description": "Verifies Notation signatures and attestations of container images for Kyverno",
		"org.opencontainers.image.source":      SourceURL,
		"org.opencontainers.image.revision":    source.Commit,
		"org.opencontainers.image.version":     options.Version,
		"org.opencontainers.image.licenses":    "Apache-2.0",
	}
}

// indexOf lists the images by platform, in the order given.
func indexOf(images []platformImage, options Options, source Source) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, image := range images {
		platform := image.platform
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image.image, Descriptor: v1.Descriptor{Platform: &platform}})
	}
	annotated, ok := mutate.Annotations(index, labels(options, source)).(v1.ImageIndex)
	if !ok {
		return nil, errors.New("the index cannot be annotated")
	}
	return annotated, nil
}

// platformImage is the image for one platform.
type platformImage struct {
	platform v1.Platform
	image    v1.Image
}
