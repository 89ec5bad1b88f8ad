//go:build e2e_image && linux

package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
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
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
)

var platforms = flag.String("platforms", "linux/amd64,linux/arm64", "what to build for")

const (
	repository = "../.."
	program    = "kyverno-notation-venafi"                               // in the image
	plugin     = "plugins/venafi-csp/notation-venafi-csp"                // in the image
	refusal    = "PLUGIN_SHA256 has not the checksum"                    // what is said of another plugin
	wantConfig = "65532:65532 [/kyverno-notation-venafi] [serve] v1.2.3" // user, entry point, command and version
)

// materials is what the image is made from, all on loopback.
type materials struct {
	registry *registrytest.Registry // of the base images; what is built is pushed there
	archives *httptest.Server       // of the plugin
	sums     string                 // of the archives
	modules  *httptest.Server       // proxy of Go modules: this machine's module cache
}

func newMaterials(t *testing.T) *materials {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("builders want root here, for mounts and chroots")
	}
	m := &materials{registry: registrytest.New(registrytest.Options{})}
	t.Cleanup(m.registry.Close)
	archives, sums := map[string][]byte{}, []string{}
	var index v1.ImageIndex = empty.Index
	for _, platform := range strings.Split(*platforms, ",") {
		_, architecture, _ := strings.Cut(platform, "/")
		archive := compressed(t, Pack(t, File{Name: "notation-venafi-csp", Mode: 0o755, Content: []byte(architecture)}))
		archives["/notation-venafi-csp-linux-"+architecture+".tar.gz"] = archive
		sums = append(sums, fmt.Sprintf("%x", sha256.Sum256(archive)))
		// In place of distroless. It has nothing but a file.
		base := Make(t, platform, v1.Config{}, File{Name: "etc/passwd", Mode: 0o644, Content: []byte("nonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n")})
		parsed, err := v1.ParsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: base, Descriptor: v1.Descriptor{Platform: parsed}})
	}
	m.sums = strings.Join(sums, " ")
	m.archives = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(archives[r.URL.Path]) }))
	t.Cleanup(m.archives.Close)
	if err := remote.WriteIndex(m.reference(t, "base"), index); err != nil {
		t.Fatal(err)
	}
	output(t, "go", "-C", repository, "mod", "download")
	m.modules = httptest.NewServer(http.FileServer(http.Dir(filepath.Join(output(t, "go", "env", "GOMODCACHE"), "cache", "download"))))
	t.Cleanup(m.modules.Close)
	m.pushGo(t)
	return m
}

func compressed(t *testing.T, text []byte) []byte {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := w.Write(text)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

// pushGo pushes an image of this machine's Go and a static busybox, in place of the golang image. Modules come from the proxy alone, and
// are held against go.sum: there is no database of checksums on loopback.
func (m *materials) pushGo(t *testing.T) {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("%v; on Debian: apt-get install --no-install-recommends busybox-static", err)
	}
	var packed bytes.Buffer
	archive := tar.NewWriter(&packed)
	add := func(header *tar.Header, content io.Reader) {
		if err := archive.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if content == nil {
			return
		}
		if _, err := io.Copy(archive, content); err != nil {
			t.Fatal(err)
		}
	}
	addFile := func(name, path string, info fs.FileInfo) {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		add(&tar.Header{Name: name, Mode: int64(info.Mode().Perm()), Size: info.Size()}, file)
	}
	for _, folder := range []string{"bin/", "root/", "tmp/", "usr/", "usr/local/"} {
		add(&tar.Header{Typeflag: tar.TypeDir, Name: folder, Mode: 0o777}, nil)
	}
	info, err := os.Stat(busybox)
	if err != nil {
		t.Fatal(err)
	}
	addFile("bin/busybox", busybox, info)
	for _, applet := range strings.Fields(output(t, busybox, "--list")) {
		if applet != "busybox" {
			add(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + applet, Linkname: "busybox", Mode: 0o777}, nil)
		}
	}
	goroot := output(t, "go", "env", "GOROOT")
	for _, folder := range []string{"bin", "pkg", "src", "lib", "go.env", "VERSION"} {
		err := filepath.WalkDir(filepath.Join(goroot, folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			info, err := os.Stat(path)
			if err == nil {
				addFile("usr/local/go/"+strings.TrimPrefix(path, goroot+"/"), path, info)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	image, err := mutate.ConfigFile(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), &v1.ConfigFile{
		OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers"}, Config: v1.Config{Env: []string{
			"PATH=/usr/local/go/bin:/bin", "GOPATH=/go", "HOME=/root", "GOTOOLCHAIN=local", "GOSUMDB=off", "GOFLAGS=-p=2", "GOPROXY=" + m.modules.URL,
		}},
	})
	if err == nil {
		image, err = mutate.AppendLayers(image, static.NewLayer(packed.Bytes(), types.OCIUncompressedLayer))
	}
	if err == nil {
		err = remote.Write(m.reference(t, "golang"), image)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// reference names an image in the registry.
func (m *materials) reference(t *testing.T, tag string) name.Reference {
	t.Helper()
	reference, err := name.ParseReference(m.registry.Host()+"/"+program+":"+tag, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return reference
}

// arguments are those of both builders for this machine's materials.
func (m *materials) arguments(t *testing.T) []string {
	t.Helper()
	return []string{
		"--build-arg=GO_IMAGE=" + m.reference(t, "golang").Name(), "--build-arg=BASE_IMAGE=" + m.reference(t, "base").Name(),
		"--build-arg=PLUGIN_RELEASE=" + m.archives.URL, "--build-arg=VERSION=v1.2.3",
	}
}

// holds looks at what is in the image: for every platform the same, and a program that runs.
func holds(t *testing.T, images []Image) {
	t.Helper()
	var found []string
	for _, i := range images {
		found = append(found, i.Platform.String())
		if said := fmt.Sprint(i.Config.User, " ", i.Config.Entrypoint, " ", i.Config.Cmd, " ", i.Config.Labels["org.opencontainers.image.version"]); said != wantConfig {
			t.Errorf("%s: %s", i.Platform, said)
		}
		if file, _ := i.File(plugin); string(file.Content) != i.Platform.Architecture || file.Mode.Perm() != 0o555 {
			t.Errorf("%s has the plugin of %q with mode %o", i.Platform, file.Content, file.Mode)
		}
		if machine := machineOf(t, i); machine != i.Platform.Architecture {
			t.Errorf("%s has the program of %s", i.Platform, machine)
		}
		if _, ok := i.File("etc/passwd"); !ok {
			t.Errorf("%s is not on the base image", i.Platform)
		}
	}
	slices.Sort(found)
	if strings.Join(found, ",") != *platforms {
		t.Errorf("the image is for %q", found)
	}
	file, _ := Ours(t, images).File(program)
	path := filepath.Join(t.TempDir(), program)
	if err := os.WriteFile(path, file.Content, 0o700); err != nil {
		t.Fatal(err)
	}
	if said := output(t, path, "version"); !strings.Contains(said, "v1.2.3") {
		t.Errorf("the program says %q", said)
	}
	t.Logf("the program has %d bytes", len(file.Content))
}

// machineOf is the architecture that the program was built for, as Go names it.
func machineOf(t *testing.T, i Image) string {
	t.Helper()
	file, _ := i.File(program)
	binary, err := elf.NewFile(bytes.NewReader(file.Content))
	if err != nil {
		t.Fatal(err)
	}
	names := map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_ARM: "arm"}
	return names[binary.Machine]
}

// digests are those of the images for each platform, sorted.
func digests(images []Image) string {
	var found []string
	for _, i := range images {
		found = append(found, i.Platform.String()+" "+i.Digest.String())
	}
	slices.Sort(found)
	return strings.Join(found, ", ")
}

func output(t *testing.T, program string, arguments ...string) string {
	t.Helper()
	said, err := exec.CommandContext(t.Context(), program, arguments...).Output()
	if err != nil {
		t.Fatalf("%s: %v", program, err)
	}
	return strings.TrimSpace(string(said))
}

// same holds that two builds gave the same digests.
func same(t *testing.T, one, two string) {
	t.Helper()
	if one != two {
		t.Errorf("one build gives %s, another %s", one, two)
	}
	t.Logf("both builds give %s", one)
}
