//go:build e2e_image && linux

package image

import (
	"context"
	"flag"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

var cache = flag.String("cache", "", "folder of Go's build cache that all builds share; each has one of its own, if not set")

// The time of all files of the image (SOURCE_DATE_EPOCH).
const epoch = "1767225600"

// buildah builds with storage of its own.
type buildah struct {
	*materials
	storage []string // flags
}

func TestBuildahBuildsTheImage(t *testing.T) {
	m := newMaterials(t)
	if _, err := exec.LookPath("buildah"); err != nil {
		t.Skipf("%v; on Debian: apt-get install --no-install-recommends buildah", err)
	}
	dir := t.TempDir()
	b := &buildah{m, []string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs"}}
	first := b.build(t, "first")
	t.Run("for both platforms", func(t *testing.T) { holds(t, first) })
	t.Run("the same again", func(t *testing.T) {
		// buildah 1.28 lists the platforms in an index in any order, so that the digest of the index may differ.
		same(t, digests(first), digests(b.build(t, "second")))
	})
	t.Run("not with another plugin", func(t *testing.T) {
		said, err := b.run(t.Context(), b.arguments(t, "third", strings.Repeat("0", 64))...)
		if err == nil || !strings.Contains(said, refusal) {
			t.Errorf("%v, %s", err, said)
		}
	})
}

// build builds the image for all platforms, pushes it, and pulls it.
func (b *buildah) build(t *testing.T, tag string) []Image {
	t.Helper()
	b.must(t, b.arguments(t, tag, b.sums)...)
	b.must(t, "manifest", "push", "--all", "--tls-verify=false", "localhost/built:"+tag, "docker://"+b.reference(t, tag).Name())
	return Read(t, b.reference(t, tag))
}

// arguments have this machine's module cache instead of the proxy, since storage vfs copies what is in each layer.
func (b *buildah) arguments(t *testing.T, tag, sums string) []string {
	t.Helper()
	folder := *cache
	if folder == "" {
		folder = t.TempDir()
	}
	return append([]string{
		"bud", "--isolation=chroot", "--layers=false", "--timestamp=" + epoch, "--platform=" + *platforms, "--manifest=localhost/built:" + tag,
		"--tls-verify=false", "--build-arg=BUILDPLATFORM=linux/" + runtime.GOARCH, // buildah 1.28 does not say it itself
		"--volume=" + output(t, "go", "env", "GOMODCACHE") + ":/go/pkg/mod", "--volume=" + folder + ":/root/.cache/go-build", "--build-arg=PLUGIN_SHA256=" + sums,
	}, append(b.materials.arguments(t), repository)...)
}

// run runs buildah, and gives all that it says.
func (b *buildah) run(ctx context.Context, arguments ...string) (string, error) {
	said, err := exec.CommandContext(ctx, "buildah", append(b.storage[:len(b.storage):len(b.storage)], arguments...)...).CombinedOutput()
	return strings.TrimSpace(string(said)), err
}

func (b *buildah) must(t *testing.T, arguments ...string) {
	t.Helper()
	if said, err := b.run(t.Context(), arguments...); err != nil {
		t.Fatalf("buildah %s: %v\n%s", strings.Join(arguments, " "), err, said)
	}
}
