package release

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Options are what a release is made with, beside the commit. The zero value is not usable; see cmd/release for defaults.
type Options struct {
	Version         string        // such as v0.1.0
	Repository      string        // of the image
	ChartRepository string        // of the chart, with its name
	Platforms       []v1.Platform // in the order of the index
	Plugin          Plugin        // none goes into the image if not set
	Builder         string        // identifier of the builder for the provenance: a URI
	Key             Key
	Scan            bool   // look for known vulnerabilities, which differs from day to day
	Database        string // of vulnerabilities, a URL; "" is Go's own
	Log             io.Writer
}

// The folders and files of a release.
const (
	ImageLayout = "image" // OCI image layout
	ChartLayout = "chart"
	TrustDir    = "trust"
	DigestsFile = "digests.txt"    // the same each time
	SumsFile    = "checksums.txt"  // likewise
	SignedFile  = "signatures.txt" // differs
)

var versionForm = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$`)

// validate checks what would otherwise fail after minutes.
func (o Options) validate() error {
	switch {
	case !versionForm.MatchString(o.Version):
		return fmt.Errorf("the version is %q; use one such as v0.1.0", o.Version)
	case len(o.Platforms) == 0:
		return fmt.Errorf("name at least one platform")
	case !strings.Contains(o.Repository, "/") || !strings.Contains(o.ChartRepository, "/"):
		return fmt.Errorf("the repositories are %q and %q; name them with their registry", o.Repository, o.ChartRepository)
	case o.Builder == "":
		return fmt.Errorf("name the builder")
	}
	return nil
}

// maker makes one release.
type maker struct {
	source     Source
	options    Options
	dir        string
	chain      []*x509.Certificate
	image      *layout
	chart      *layout
	binaries   []Binary
	components [][]Component // by platform
	plugins    []*pluginArchive
	digests    []string // lines of DigestsFile
}

// Make makes a release of a source into a new folder.
func Make(ctx context.Context, source Source, options Options, dir string) error {
	if err := options.validate(); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	m := &maker{source: source, options: options, dir: dir}
	signing, chain, err := options.Key.open()
	if err != nil {
		return err
	}
	m.chain = chain
	if m.image, err = newLayout(ctx, filepath.Join(dir, ImageLayout), source.Time, signing); err != nil {
		return err
	}
	if m.chart, err = newLayout(ctx, filepath.Join(dir, ChartLayout), source.Time, signing); err != nil {
		return err
	}
	if err := m.build(ctx); err != nil {
		return err
	}
	index, images, err := m.images(ctx)
	if err != nil {
		return err
	}
	if err := m.attest(ctx, index, images); err != nil {
		return err
	}
	files, err := m.charted(ctx, index)
	if err != nil {
		return err
	}
	return m.write(files)
}

// build builds the program for all platforms, and learns what is in it.
func (m *maker) build(ctx context.Context) error {
	work, err := os.MkdirTemp("", "release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	bin := filepath.Join(m.dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return err
	}
	for _, platform := range m.options.Platforms {
		m.say("build %s", platform)
		binary, err := Build(ctx, m.source, m.options.Version, platform, bin)
		if err != nil {
			return err
		}
		components, err := Inventory(ctx, m.source, binary)
		if err != nil {
			return err
		}
		plugin, err := m.options.Plugin.fetch(ctx, platform.Architecture)
		if err != nil {
			return err
		}
		if plugin != nil {
			components = append(components, pluginComponent(plugin))
		}
		m.binaries, m.components, m.plugins = append(m.binaries, binary), append(m.components, union(components)), append(m.plugins, plugin)
	}
	return nil
}

func (m *maker) say(format string, args ...any) { fmt.Fprintf(m.options.Log, format+"\n", args...) }

// all are the components of all platforms.
func (m *maker) all() []Component { return union(m.components...) }

// images stores and signs the index and its images.
func (m *maker) images(ctx context.Context) (ocispec.Descriptor, []ocispec.Descriptor, error) {
	var made []platformImage
	var stored []ocispec.Descriptor
	for n, binary := range m.binaries {
		var plugin []byte
		if m.plugins[n] != nil {
			plugin = m.plugins[n].program
		}
		image, err := imageOf(binary, plugin, m.options, m.source)
		if err != nil {
			return ocispec.Descriptor{}, nil, err
		}
		descriptor, err := m.image.putImage(ctx, image)
		if err != nil {
			return ocispec.Descriptor{}, nil, err
		}
		made, stored = append(made, platformImage{binary.Platform, image}), append(stored, descriptor)
		if err := m.signed(ctx, m.image, "image "+binary.Platform.String(), descriptor); err != nil {
			return ocispec.Descriptor{}, nil, err
		}
	}
	index, err := indexOf(made, m.options, m.source)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	descriptor, err := m.image.putIndex(ctx, index)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	if err := m.signed(ctx, m.image, "image", descriptor); err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return descriptor, stored, m.image.Tag(ctx, descriptor, m.options.Version)
}

// signed signs a manifest and notes its digest.
func (m *maker) signed(ctx context.Context, in *layout, name string, manifest ocispec.Descriptor) error {
	m.digests = append(m.digests, fmt.Sprintf("%s  %s", manifest.Digest, name))
	return in.sign(ctx, name, manifest)
}

// attest attaches SBOMs, provenance and the scan to the index and to each of its images, and writes those of the index as files.
func (m *maker) attest(ctx context.Context, index ocispec.Descriptor, images []ocispec.Descriptor) error {
	vex, err := m.scanned(ctx)
	if err != nil {
		return err
	}
	subjects := []subject{{m.options.Repository, index.Digest.String()}}
	for n, image := range images {
		subjects = append(subjects, subject{m.options.Repository + " " + m.binaries[n].Platform.String(), image.Digest.String()})
	}
	statement, err := m.statement(subjects)
	if err != nil {
		return err
	}
	if err := m.attestOne(ctx, "image", index, m.all(), statement, vex, true); err != nil {
		return err
	}
	for n, image := range images {
		if err := m.attestOne(ctx, "image "+m.binaries[n].Platform.String(), image, m.components[n], statement, vex, false); err != nil {
			return err
		}
	}
	return nil
}

// scanned gives the scan's document; none where it is not wanted or its data cannot be had.
func (m *maker) scanned(ctx context.Context) ([]byte, error) {
	if !m.options.Scan {
		return nil, nil
	}
	document, missing, err := scan(ctx, m.source, m.options.Database)
	if missing != nil {
		m.say("no scan for vulnerabilities is attached, as their data cannot be had: %v", missing)
	}
	return document, err
}

// attestation is a document that is attached.
type attestation struct {
	name, artifactType, mediaType, file string
	document                            []byte
	differs                             bool // from day to day
}

func (m *maker) attestOne(ctx context.Context, name string, to ocispec.Descriptor, components []Component, statement, vex []byte, files bool) error {
	about := inImage{m.options.Repository, to.Digest.String(), m.options.Version, m.source.Time, components}
	cyclone, err := about.cycloneDX()
	if err != nil {
		return err
	}
	spdx, err := about.spdx()
	if err != nil {
		return err
	}
	for _, a := range []attestation{
		{"CycloneDX SBOM", TypeCycloneDX, TypeCycloneDX, "sbom.cdx.json", cyclone, false},
		{"SPDX SBOM", TypeSPDX, TypeSPDX, "sbom.spdx.json", spdx, false},
		{"provenance", TypeProvenance, mediaStatement, "provenance.intoto.json", statement, false},
		{"scan", TypeVEX, TypeVEX, "scan.openvex.json", vex, true},
	} {
		if a.document == nil {
			continue
		}
		if err := m.attached(ctx, m.image, name, to, a); err != nil {
			return err
		}
		if files {
			if err := m.file(a.file, a.document); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *maker) attached(ctx context.Context, in *layout, name string, to ocispec.Descriptor, a attestation) error {
	manifest, err := in.attach(ctx, name+", "+a.name, to, a.artifactType, a.mediaType, a.document)
	if err == nil && !a.differs {
		m.digests = append(m.digests, fmt.Sprintf("%s  %s, %s", manifest.Digest, name, a.name))
	}
	return err
}

func (m *maker) file(name string, content []byte) error {
	return os.WriteFile(filepath.Join(m.dir, name), content, 0o644)
}

// charted stores, attests and signs the chart, and gives the files that name the image.
func (m *maker) charted(ctx context.Context, index ocispec.Descriptor) (map[string][]byte, error) {
	packed, err := packChart(m.source, m.options, index.Digest.String())
	if err != nil {
		return nil, err
	}
	descriptor, err := packed.put(ctx, m.chart, m.source)
	if err != nil {
		return nil, err
	}
	if err := m.signed(ctx, m.chart, "chart", descriptor); err != nil {
		return nil, err
	}
	statement, err := m.statement([]subject{{m.options.ChartRepository, descriptor.Digest.String()}})
	if err != nil {
		return nil, err
	}
	if err := m.attached(ctx, m.chart, "chart", descriptor, attestation{name: "provenance", artifactType: TypeProvenance, mediaType: mediaStatement, document: statement}); err != nil {
		return nil, err
	}
	if err := m.chart.Tag(ctx, descriptor, packed.meta.Version); err != nil {
		return nil, err
	}
	files, err := manifestFiles(m.source, m.options, index.Digest.String())
	if err != nil {
		return nil, err
	}
	files[chartName+"-"+packed.meta.Version+".tgz"] = packed.archive
	files["chart-provenance.intoto.json"] = statement
	return files, nil
}

// write writes files, digests, checksums, signatures and trust.
func (m *maker) write(files map[string][]byte) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := m.file(name, files[name]); err != nil {
			return err
		}
	}
	if err := m.file(DigestsFile, []byte(strings.Join(m.digests, "\n")+"\n")); err != nil {
		return err
	}
	var signed strings.Builder
	for _, s := range slices.Concat(m.image.signed, m.chart.signed) {
		fmt.Fprintf(&signed, "%s  %s\n", s.digest, s.of)
	}
	if err := m.file(SignedFile, []byte(signed.String())); err != nil {
		return err
	}
	if err := writeTrust(filepath.Join(m.dir, TrustDir), m.chain, []string{m.options.Repository, m.options.ChartRepository}); err != nil {
		return err
	}
	return m.sums()
}

// sums writes the checksums of the files that are the same each time, as sha256sum reads them.
func (m *maker) sums() error {
	names, err := filepath.Glob(filepath.Join(m.dir, "*"))
	if err != nil {
		return err
	}
	binaries, err := filepath.Glob(filepath.Join(m.dir, "bin", "*"))
	if err != nil {
		return err
	}
	var lines strings.Builder
	for _, path := range slices.Sorted(slices.Values(slices.Concat(names, binaries))) {
		name, err := filepath.Rel(m.dir, path)
		if err != nil {
			return err
		}
		if info, err := os.Stat(path); err != nil || info.IsDir() || slices.Contains([]string{SignedFile, SumsFile, "scan.openvex.json"}, name) {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(&lines, "%x  %s\n", sha256.Sum256(content), filepath.ToSlash(name))
	}
	return m.file(SumsFile, []byte(lines.String()))
}
