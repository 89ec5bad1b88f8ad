package release

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"sigs.k8s.io/yaml"
)

// Media types of a chart as an OCI artifact.
// https://helm.sh/docs/topics/registries/#helm-chart-manifest
const (
	mediaChartConfig  = "application/vnd.cncf.helm.config.v1+json"
	mediaChartContent = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
)

// chartName is the chart's, and the folder's in its archive.
const chartName = "kyverno-notation-venafi"

// packedChart is a chart as it is released.
type packedChart struct {
	config  []byte // Chart.yaml as JSON
	archive []byte // .tgz
	meta    struct {
		Name, Version, Description, Home, AppVersion string
		Sources                                      []string
	}
}

// replacement is a line of a file of the chart that names the released image. It must stand there exactly once.
type replacement struct {
	line *regexp.Regexp
	by   string
}

// replacements are by file. They name the image by its digest, so that nobody who may push can replace it.
func replacements(options Options, digest string) map[string][]replacement {
	named := options.Repository + "@" + digest
	return map[string][]replacement{
		"Chart.yaml": {
			{regexp.MustCompile(`(?m)^appVersion: .*$`), "appVersion: " + options.Version},
			{regexp.MustCompile(`(?m)^( +image: )ghcr\.io/nirmata/kyverno-notation-venafi:.*$`), "${1}" + named},
		},
		"values.yaml": {
			{regexp.MustCompile(`(?m)^  repository: ghcr\.io/nirmata/kyverno-notation-venafi$`), "  repository: " + options.Repository},
			{regexp.MustCompile(`(?m)^  digest: ""$`), "  digest: " + digest},
		},
	}
}

func replaced(name string, text []byte, by []replacement) ([]byte, error) {
	for _, r := range by {
		if found := len(r.line.FindAllIndex(text, -1)); found != 1 {
			return nil, fmt.Errorf("%s has %d lines like %s, and must have one", name, found, r.line)
		}
		text = r.line.ReplaceAll(text, []byte(r.by))
	}
	return text, nil
}

// packChart packs config/chart as helm package does, with the same bytes each time.
func packChart(source Source, options Options, digest string) (*packedChart, error) {
	root, changes := filepath.Join(source.Dir, "config", "chart"), replacements(options, digest)
	var files []file
	packed := &packedChart{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error { // in lexical order
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if text, err = replaced(name, text, changes[name]); err != nil {
			return err
		}
		if name == "Chart.yaml" {
			err = packed.describe(text)
		}
		files = append(files, file{name: chartName + "/" + filepath.ToSlash(name), mode: 0o644, content: text})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("chart: %w", err)
	}
	packed.archive, err = compressed(files, source.Time)
	return packed, err
}

func (p *packedChart) describe(text []byte) (err error) {
	if p.config, err = yaml.YAMLToJSON(text); err != nil {
		return err
	}
	return json.Unmarshal(p.config, &p.meta)
}

// compressed makes a .tar.gz.
func compressed(files []file, at time.Time) ([]byte, error) {
	text, err := archive(files, at)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	if _, err := writer.Write(text); err != nil {
		return nil, err
	}
	err = writer.Close()
	return packed.Bytes(), err
}

// put stores the chart as an artifact that helm pull takes.
func (p *packedChart) put(ctx context.Context, into *layout, source Source) (ocispec.Descriptor, error) {
	config, content := described(mediaChartConfig, p.config), described(mediaChartContent, p.archive)
	if err := into.put(ctx, config, p.config); err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := into.put(ctx, content, p.archive); err != nil {
		return ocispec.Descriptor{}, err
	}
	return oras.PackManifest(ctx, into, oras.PackManifestVersion1_1, "", oras.PackManifestOptions{
		ConfigDescriptor: &config, Layers: []ocispec.Descriptor{content},
		ManifestAnnotations: map[string]string{
			ocispec.AnnotationCreated: source.Time.Format(time.RFC3339), ocispec.AnnotationTitle: p.meta.Name, ocispec.AnnotationVersion: p.meta.Version,
			ocispec.AnnotationDescription: p.meta.Description, ocispec.AnnotationURL: p.meta.Home, ocispec.AnnotationSource: SourceURL,
			ocispec.AnnotationRevision: source.Commit, ocispec.AnnotationLicenses: "Apache-2.0",
		},
	})
}
