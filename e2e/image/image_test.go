//go:build e2e_image && linux

package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
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

	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
)

var (
	cache     = flag.String("cache", "", "folder of Go's build cache that all builds share; each has one of its own, if not set")
	platforms = flag.String("platforms", "linux/amd64,linux/arm64", "what to build for")
)

// The time of all files of the image (SOURCE_DATE_EPOCH).
const epoch = "1767225600"

// shop is a builder with what it builds from.
type shop struct {
	storage  []string // flags of buildah: storage of its own
	registry *registrytest.Registry
	files    *httptest.Server // of the plugin's archives
	sums     []string         // of the archives
}

func TestBuildahBuildsTheImage(t *testing.T) {
	s := open(t)
	first := s.build(t, "first", strings.Join(s.sums, " "))
	t.Run("for both platforms", func(t *testing.T) { holds(t, first) })
	t.Run("the same again", func(t *testing.T) {
		one, two := digests(t, first), digests(t, s.build(t, "second", strings.Join(s.sums, " ")))
		if one != two {
			t.Errorf("one build gives %s, another %s", one, two)
		}
		t.Logf("both builds give %s", one)
	})
	t.Run("not with another plugin", func(t *testing.T) {
		said, err := s.run(t.Context(), s.buildArguments(t, "third", strings.Repeat("0", 64))...)
		if err == nil || !strings.Contains(said, "PLUGIN_SHA256 has not the checksum") {
			t.Errorf("%v, %s", err, said)
		}
	})
}

// open makes the storage, the registry with the base image of the result, the plugin's archives and the image of Go.
func open(t *testing.T) *shop {
	t.Helper()
	if _, err := exec.LookPath("buildah"); err != nil {
		t.Fatalf("%v; on Debian: apt-get install --no-install-recommends buildah busybox-static", err)
	}
	dir := t.TempDir()
	s := &shop{
		storage:  []string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs"},
		registry: registrytest.New(registrytest.Options{}),
	}
	t.Cleanup(s.registry.Close)
	archives := map[string][]byte{}
	for _, platform := range strings.Split(*platforms, ",") {
		_, architecture, _ := strings.Cut(platform, "/")
		archive := pluginArchive(t, architecture)
		archives["/notation-venafi-csp-linux-"+architecture+".tar.gz"] = archive
		s.sums = append(s.sums, fmt.Sprintf("%x", sha256.Sum256(archive)))
	}
	s.files = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(archives[r.URL.Path]) }))
	t.Cleanup(s.files.Close)
	s.pushBase(t)
	s.importGo(t)
	return s
}

// pluginArchive is an archive as the plugin's releases have it.
func pluginArchive(t *testing.T, architecture string) []byte {
	t.Helper()
	var archive bytes.Buffer
	packed := gzip.NewWriter(&archive)
	files := tar.NewWriter(packed)
	err := files.WriteHeader(&tar.Header{Name: "notation-venafi-csp", Mode: 0o755, Size: int64(len(architecture))})
	if err == nil {
		_, err = io.WriteString(files, architecture)
	}
	if err := errors.Join(err, files.Close(), packed.Close()); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// pushBase pushes an index of images without anything but a file, in place of distroless.
func (s *shop) pushBase(t *testing.T) {
	t.Helper()
	var index v1.ImageIndex = empty.Index
	for _, platform := range strings.Split(*platforms, ",") {
		parsed, err := v1.ParsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(baseFiles(t))), nil })
		if err != nil {
			t.Fatal(err)
		}
		image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: parsed.OS, Architecture: parsed.Architecture, RootFS: v1.RootFS{Type: "layers"}})
		if err != nil {
			t.Fatal(err)
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: parsed}})
	}
	if err := remote.WriteIndex(s.reference(t, "base"), index); err != nil {
		t.Fatal(err)
	}
}

func baseFiles(t *testing.T) []byte {
	t.Helper()
	var text bytes.Buffer
	files := tar.NewWriter(&text)
	const accounts = "nonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n"
	err := files.WriteHeader(&tar.Header{Name: "etc/passwd", Mode: 0o644, Size: int64(len(accounts))})
	if err == nil {
		_, err = io.WriteString(files, accounts)
	}
	if err := errors.Join(err, files.Close()); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

// importGo makes an image of this machine's Go and a static busybox, in place of the golang image. Modules come from the module cache of
// this machine alone, which is filled first: the image has no certificates of proxies.
func (s *shop) importGo(t *testing.T) {
	t.Helper()
	output(t, "go", "mod", "download")
	goroot := output(t, "go", "env", "GOROOT")
	links := t.TempDir()
	for _, applet := range strings.Fields(output(t, "busybox", "--list")) {
		if applet == "busybox" {
			continue
		}
		if err := os.Symlink("busybox", filepath.Join(links, applet)); err != nil {
			t.Fatal(err)
		}
	}
	container := s.must(t, "from", "scratch")
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	s.must(t, "add", container, links, "/bin/")
	s.must(t, "add", container, busybox, "/bin/busybox")
	for _, folder := range []string{"bin", "pkg", "src", "lib", "go.env", "VERSION"} {
		s.must(t, "add", container, filepath.Join(goroot, folder), "/usr/local/go/"+folder)
	}
	for _, folder := range []string{"tmp", "root"} {
		s.must(t, "add", container, t.TempDir(), "/"+folder)
	}
	s.must(t, "config", "--env", "PATH=/usr/local/go/bin:/bin", "--env", "GOPATH=/go", "--env", "HOME=/root", "--env", "GOTOOLCHAIN=local", "--env", "GOPROXY=off", "--env", "GOFLAGS=-p=2", container)
	s.must(t, "commit", "--rm", container, "localhost/golang:local")
}

// build builds the image for all platforms, pushes it, and gives its name.
func (s *shop) build(t *testing.T, tag, sums string) name.Reference {
	t.Helper()
	s.must(t, s.buildArguments(t, tag, sums)...)
	reference := s.reference(t, tag)
	s.must(t, "manifest", "push", "--all", "--tls-verify=false", "localhost/built:"+tag, "docker://"+reference.Name())
	return reference
}

func (s *shop) buildArguments(t *testing.T, tag, sums string) []string {
	t.Helper()
	folder := *cache
	if folder == "" {
		folder = t.TempDir()
	}
	return []string{
		"bud", "--isolation=chroot", "--layers=false", "--timestamp=" + epoch, "--platform=" + *platforms, "--manifest=localhost/built:" + tag,
		"--tls-verify=false", "--build-arg=BUILDPLATFORM=linux/" + runtime.GOARCH, // buildah 1.28 does not say it itself
		"--build-arg=GO_IMAGE=localhost/golang:local", "--build-arg=BASE_IMAGE=" + s.reference(t, "base").Name(),
		"--build-arg=PLUGIN_RELEASE=" + s.files.URL, "--build-arg=PLUGIN_SHA256=" + sums, "--build-arg=VERSION=v1.2.3",
		"--volume=" + output(t, "go", "env", "GOMODCACHE") + ":/go/pkg/mod", "--volume=" + folder + ":/root/.cache/go-build",
		"../..",
	}
}

// holds looks at what is in the image.
func holds(t *testing.T, reference name.Reference) {
	t.Helper()
	index, err := remote.Index(reference)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, descriptor := range manifest.Manifests {
		found = append(found, descriptor.Platform.String())
		image, err := index.Image(descriptor.Digest)
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		c := config.Config
		if said := fmt.Sprint(c.User, c.Entrypoint, c.Cmd, c.Labels["org.opencontainers.image.version"]); said != "65532:65532[/kyverno-notation-venafi] [serve]v1.2.3" {
			t.Errorf("%s: %s", descriptor.Platform, said)
		}
		files := extracted(t, image)
		if plugin := string(files["plugins/venafi-csp/notation-venafi-csp"]); plugin != descriptor.Platform.Architecture {
			t.Errorf("%s has the plugin of %q", descriptor.Platform, plugin)
		}
		if descriptor.Platform.Architecture == runtime.GOARCH {
			runs(t, files["kyverno-notation-venafi"])
		}
	}
	slices.Sort(found)
	if strings.Join(found, ",") != *platforms {
		t.Errorf("the image is for %q", found)
	}
}

// extracted are the files of an image.
func extracted(t *testing.T, image v1.Image) map[string][]byte {
	t.Helper()
	stream := mutate.Extract(image)
	defer stream.Close()
	files := map[string][]byte{}
	for reader := tar.NewReader(stream); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[strings.TrimPrefix(header.Name, "/")], err = io.ReadAll(reader); err != nil {
			t.Fatal(err)
		}
	}
}

func runs(t *testing.T, program []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kyverno-notation-venafi")
	if err := os.WriteFile(path, program, 0o700); err != nil {
		t.Fatal(err)
	}
	if said := output(t, path, "help"); !strings.Contains(said, "kyverno-notation-venafi COMMAND") {
		t.Errorf("the program says %q", said)
	}
	t.Logf("the program has %d bytes", len(program))
}

// digests are those of the images for each platform. buildah 1.28 lists them in an index in any order, so that the digest of the index
// may differ.
func digests(t *testing.T, reference name.Reference) string {
	t.Helper()
	index, err := remote.Index(reference)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, descriptor := range manifest.Manifests {
		found = append(found, descriptor.Platform.String()+" "+descriptor.Digest.String())
	}
	slices.Sort(found)
	return strings.Join(found, ", ")
}

// reference names an image in the registry.
func (s *shop) reference(t *testing.T, tag string) name.Reference {
	t.Helper()
	reference, err := name.ParseReference(s.registry.Host()+"/image:"+tag, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return reference
}

// run runs buildah, and gives all that it says.
func (s *shop) run(ctx context.Context, arguments ...string) (string, error) {
	said, err := exec.CommandContext(ctx, "buildah", append(s.storage[:len(s.storage):len(s.storage)], arguments...)...).CombinedOutput()
	return strings.TrimSpace(string(said)), err
}

func (s *shop) must(t *testing.T, arguments ...string) string {
	t.Helper()
	said, err := s.run(t.Context(), arguments...)
	if err != nil {
		t.Fatalf("buildah %s: %v\n%s", strings.Join(arguments, " "), err, said)
	}
	return said
}

func output(t *testing.T, program string, arguments ...string) string {
	t.Helper()
	said, err := exec.CommandContext(t.Context(), program, arguments...).Output()
	if err != nil {
		t.Fatalf("%s: %v", program, err)
	}
	return strings.TrimSpace(string(said))
}
